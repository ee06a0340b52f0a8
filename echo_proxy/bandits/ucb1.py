"""Take the arm that could still be the best."""

from dataclasses import dataclass
from math import isfinite, log

import numpy as np

from echo_proxy.bandits.evidence import NEGLIGIBLE_WEIGHT, check_estimates
from echo_proxy.bandits.ties import share_of_best
from echo_proxy.types import Estimates, Vector


@dataclass(frozen=True, slots=True)
class Ucb1:
    """Takes the arm with the highest upper confidence bound; ties share."""

    width: float = 1.0
    """Exploration width, at least 0; 1 is the paper's, 0 is greedy once every arm has been tried."""

    def __post_init__(self) -> None:
        if not (isfinite(self.width) and self.width >= 0.0):
            raise ValueError(f"width must be finite and at least 0, got {self.width}")

    def pmf(self, seen: Estimates) -> Vector:
        """Probabilities, shape (n_arms,): one for the highest bound, shared by ties, zero for all others.

        Raises:
            ValueError: the estimates are not usable.
        """
        check_estimates(seen)
        return share_of_best(upper_bounds(seen.weights, seen.means, self.width))


def upper_bounds(weights: Vector, means: Vector, width: float) -> Vector:
    """Upper confidence bound of each arm's expected reward, shape (n_arms,), in reward units.

    `mean + width * sqrt(2 ln N / n)`, where n is the arm's weight and N the weight of all arms. An arm without
    evidence has an infinite bound.

    Source: Auer, Cesa-Bianchi and Fischer 2002, Figure 1 (UCB1), https://doi.org/10.1023/A:1013689704352
    """
    # Weights are fractions of observations, so N may be below 1, where the logarithm would be negative.
    log_total = log(max(float(weights.sum()), 1.0))
    is_tried = weights > NEGLIGIBLE_WEIGHT  # (n_arms,)
    bonus = width * np.sqrt(2.0 * log_total / np.where(is_tried, weights, 1.0))  # (n_arms,)
    return np.where(is_tried, means + bonus, np.inf)
