"""Draw every arm as often as it would be the best, when beliefs are normal."""

from dataclasses import dataclass
from math import isfinite

import numpy as np
from scipy.special import ndtr

from echo_proxy.bandits.chance_of_best import EDGES_IN_DEVIATIONS, points_of, weights_of
from echo_proxy.bandits.evidence import check_estimates
from echo_proxy.types import Estimates, Vector

LEAST_DEVIATION = 1e-9
"""An arm known better than this, relative to the largest mean, counts as known just so well: arms without any
deviation then need no case of their own, and equal ones share."""
_TINY = 1e-300
_NEAR = 0.5
"""Ends of cells nearer than so many of the least deviations are one: ten arms alike need a third of the points, and
chances change by 1e-6 at most."""


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

    Source: as `chances_of_best`; the normal distribution function is known, so that it need not be integrated.
    """
    least = LEAST_DEVIATION * max(1.0, float(np.abs(means).max()))
    spreads = np.maximum(deviations, least)  # (n_arms,)
    # below `start` some arm lies for certain, so nobody is the highest there; who lies wholly below it never is
    start = (means + EDGES_IN_DEVIATIONS[0] * spreads).max()
    rivals = np.flatnonzero(means + EDGES_IN_DEVIATIONS[-1] * spreads > start)  # (n_rivals,)
    centres, widths = means[rivals, None], spreads[rivals, None]  # both (n_rivals, 1)
    edges = _merged(np.maximum(centres + widths * EDGES_IN_DEVIATIONS, start).ravel(), _NEAR * float(widths.min()))
    points, weights = points_of(edges).ravel(), weights_of(edges).ravel()  # both (n_points,)
    distances = (points - centres) / widths  # (n_rivals, n_points)
    below = ndtr(distances)  # (n_rivals, n_points)
    # Where it underflows the density does too, so that the quotient's guard changes nothing that counts.
    others = below.prod(axis=0) / np.maximum(below, _TINY)  # (n_rivals, n_points), P(all other arms below)
    chances = np.zeros(means.size)
    chances[rivals] = ((np.exp(-0.5 * distances**2) * others) @ weights) / widths[:, 0]
    return np.asarray(chances / chances.sum())


def _merged(edges: Vector, step: float) -> Vector:
    """On a grid of so wide steps, ascending and distinct, shape (n_cells + 1,)."""
    places = np.sort(np.round(edges / step))
    is_new = np.append(True, places[1:] > places[:-1])
    return np.asarray(places[is_new] * step)
