"""How is an arm found that was added when the others are known well?

A bandit that has settled tries it as seldom as any other; greedy ones would need thousands of requests. So the arm that
has answered least has a share of its own until it has answered often enough, as long as it may be the best one.
"""

from collections.abc import Sequence

import numpy as np

from echo_proxy.policy import Newcomer
from echo_proxy.types import Estimates, Vector

_DEVIATIONS = 2.0
"""An arm whose mean would have to lie further above what is believed, to be the best, is not pushed.
# guess, not yet measured"""
_PATIENCE = 2.0
"""How much longer than expected an arm is pushed that does not get its answers, because it fails or others are new
besides. # guess, not yet measured"""


def newcomers(
    seen: Estimates,
    n_answers: Sequence[float],
    n_offered: Sequence[float],
    n_before: Sequence[float],
    rules: Newcomer,
) -> Sequence[int]:
    """Indices of the arms that have the share: one, or several that answered equally often.

    Args:
        seen: what is believed of each arm, everything taken that is to be taken.
        n_answers: of each arm so far, shape (n_arms,).
        n_offered: requests in which each arm could be drawn, shape (n_arms,): one that is seldom drawn is not new.
        n_before: answers of the best known arm before each could be drawn, shape (n_arms,): what was there from the
            start and has answered seldom since is known to the bandit, not new.
    """
    if max(n_before) < rules.others * rules.until or min(n_answers) >= rules.until:
        return ()
    until_offered = _PATIENCE * rules.until / rules.share
    hopes = (seen.means + _DEVIATIONS * seen.deviations).tolist()  # (n_arms,)
    best = float(seen.means.max())
    may_be = [
        i
        for i, (n, offered, before) in enumerate(zip(n_answers, n_offered, n_before, strict=True))
        if before >= rules.others * rules.until and n < rules.until and offered < until_offered and hopes[i] >= best
    ]
    least = min((n_answers[i] for i in may_be), default=0.0)
    return [i for i in may_be if n_answers[i] <= least]


def with_newcomers(pmf: Vector, indices: Sequence[int], share: float) -> Vector:
    """Probabilities of which these arms have a share in advance, shape (n_arms,); unchanged when there are none."""
    if not indices:
        return pmf
    mixed = (1.0 - share) * pmf
    mixed[list(indices)] += share / len(indices)
    return np.asarray(mixed)
