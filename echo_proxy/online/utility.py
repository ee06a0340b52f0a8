"""What is an example worth to a request?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from echo_proxy.policy import Utility
from echo_proxy.types import Candidate, Names, Request, Vector


@dataclass(frozen=True, slots=True)
class BetaUtility:
    """Beta posterior of "an answer given with this example is good", with a prior from distance and names."""

    rules: Utility

    def utilities(self, request: Request, candidates: Sequence[Candidate]) -> Vector:
        """Posterior means, shape (n_candidates,), in [0, 1]."""
        prior = prior_utilities(candidates, self.rules)  # (n_candidates,)
        uses = np.array([candidate.example.uses for candidate in candidates], dtype=np.float64)
        gain = np.array([candidate.example.gain for candidate in candidates], dtype=np.float64)
        weight = self.rules.prior_weight
        posterior: Vector = (weight * prior + np.clip(gain, 0, uses)) / (weight + uses)
        return posterior


def prior_utilities(candidates: Sequence[Candidate], rules: Utility) -> Vector:
    """Utility before any outcome, shape (n_candidates,): a falling logistic of the cosine distance."""
    distance = np.array([candidate.distance for candidate in candidates], dtype=np.float64)
    missing = np.array([candidate.names is Names.MISSING for candidate in candidates], dtype=bool)
    near: Vector = 1.0 / (1.0 + np.exp((distance - rules.half_distance) / rules.width))
    return np.where(missing, rules.missing_names_factor * near, near)
