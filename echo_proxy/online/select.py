"""Which candidates are worth their tokens?"""

from collections.abc import Sequence
from dataclasses import replace

from echo_proxy.policy import SelectionPolicy
from echo_proxy.protocols import UtilityModel
from echo_proxy.types import Candidate, Rejection, Request, Selection


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
    rejected = [Rejection(candidate, "utility") for candidate in pool if candidate.utility < rules.min_utility]
    pool = [candidate for candidate in pool if candidate.utility >= rules.min_utility]
    chosen: list[Candidate] = []
    tokens = 0
    while pool:
        best = max(pool, key=lambda candidate: _marginal_relevance(candidate, chosen, rules.diversity))
        pool.remove(best)
        reason = _reason_to_reject(best, chosen, tokens, n_most, rules)
        if reason:
            rejected.append(Rejection(best, reason))
            continue
        chosen.append(best)
        tokens += best.example.n_tokens
    return Selection(tuple(chosen), tuple(rejected))


def _marginal_relevance(candidate: Candidate, chosen: Sequence[Candidate], diversity: float) -> float:
    nearest = max((_cosine(candidate, other) for other in chosen), default=0.0)
    return (1 - diversity) * candidate.utility - diversity * nearest


def _reason_to_reject(
    candidate: Candidate, chosen: Sequence[Candidate], tokens: int, n_most: int, rules: SelectionPolicy
) -> str | None:
    if len(chosen) >= n_most:
        return "enough"
    if any(1 - _cosine(candidate, other) < rules.duplicate_distance for other in chosen):
        return "duplicate"
    if tokens + candidate.example.n_tokens > rules.max_tokens:
        return "token_budget"
    return None


def _cosine(one: Candidate, other: Candidate) -> float:
    return float(one.example.vector @ other.example.vector)
