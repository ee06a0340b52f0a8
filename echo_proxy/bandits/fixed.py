"""Always the same odds, whatever was learned."""

from dataclasses import dataclass
from math import fsum, isclose

import numpy as np

from echo_proxy.bandits.evidence import check_estimates
from echo_proxy.types import Estimates, Vector


@dataclass(frozen=True, slots=True)
class Fixed:
    """Draws from given probabilities: the baselines (always large, always small) and A/B tests."""

    probabilities: tuple[float, ...]
    """Probability per arm, in the arms' order; sums to 1."""

    def __post_init__(self) -> None:
        if not all(0.0 <= probability <= 1.0 for probability in self.probabilities):
            raise ValueError(f"probabilities must be in [0, 1], got {self.probabilities}")
        if not isclose(fsum(self.probabilities), 1.0, abs_tol=1e-9):
            raise ValueError(f"probabilities must sum to 1, got {fsum(self.probabilities)}")

    @classmethod
    def on(cls, arm: int, n_arms: int) -> "Fixed":
        """Always the arm at this index.

        Raises:
            ValueError: there is no such arm.
        """
        if not 0 <= arm < n_arms:
            raise ValueError(f"arm must be in [0, {n_arms}), got {arm}")
        return cls(tuple(float(index == arm) for index in range(n_arms)))

    def pmf(self, seen: Estimates) -> Vector:
        """The given probabilities, shape (n_arms,).

        Raises:
            ValueError: the estimates are not usable, or speak of another number of arms.
        """
        check_estimates(seen)
        if seen.means.size != len(self.probabilities):
            raise ValueError(f"expected estimates of {len(self.probabilities)} arms, got {seen.means.size}")
        return np.array(self.probabilities, dtype=np.float64)
