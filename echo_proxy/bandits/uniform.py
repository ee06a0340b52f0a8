"""Every arm alike: the baseline that learns nothing, and the cleanest source of logs for evaluation."""

from dataclasses import dataclass

import numpy as np

from echo_proxy.bandits.evidence import check_estimates
from echo_proxy.types import Estimates, Vector


@dataclass(frozen=True, slots=True)
class Uniform:
    """Gives every arm the same probability."""

    def pmf(self, seen: Estimates) -> Vector:
        """One over n_arms for each, shape (n_arms,). Raises ValueError when the estimates are not usable."""
        check_estimates(seen)
        return np.full(seen.means.size, 1.0 / seen.means.size)
