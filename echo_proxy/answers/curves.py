"""How can the chance that a stored answer is right fall with the distance, and how likely is each way beforehand?

Every way is a logistic curve: P(right) = sigmoid(level - slope * distance). An example follows one of a fixed set of
curves, nobody knows which. Belief is a weight per curve, so that whatever was observed there is nothing to diverge:
observations that are all right, all wrong or all at one distance only move weight.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from echo_proxy.types import Observation, Vector

_LEVELS = np.arange(-6.0, 8.01, 0.5)
"""Logit of being right at distance 0: from 1 in 400 to all but 1 in 3,000."""
_SLOPES = np.array([0.0, 10.0, 20.0, 40.0, 80.0, 320.0])
"""Per unit of cosine distance. 0 = the distance tells nothing; 80 = from sure to hopeless within 0.1."""
_BINS = 512
"""Distances are told apart to 1 part in 256."""
_PER_UNIT = _BINS / 2


@dataclass(frozen=True, slots=True)
class Curves:
    """All curves, by bin of distance."""

    right: NDArray[np.float64]
    """P(right), shape (n_bins, n_curves), in (0, 1)."""
    log_right: NDArray[np.float64]
    """Its logarithm, same shape."""
    log_wrong: NDArray[np.float64]
    """Logarithm of 1 - P(right), same shape."""
    prior: Vector
    """Weights before anything was observed, shape (n_curves,), sum 1."""


@cache
def curves() -> Curves:
    """The curves, computed once.

    The prior takes any chance of being right at distance 0 for equally likely, and all slopes. Of observations at one
    distance it then believes about what holds without any assumption: when n exchangeable answers hold f wrong ones,
    E[1{the next is wrong} * (n + 1) / (f + 1)] <= 1, so that (f + 1) / (n + 1) may stand for the chance of a wrong one.
    """
    level, slope = (each.ravel() for each in np.meshgrid(_LEVELS, _SLOPES, indexing="ij"))  # (n_curves,)
    distance = np.arange(_BINS + 1)[:, None] / _PER_UNIT  # (n_bins, 1)
    logit = level - slope * distance  # (n_bins, n_curves)
    log_right, log_wrong = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
    at_zero = 1 / (1 + np.exp(-level))
    density = at_zero * (1 - at_zero)  # of the logit of a uniform share
    return Curves(np.exp(log_right), log_right, log_wrong, density / density.sum())


def bin_of(distance: float) -> int:
    """Row of a distance in [0, 2]."""
    return min(max(round(distance * _PER_UNIT), 0), _BINS)


def likelihoods(observations: Sequence[Observation]) -> Vector:
    """Of the observations under each curve, shape (n_curves,); scaled so that the largest is 1."""
    known = curves()
    if not observations:
        return np.ones(len(known.prior))
    rows = np.array([bin_of(one.distance) for one in observations])
    right = np.array([one.is_correct for one in observations])
    log_likelihood = known.log_right[rows[right]].sum(axis=0) + known.log_wrong[rows[~right]].sum(axis=0)
    scaled: Vector = np.exp(log_likelihood - log_likelihood.max())
    return scaled
