"""Would the caller's opinion teach much? It would where the arms are close."""

from collections.abc import Sequence

import numpy as np

from echo_proxy.policy import SolicitPolicy
from echo_proxy.types import Vector


def invites_feedback(pmf: Sequence[float] | Vector, floor: float, rules: SolicitPolicy) -> bool:
    """Whether the arms' probabilities, without the exploration floor, lie close together.

    IC-Cache (arXiv 2501.12689) asks where the router's confidences have a standard deviation below 0.1. With one arm
    there is nothing to learn. A greedy bandit gives the best arm everything however close the others are, so it never
    asks; those that draw by what they believe (softmax, Thompson) do.

    Args:
        pmf: probabilities, shape (n_arms,), floor included.
        floor: least probability of every arm, as given to `with_floor`.
    """
    rest = 1 - len(pmf) * floor
    if len(pmf) < 2:
        return False
    if rest <= 0:
        return True
    return bool(np.std((np.asarray(pmf) - floor) / rest) < rules.below)
