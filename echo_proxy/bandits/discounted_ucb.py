"""Take the arm that could be the best by now, when old evidence has faded?"""

from dataclasses import dataclass
from math import isfinite, log

import numpy as np

from echo_proxy.bandits.evidence import NEGLIGIBLE_WEIGHT, check_estimates
from echo_proxy.bandits.ties import share_of_best
from echo_proxy.types import Estimates, Vector


@dataclass(frozen=True, slots=True)
class DiscountedUcb:
    """Takes the arm with the highest upper confidence bound on faded evidence; ties share.

    The bandit keeps no state, so the fading is the caller's: weights must have faded with every observation of any
    arm (see `fading.py`). An arm that is left alone then loses weight and is tried again.
    """

    xi: float = 0.6
    """Exploration, at least 0; the regret bound needs more than 1/2, which is UCB1's bound.
    # guess, not yet measured"""
    bound: float = 1.0
    """B, the largest reward, above 0."""

    def __post_init__(self) -> None:
        if not (isfinite(self.xi) and self.xi >= 0.0):
            raise ValueError(f"xi must be finite and at least 0, got {self.xi}")
        if not (isfinite(self.bound) and self.bound > 0.0):
            raise ValueError(f"bound must be finite and above 0, got {self.bound}")

    def pmf(self, seen: Estimates) -> Vector:
        """Probabilities, shape (n_arms,): one for the highest bound, shared by ties, zero for all others.

        Raises:
            ValueError: the estimates are not usable.
        """
        check_estimates(seen)
        return share_of_best(discounted_bounds(seen.weights, seen.means, self.xi, self.bound))


def discounted_bounds(weights: Vector, means: Vector, xi: float, bound: float) -> Vector:
    """Upper confidence bound of each arm's present reward, shape (n_arms,), in reward units.

    `mean + 2 B sqrt(xi ln n / N)`, where N is the arm's faded weight and n that of all arms. An arm without evidence
    has an infinite bound.

    Args:
        weights: faded evidence weight per arm, shape (n_arms,), at least 0.
        means: mean of the faded rewards, shape (n_arms,).
        xi: exploration, at least 0.
        bound: B, the largest reward.

    Source: Garivier and Moulines 2011, section 3 (D-UCB), https://arxiv.org/abs/0805.3415
    """
    # Faded weights may add up to less than 1, where the logarithm would be negative.
    log_total = log(max(float(weights.sum()), 1.0))
    is_tried = weights > NEGLIGIBLE_WEIGHT  # (n_arms,)
    padding = 2.0 * bound * np.sqrt(xi * log_total / np.where(is_tried, weights, 1.0))  # (n_arms,)
    return np.where(is_tried, means + padding, np.inf)
