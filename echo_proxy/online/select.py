"""Which candidates are worth their tokens?"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from echo_proxy.policy import SelectionPolicy
from echo_proxy.protocols import UtilityModel
from echo_proxy.types import Candidate, Rejection, Request, Selection, Vector


def select(
    request: Request,
    candidates: Sequence[Candidate],
    n_most: int,
    rules: SelectionPolicy,
    model: UtilityModel,
) -> Selection:
    """At most n_most examples, most useful first, by maximal marginal relevance within the token budget.

    Source of the diversity term: Carbonell and Goldstein 1998, https://doi.org/10.1145/290941.291025
    """
    if not candidates:
        return Selection()
    utilities = model.utilities(request, candidates)
    pool = [
        replace(candidate, utility=float(utility)) for candidate, utility in zip(candidates, utilities, strict=True)
    ]
    cosines = _cosines(pool)
    left = [i for i, candidate in enumerate(pool) if candidate.utility >= rules.min_utility]
    rejected = [Rejection(candidate, "utility") for candidate in pool if candidate.utility < rules.min_utility]
    chosen: list[int] = []
    tokens = 0
    while left:
        best = max(left, key=lambda i: _marginal_relevance(pool[i].utility, cosines[i, chosen], rules.diversity))
        left.remove(best)
        size = pool[best].example.n_tokens
        reason = _reason_to_reject(cosines[best, chosen], size + tokens, n_most, rules)
        if reason:
            rejected.append(Rejection(pool[best], reason))
            continue
        chosen.append(best)
        tokens += size
    return Selection(tuple(pool[i] for i in chosen), tuple(rejected))


def _cosines(candidates: Sequence[Candidate]) -> Vector:
    """Cosine of every pair, shape (n_candidates, n_candidates)."""
    vectors = np.stack([candidate.example.vector for candidate in candidates])  # (n_candidates, dimensions)
    cosines: Vector = (vectors @ vectors.T).astype(np.float64)
    return cosines


def _marginal_relevance(utility: float, to_chosen: Vector, diversity: float) -> float:
    nearest = float(to_chosen.max()) if to_chosen.size else 0.0
    return (1 - diversity) * utility - diversity * nearest


def _reason_to_reject(to_chosen: Vector, tokens: int, n_most: int, rules: SelectionPolicy) -> str | None:
    if to_chosen.size >= n_most:
        return "enough"
    if to_chosen.size and 1 - float(to_chosen.max()) < rules.duplicate_distance:
        return "duplicate"
    if tokens > rules.max_tokens:
        return "token_budget"
    return None
