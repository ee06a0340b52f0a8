"""Could a stored answer be given to this request itself, and shall it?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from echo_proxy.answers.bound import LEAST_EXPLORING, Proof, proof
from echo_proxy.answers.eligible import may_answer, obstacle
from echo_proxy.answers.identical import asked_before
from echo_proxy.answers.pool import Pools, kind_of
from echo_proxy.answers.same import normalized
from echo_proxy.answers.witnesses import counted
from echo_proxy.policy import Policy
from echo_proxy.policy_keeping import AnswersPolicy
from echo_proxy.types import Candidate, Request, StoredAnswer

_STREAM = 0xA11
"""Sets this draw apart from the others that are made from a decision's seed."""


def consider(
    request: Request, candidates: Sequence[Candidate], policy: Policy, seed: int, pools: Pools | None = None
) -> StoredAnswer | None:
    """The stored answer that comes into question, and whether it is given; None without one, or when the tier is off.

    It is that of an example that was asked the same word for word, where a model would only say the same again: that
    needs no proof. Else it is that of the nearest example that may answer. Where others say the same, the one that most
    is proven of speaks for it: is it right there, so are they.

    Args:
        request: what is asked.
        candidates: found by retrieval, nearest first.
        policy: its line `answers` says what must be proven; in shadow mode nothing is served.
        seed: of the decision, so that what was drawn can be drawn again.
        pools: what the scope's other answers have shown; where `answers.estimate` is pooled, they decide.
    """
    rules = policy.answers
    if rules is None or not candidates or obstacle(request, rules) is not None:
        return None
    best = _best(request, candidates, rules, pools)
    if best is None:
        return None
    drawn = float(np.random.default_rng((_STREAM, seed)).random())
    is_served = policy.mode == "act" and drawn >= best.proof.explore_chance
    return StoredAnswer(
        best.candidate.example, best.candidate.distance, best.proof.explore_chance, is_served, _why(best, rules, drawn)
    )


@dataclass(frozen=True, slots=True)
class _Proven:
    candidate: Candidate
    proof: Proof
    is_again: bool = False
    """Asked word for word before: what is proven does not matter."""


def _best(
    request: Request, candidates: Sequence[Candidate], rules: AnswersPolicy, pools: Pools | None
) -> _Proven | None:
    again = asked_before(request, candidates, rules)
    if again is not None:
        known = proof(counted(again.example), max(again.distance, 0.0), rules)
        return _Proven(again, replace(known, explore_chance=LEAST_EXPLORING), is_again=True)
    alike = _alike(request, candidates, rules)
    if not alike:
        return None
    if rules.estimate == "pooled" and pools is not None:
        return _least_doubtful(request, alike, rules, pools)
    return _best_proven(alike, rules)


def _alike(request: Request, candidates: Sequence[Candidate], rules: AnswersPolicy) -> list[Candidate]:
    """The nearest that may answer, and those that may and say the same."""
    rest = iter(candidates)
    first = next((one for one in rest if may_answer(request, one, rules)), None)
    if first is None:
        return []
    said = normalized(first.example.response)
    # the cheaper question first: most of the others say something else
    return [
        first,
        *(one for one in rest if normalized(one.example.response) == said and may_answer(request, one, rules)),
    ]


def _best_proven(alike: Sequence[Candidate], rules: AnswersPolicy) -> _Proven:
    """The nearest of those with the least chance of asking a model, and then with the most observations: they come
    together at one example."""
    proven = [_Proven(one, proof(counted(one.example), max(one.distance, 0.0), rules)) for one in alike]
    return min(proven, key=lambda one: (one.proof.explore_chance, -one.proof.n_observed))


def _least_doubtful(request: Request, alike: Sequence[Candidate], rules: AnswersPolicy, pools: Pools) -> _Proven:
    """The nearest of those whose kind is wrong most seldom, and what its scope can afford."""
    pool = pools.of(request)
    kinds = [kind_of(counted(one.example), one.distance) for one in alike]
    wrong = [pool.wrong_chance(kind) for kind in kinds]
    at = min(range(len(alike)), key=wrong.__getitem__)
    pools.ask(request, kinds[at])
    chance = 1 - (1 - LEAST_EXPLORING) * pool.affordable(kinds[at], rules.max_error)
    observations = counted(alike[at].example)
    n_right = sum(one.is_correct for one in observations)
    return _Proven(alike[at], Proof(chance, wrong[at], n_right, len(observations)))


def _why(best: _Proven, rules: AnswersPolicy, drawn: float) -> str:
    known = best.proof
    seen = f"right {known.n_right} of {known.n_observed} times"
    if best.is_again:
        return f"asked word for word before; {seen}; a model is asked with {known.explore_chance:.3f}; drew {drawn:.3f}"
    if rules.estimate == "example" and known.n_observed < rules.min_observations:
        return f"{seen}, {rules.min_observations} observations are needed"
    return (
        f"{seen}; wrong at distance {best.candidate.distance:.3f} with a chance of {known.wrong_chance:.4f}, so for a "
        f"bound of {rules.max_error:g} a model is asked with {known.explore_chance:.3f}; drew {drawn:.3f}"
    )
