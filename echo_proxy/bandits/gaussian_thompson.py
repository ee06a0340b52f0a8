"""Draw every arm as often as it would be the best, when beliefs are normal."""

from dataclasses import dataclass
from math import isfinite

import numpy as np

from echo_proxy.bandits.chance_of_best import EDGES_IN_DEVIATIONS, chances_of_best, points_of
from echo_proxy.bandits.evidence import check_estimates
from echo_proxy.types import Estimates, Vector

LEAST_DEVIATION = 1e-9
"""An arm known better than this, relative to the largest mean, counts as known just so well: arms without any
deviation then need no case of their own, and equal ones share."""


@dataclass(frozen=True, slots=True)
class GaussianThompson:
    """Thompson sampling with the probabilities computed instead of drawn; with a linear posterior, linear Thompson."""

    width: float = 1.0
    """Factor on the deviations, at least 0; 1 is Bayes, 0 is greedy."""
    calm_after: float = 0.0
    """Evidence weight after which an arm's factor is half way from 1 to `width`, at least 0; 0 = at once."""

    def __post_init__(self) -> None:
        for name, value in (("width", self.width), ("calm_after", self.calm_after)):
            if not (isfinite(value) and value >= 0.0):
                raise ValueError(f"{name} must be finite and at least 0, got {value}")

    def pmf(self, seen: Estimates) -> Vector:
        """P(the arm's mean is the highest), shape (n_arms,), each mean independently normal.

        Raises:
            ValueError: the estimates are not usable.

        Source: Agrawal and Goyal 2013, Algorithm 1, https://arxiv.org/abs/1209.3352; there the coefficients are drawn,
        which for disjoint arms makes the means at a context independent and normal
        """
        check_estimates(seen)
        return gaussian_chances(seen.means, self.widths(seen.weights) * seen.deviations)

    def widths(self, weights: Vector) -> Vector:
        """Factor on each arm's deviation, shape (n_arms,): width + (1 - width) * calm_after / (calm_after + weight).

        Posteriors of rewards are too wide for what a wrong choice costs once an arm is known, but right for a new one.

        Args:
            weights: evidence weight per arm, shape (n_arms,), at least 0.
        """
        if self.calm_after == 0.0:
            return np.full(weights.shape, self.width)
        return np.asarray(self.width + (1.0 - self.width) * self.calm_after / (self.calm_after + weights))


def gaussian_chances(means: Vector, deviations: Vector) -> Vector:
    """P(the arm is the highest) of independent normal values, shape (n_arms,), sums to 1.

    Args:
        means: shape (n_arms,).
        deviations: shape (n_arms,), at least 0.
    """
    least = LEAST_DEVIATION * max(1.0, float(np.abs(means).max()))
    spreads = np.maximum(deviations, least)  # (n_arms,)
    edges = np.unique(means[:, None] + spreads[:, None] * EDGES_IN_DEVIATIONS)  # (n_cells + 1,)
    points = points_of(edges)  # (n_cells, N_POINTS)
    distances = (points - means[:, None, None]) / spreads[:, None, None]  # (n_arms, n_cells, N_POINTS)
    return chances_of_best(-0.5 * distances**2, edges)
