"""How often must a model be asked all the same, so that wrong stored answers stay within the bound?

vCache (arXiv 2502.03771) asks a model with probability tau and serves the stored answer else. Wrong ones are served
with (1 - tau) * P(wrong), so tau >= 1 - max_error / (1 - a) keeps them within max_error where a is no more than
P(right). The paper takes for a the best of (1 - eps) * L(eps) over eps, L(eps) a bound that P(right) exceeds with
confidence 1 - eps, from a logistic fit and the normal approximation of its threshold's error.

Here a comes from the posterior over logistic curves (`curves.py`). Its mean is the least cautious of all such a:
E[p] >= (1 - eps) * L(eps) for every eps, and it is what counts, because the bound speaks of a share of requests and
averages over what is not known. Six answers that were all right, or all at one distance, are no special case, where a
fitted slope would be infinite and its error meaningless.

The prior is chosen so that the bound holds for every single curve, not only on average over curves (`curves.py`), but
exactly only as long as what was observed does not decide how much is observed. It does: an example that was lucky is
served, and served answers bring no observations. `CAUTION` pays for that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from echo_proxy.answers.curves import bin_of, curves, likelihoods
from echo_proxy.policy_keeping import AnswersPolicy
from echo_proxy.types import Observation, Vector

CAUTION = 1.3
"""Factor on the chance of a wrong answer. Measured with `python -m bench.keeping.answers_bound`: with 1 the error of
the worst of 21 true curves (a dent) is 1.22 times the bound, with 1.3 it is 0.98 times."""
LEAST_RIGHT = 0.5
"""An answer that is more likely wrong than right is not served at all, though the bound would let a few through."""
LEAST_EXPLORING = 0.02
"""A model is asked at least so often, so that an answer which has become wrong is found out. Costs as many hits.
# guess, not yet measured"""


@dataclass(frozen=True, slots=True)
class Proof:
    """What observations say of an example's answer to a request."""

    explore_chance: float
    """P(a model must be asked all the same), [0, 1]."""
    wrong_chance: float
    """Of the stored answer, caution included, [0, 1]."""
    n_right: int
    n_observed: int


def proof(
    observations: Sequence[Observation], distance: float, rules: AnswersPolicy, weights: Vector | None = None
) -> Proof:
    """How often a model must be asked at a distance from an example.

    Args:
        observations: of that example.
        distance: of the request, [0, 2].
        rules: the bound, and how many observations it takes.
        weights: of the curves before these observations, shape (n_curves,), sum 1; None = nothing is known.

    Returns:
        The chance is 1 with fewer than `rules.min_observations`; with more it never grows with `rules.max_error`, and
        never falls at a distance where one more wrong answer was observed.

    Source: Schroeder et al. 2025 (vCache), section 4, https://arxiv.org/abs/2502.03771
    """
    wrong = wrong_chance(observations, distance, weights)
    n_right = sum(one.is_correct for one in observations)
    chance = 1.0 if len(observations) < rules.min_observations else explore_chance(wrong, rules.max_error)
    return Proof(chance, wrong, n_right, len(observations))


def wrong_chance(observations: Sequence[Observation], distance: float, weights: Vector | None = None) -> float:
    """Chance that the answer is wrong at a distance, caution included, [0, 1]; arguments as in `proof`."""
    known = curves()
    posterior = (known.prior if weights is None else weights) * likelihoods(observations)  # (n_curves,)
    right = float(posterior @ known.right[bin_of(distance)]) / float(posterior.sum())
    return min(CAUTION * max(1 - right, 0.0), 1.0)


def explore_chance(wrong: float, max_error: float) -> float:
    """Least chance of asking a model that keeps the bound when the stored answer is wrong with a given chance."""
    if 1 - wrong < LEAST_RIGHT:
        return 1.0
    return max(1 - max_error / max(wrong, 1e-12), LEAST_EXPLORING)
