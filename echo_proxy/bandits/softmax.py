"""The better an arm, the likelier it is, but none is ruled out."""

from dataclasses import dataclass
from math import isfinite

import numpy as np

from echo_proxy.bandits.evidence import check_estimates
from echo_proxy.types import Estimates, Vector

_LEAST_EXPONENT = -745.0
"""exp of this is the smallest float64 above zero; bounding the exponent keeps tiny temperatures from overflowing."""


@dataclass(frozen=True, slots=True)
class Softmax:
    """Boltzmann exploration: probabilities in proportion to exp(mean / temperature)."""

    temperature: float = 0.1
    """Reward difference that makes an arm e times likelier, above 0. # guess, not yet measured"""

    def __post_init__(self) -> None:
        if not (isfinite(self.temperature) and self.temperature > 0.0):
            raise ValueError(f"temperature must be finite and above 0, got {self.temperature}")

    def pmf(self, seen: Estimates) -> Vector:
        """Probabilities, shape (n_arms,), in proportion to exp(mean / temperature).

        Raises:
            ValueError: the estimates are not usable.

        Source: Sutton and Barto, Reinforcement Learning, 2nd ed., section 2.8
        """
        check_estimates(seen)
        behind = np.maximum(seen.means - seen.means.max(), _LEAST_EXPONENT * self.temperature)  # (n_arms,)
        odds = np.exp(behind / self.temperature)  # (n_arms,), 1 for the best, so the sum is never 0
        return np.asarray(odds / odds.sum(), dtype=np.float64)
