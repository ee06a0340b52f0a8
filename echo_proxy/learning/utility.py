"""What is an example worth to a request?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from echo_proxy.policy import Utility
from echo_proxy.types import Candidate, Names, Request, Vector


@dataclass(frozen=True, slots=True)
class BetaUtility:
    """Relevance from distance and names, times how reliably the model made use of the example so far.

    Reliability is the mean of a Beta posterior whose prior is one. It can only take away: an example that served well
    where it was near says nothing for a request that it is far from.
    """

    rules: Utility

    def utilities(self, request: Request, candidates: Sequence[Candidate]) -> Vector:
        """Utilities, shape (n_candidates,), in [0, 1]."""
        outcomes = pooled_outcomes(candidates)  # (n_candidates, 2)
        uses = np.maximum(outcomes[:, 0], 0.0)
        gain = np.minimum(np.maximum(outcomes[:, 1], 0.0), uses)
        weight = self.rules.prior_weight
        reliability = (weight + gain) / (weight + uses)  # (n_candidates,)
        useful: Vector = relevance(candidates, self.rules) * reliability
        return useful


def pooled_outcomes(candidates: Sequence[Candidate]) -> Vector:
    """Uses and gain of each candidate's response, shape (n_candidates, 2).

    Candidates that say the same share their outcomes: what the model could not make use of once, it cannot make use
    of when it stands under another wording of the question.
    """
    pools: dict[str, tuple[float, float]] = {}  # of numbers: arrays are slow on so few
    for candidate in candidates:
        example = candidate.example
        uses, gain = pools.get(example.response, (0.0, 0.0))
        pools[example.response] = (uses + example.uses, gain + example.gain)
    return np.array([pools[candidate.example.response] for candidate in candidates]).reshape(-1, 2)


def relevance(candidates: Sequence[Candidate], rules: Utility) -> Vector:
    """How likely a candidate is about the same, shape (n_candidates,): a falling logistic of the cosine distance."""
    distance = np.array([candidate.distance for candidate in candidates], dtype=np.float64)
    missing = np.array([candidate.names is Names.MISSING for candidate in candidates], dtype=bool)
    steps = np.minimum((distance - rules.half_distance) / rules.width, 500.0)  # beyond, exp overflows
    near: Vector = 1.0 / (1.0 + np.exp(steps))
    return np.where(missing, rules.missing_names_factor * near, near)
