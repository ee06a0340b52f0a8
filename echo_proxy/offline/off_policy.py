"""What would another policy have earned, judged by a log whose draws are known?

Every estimator gives a value and, per decision, how that decision moves it. So a difference of two policies is a
subtraction, and one method gives the interval of a value and of a difference alike.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from echo_proxy.types import Vector

Matrix = NDArray[np.float64]
"""Two-dimensional array of float64."""
Indices = NDArray[np.int64]
"""One-dimensional array of positions."""

LEVEL = 0.95
"""Of all intervals."""
_RESAMPLES = 1000
_CELLS = 2_000_000
"""Of an array of resampled decisions: 16 MB."""


@dataclass(frozen=True, slots=True)
class Draws:
    """What a log says of its draws, and how another policy would have drawn."""

    drawn: Indices
    """Arm that was drawn, shape (n,), in 0..n_arms-1."""
    propensities: Vector
    """P(that arm) when it was drawn, shape (n,), (0, 1]."""
    target: Matrix
    """The other policy's probabilities, shape (n, n_arms); rows sum to one, 0 where an arm could not be drawn."""

    def __post_init__(self) -> None:
        n = len(self.drawn)
        if self.propensities.shape != (n,) or self.target.ndim != 2 or len(self.target) != n:
            raise ValueError(
                f"expected {n} propensities and rows, got {self.propensities.shape} and {self.target.shape}"
            )
        if n == 0 or not ((self.propensities > 0) & (self.propensities <= 1 + 1e-9)).all():
            raise ValueError("propensities must be in (0, 1], and there must be one at least")

    def ratios(self, clip: float | None = None) -> Vector:
        """Importance weight of each decision, shape (n,): how much likelier the other policy draws what was drawn.

        Args:
            clip: larger weights count as this; None = none is changed.
        """
        chosen = self.target[np.arange(len(self.drawn)), self.drawn]  # (n,)
        ratios: Vector = chosen / self.propensities
        return ratios if clip is None else np.minimum(ratios, clip)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What a log says of one measure."""

    values: Vector
    """Shape (n,); anything finite where it is not known."""
    counts: Vector
    """How many decisions each one stands for, shape (n,): 0 = not known, 1 = itself, more = others of its arm too."""

    def __post_init__(self) -> None:
        if self.values.shape != self.counts.shape or not np.isfinite(self.values).all() or (self.counts < 0).any():
            raise ValueError("values and counts must have one shape, values be finite and counts at least 0")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with what each decision contributes to its error."""

    value: float
    influences: Vector
    """Shape (n,), with mean 0: the value minus the truth is about their mean."""

    @property
    def standard_error(self) -> float:
        """Of the value."""
        n = len(self.influences)
        return float(self.influences.std(ddof=1) / np.sqrt(n)) if n > 1 else float("inf")

    def minus(self, other: "Estimate") -> "Estimate":
        """The difference of two policies on the same decisions."""
        return Estimate(self.value - other.value, self.influences - other.influences)


@dataclass(frozen=True, slots=True)
class Interval:
    """Between these the truth lies, 95 times of 100."""

    lower: float
    upper: float


def ips(draws: Draws, outcomes: Outcomes, clip: float | None = None) -> Estimate:
    """Inverse propensity scoring: unbiased, and wide. Source: Horvitz and Thompson 1952."""
    return _mean(draws.ratios(clip) * outcomes.counts * outcomes.values)


def snips(draws: Draws, outcomes: Outcomes, clip: float | None = None) -> Estimate:
    """Self-normalised: a mean weighted by the ratios, biased by O(1/n), never outside the outcomes' range.

    Raises:
        ValueError: no known outcome has a weight.

    Source: Swaminathan and Joachims 2015, https://papers.nips.cc/paper/5748
    """
    weights = draws.ratios(clip) * outcomes.counts  # (n,)
    if not weights.any():
        raise ValueError("the log knows the outcome of nothing that the policy would do")
    total = float(weights.sum())
    value = float(weights @ outcomes.values) / total
    # The jackknife's influences: what the value would be without the decision. The linear ones divide by `total` and
    # make too little of the few decisions that weigh most.
    rest = np.maximum(total - weights, np.finfo(float).tiny)  # (n,)
    influences = (len(weights) - 1) * weights * (outcomes.values - value) / rest
    return Estimate(value, influences - influences.mean())


def doubly_robust(draws: Draws, outcomes: Outcomes, expected: Matrix, clip: float | None = None) -> Estimate:
    """What a model expects of the policy, corrected by that model's errors, weighted and self-normalised.

    Args:
        draws: of the log.
        outcomes: of one measure.
        expected: of each arm in each decision, shape (n, n_arms), by a model that has not seen that decision's
            outcome.
        clip: as in `Draws.ratios`.

    Raises:
        ValueError: as in `snips`.

    Source: Dudik, Langford and Li 2011, https://arxiv.org/abs/1103.4601; normalised as in Thomas and Brunskill 2016,
    https://arxiv.org/abs/1604.00923
    """
    believed = (draws.target * expected).sum(axis=1)  # (n,)
    errors = outcomes.values - expected[np.arange(len(draws.drawn)), draws.drawn]  # (n,)
    error = snips(draws, Outcomes(errors, outcomes.counts), clip)
    mean = float(believed.mean())
    return Estimate(mean + error.value, believed - mean + error.influences)


def interval(estimate: Estimate, seed: int, level: float = LEVEL) -> Interval:
    """Bootstrap-t over decisions, never narrower than the normal interval; the same seed gives the same one.

    The bootstrap follows the skew of heavy weights, which the normal interval misses, and misses itself what the log
    did not happen to draw. Each alone held the truth too seldom in `python -m bench.off_policy --methods`.

    Source: Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans, ch. 10
    """
    n, error = len(estimate.influences), estimate.standard_error
    if n < 2:
        return Interval(-np.inf, np.inf)
    if not error > 0:
        return Interval(estimate.value, estimate.value)
    sides = np.array([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(_studentised(estimate.influences, seed), sides)
    least = float(norm.ppf(sides[1]))
    return Interval(estimate.value - max(float(high), least) * error, estimate.value - min(float(low), -least) * error)


def effective_size(ratios: Vector) -> float:
    """How many unweighted decisions the weighted ones are worth, 0 to n. Source: Kish 1965."""
    squares = float((ratios**2).sum())
    return float(ratios.sum()) ** 2 / squares if squares > 0 else 0.0


def _mean(terms: Vector) -> Estimate:
    value = float(terms.mean())
    return Estimate(value, terms - value)


def _studentised(influences: Vector, seed: int) -> Vector:
    """Resampled means in units of their own standard errors, shape (n_resamples,)."""
    n, rng = len(influences), np.random.default_rng(seed)
    rows, found = max(_CELLS // n, 1), []
    for start in range(0, _RESAMPLES, rows):
        picked = influences[rng.integers(0, n, (min(rows, _RESAMPLES - start), n))]  # (rows, n)
        errors = picked.std(axis=1, ddof=1) / np.sqrt(n)  # (rows,)
        means = picked.mean(axis=1)  # (rows,)
        found.append(means[errors > 0] / errors[errors > 0])
    return np.concatenate(found)
