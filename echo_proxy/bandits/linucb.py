"""Take the arm that could still be the best for this context."""

from dataclasses import dataclass
from math import isfinite

from echo_proxy.bandits.evidence import check_estimates
from echo_proxy.bandits.ties import share_of_best
from echo_proxy.types import Estimates, Vector


@dataclass(frozen=True, slots=True)
class LinUcb:
    """Takes the arm with the highest mean plus alpha deviations; ties share.

    What it knows of the context stands in the estimates, which a linear posterior makes (see `linear.py`).
    """

    alpha: float = 1.0
    """Exploration width in deviations, at least 0; 0 is greedy. # guess, not yet measured"""

    def __post_init__(self) -> None:
        if not (isfinite(self.alpha) and self.alpha >= 0.0):
            raise ValueError(f"alpha must be finite and at least 0, got {self.alpha}")

    def pmf(self, seen: Estimates) -> Vector:
        """Probabilities, shape (n_arms,): one for the highest bound, shared by ties, zero for all others.

        Raises:
            ValueError: the estimates are not usable.

        Source: Li et al. 2010, Algorithm 1, https://arxiv.org/abs/1003.0146
        """
        check_estimates(seen)
        return share_of_best(seen.means + self.alpha * seen.deviations)
