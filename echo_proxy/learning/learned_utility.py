"""What is an example worth, as past answers taught it?"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from echo_proxy.types import Vector


@dataclass(frozen=True, slots=True)
class Line:
    """A logistic regression in numbers."""

    coefficients: Vector
    """Shape (n_features,)."""
    intercept: float
    lower: Vector
    """Least value of each feature that was seen, shape (n_features,); beyond it nothing is known."""
    upper: Vector
    """The same for the greatest."""

    def probabilities(self, features: Vector) -> Vector:
        """P(good), shape (n_rows,), of features of shape (n_rows, n_features)."""
        kept = np.clip(features, self.lower, self.upper)
        odds: Vector = kept @ self.coefficients + self.intercept
        good: Vector = 1.0 / (1.0 + np.exp(-np.clip(odds, -30.0, 30.0)))
        return good


@dataclass(frozen=True, slots=True)
class Learned:
    """What is known of the worth of examples. Without lessons it changes nothing."""

    pairs: Line | None = None
    """P(an answer given with the example is good); None = as the starting point says."""
    alone: Line | None = None
    """P(an answer given without examples is good); None = unknown."""
    alone_trust: float = 0.0
    """How far `alone` is believed, [0, 1]."""
    mix: float = 1.0
    """How several examples work together: 1 = one good one is enough, 0 = each bad one spoils the others."""
    threshold: float | None = None
    """The threshold that did best; None = the policy's."""
    n_lessons: float = 0.0
    """Summed evidence weight of what it was fitted to."""

    def utilities(self, features: Vector, prior: Vector) -> Vector:
        """P(an answer given with each example is good), shape (n_candidates,)."""
        return prior if self.pairs is None else self.pairs.probabilities(features)

    def alone_quality(self, features: Sequence[float]) -> float:
        """P(an answer given without examples is good), 0 while it is unknown."""
        if self.alone is None:
            return 0.0
        return self.alone_trust * float(self.alone.probabilities(np.array([features]))[0])

    def together(self, utilities: Sequence[float]) -> float:
        """P(an answer given with all of these is good); at least one."""
        return together(utilities, self.mix)


def together(utilities: Sequence[float], mix: float) -> float:
    """P(an answer given with several examples is good), between their mean and P(at least one of them suffices)."""
    some = 1.0 - prod([1.0 - one for one in utilities])
    return mix * some + (1.0 - mix) * sum(utilities) / len(utilities)
