"""Draw every arm as often as it would be the best, when beliefs are Beta distributions."""

from dataclasses import dataclass

import numpy as np

from echo_proxy.bandits.chance_of_best import EDGES_IN_DEVIATIONS, chances_of_best, points_of
from echo_proxy.bandits.evidence import check_estimates
from echo_proxy.types import Estimates, Vector

LEAST_COUNT = 0.5
"""Each of a and b is at least this (Jeffreys' prior), so that an arm that only ever failed, or of which nothing is
known, still has a proper belief without infinite densities in the angle that is integrated over."""

MOST_WEIGHT = 1e8
"""Evidence beyond this counts as this much: means are then known to 5e-5, and float64 still holds the density."""


@dataclass(frozen=True, slots=True)
class BetaThompson:
    """Thompson sampling for rewards in [0, 1], with the probabilities computed instead of drawn."""

    def pmf(self, seen: Estimates) -> Vector:
        """P(the arm's mean is the highest), shape (n_arms,), each mean from Beta(mean * weight, (1 - mean) * weight).

        Means outside [0, 1] count as the nearer end.

        Raises:
            ValueError: the estimates are not usable.

        Source: Chapelle and Li 2011, Algorithm 2, https://papers.nips.cc/paper/4321
        """
        check_estimates(seen)
        weights = np.minimum(seen.weights, MOST_WEIGHT)  # (n_arms,)
        successes = np.clip(seen.means, 0.0, 1.0) * weights  # (n_arms,)
        return beta_chances(np.maximum(successes, LEAST_COUNT), np.maximum(weights - successes, LEAST_COUNT))


def beta_chances(a: Vector, b: Vector) -> Vector:
    """P(the arm is the highest) of independent Beta(a, b) values, shape (n_arms,), sums to 1.

    Integrates over the angle t with mean = sin(t)^2, in which a Beta distribution has about the same width
    1 / (2 sqrt(a + b)) everywhere, and the density sin(t)^(2a - 1) cos(t)^(2b - 1) is finite at both ends.

    Args:
        a: successes, shape (n_arms,), at least 0.5.
        b: failures, shape (n_arms,), at least 0.5.
    """
    centres = np.arctan2(np.sqrt(a), np.sqrt(b))  # (n_arms,)
    spreads = 0.5 / np.sqrt(a + b)  # (n_arms,)
    edges = np.clip(centres[:, None] + spreads[:, None] * EDGES_IN_DEVIATIONS, 0.0, np.pi / 2)  # (n_arms, 9)
    edges = np.unique(np.append(edges, [0.0, np.pi / 2]))  # (n_cells + 1,)
    points = points_of(edges)  # (n_cells, N_POINTS)
    shape = (-1, 1, 1)
    log_densities = (2 * a - 1).reshape(shape) * np.log(np.sin(points))  # (n_arms, n_cells, N_POINTS)
    log_densities += (2 * b - 1).reshape(shape) * np.log(np.cos(points))
    return chances_of_best(log_densities, edges)
