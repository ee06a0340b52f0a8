"""Which candidates are worth their tokens?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from echo_proxy.learning.explore import vary
from echo_proxy.learning.learned_utility import Learned
from echo_proxy.learning.pair_features import ALONE_SCHEMA, PAIR_SCHEMA, alone_features, pair_features
from echo_proxy.learning.thresholds import threshold_for
from echo_proxy.policy import SelectionPolicy
from echo_proxy.protocols import UtilityModel
from echo_proxy.types import Candidate, Rejection, Request, Selection, Trial, Vector


def select(
    request: Request,
    candidates: Sequence[Candidate],
    n_most: int,
    rules: SelectionPolicy,
    model: UtilityModel,
    learned: Learned | None = None,
    seed: int | None = None,
    familiar: Sequence[str] = (),
    n_backbone: int = 0,
) -> Selection:
    """At most n_most examples, most useful first, within the token budget.

    Args:
        learned: what past answers taught; None = nothing yet.
        seed: of the generator that decides whether something else is tried; None = nothing is left to chance.
        familiar: ids of examples that the scope uses again and again, the most used first.
        n_backbone: so many of the familiar ones among the candidates are chosen before all others, where they are worth
            their tokens; one place is left for the most useful.
    """
    if not candidates:
        return Selection()
    held = {one.example.id for one in candidates}
    known = tuple(one for one in familiar if one in held)
    lead = known[: max(min(n_backbone, n_most - 1), 0)]
    made = _made(request, candidates, n_most, rules, model, learned or Learned(), seed, lead)
    chosen = {one.example.id for one in made.chosen}
    return replace(made, familiar=tuple(one for one in known if one in chosen), n_backbone=n_backbone)


def _made(
    request: Request,
    candidates: Sequence[Candidate],
    n_most: int,
    rules: SelectionPolicy,
    model: UtilityModel,
    learned: Learned,
    seed: int | None,
    lead: Sequence[str],
) -> Selection:
    threshold = threshold_for(request.decision_id, learned.threshold, rules)
    prior = model.utilities(request, candidates)
    if rules.learned is None:
        return _Choice(_valued(candidates, prior), rules, threshold, Learned(), 0.0, lead).selection(n_most)
    features = pair_features(request, candidates, prior)  # (n_candidates, n_features)
    alone = alone_features(request, features)
    pool = _valued(candidates, learned.utilities(features, prior))
    choice = _Choice(pool, rules, threshold, learned, learned.alone_quality(alone), lead)
    made = choice.selection(n_most)
    return _tried(made, pool, features, alone, n_most, rules, seed)


def _valued(candidates: Sequence[Candidate], utilities: Vector) -> list[Candidate]:
    return [
        Candidate(example=one.example, distance=one.distance, names=one.names, utility=utility)  # replace() is slow
        for one, utility in zip(candidates, utilities.tolist(), strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Choice:
    """The candidates of one request with what it takes to choose among them."""

    pool: Sequence[Candidate]
    rules: SelectionPolicy
    threshold: float
    learned: Learned
    alone: float
    """P(an answer without examples is good); 0 while it is unknown."""
    lead: Sequence[str]
    """Ids of those that go before all others."""

    def selection(self, n_most: int) -> Selection:
        """By maximal marginal relevance, what brings nothing left out.

        Source of the diversity term: Carbonell and Goldstein 1998, https://doi.org/10.1145/290941.291025
        """
        pool, held = self.pool, _Held(self.rules, self.learned, self.alone, n_most)
        rejected = [Rejection(one, "utility") for one in pool if one.utility < self.threshold]
        prices = [self._price(one) for one in pool]
        diversity = self.rules.diversity
        worth = [(1 - diversity) * (one.utility - price) for one, price in zip(pool, prices, strict=True)]
        if self.lead:
            worth = [value + self._advantage(one) for value, one in zip(worth, pool, strict=True)]
        left = _best_last([i for i, one in enumerate(pool) if one.utility >= self.threshold], worth)
        vectors = _vectors(pool) if left and n_most > 1 else None
        nearest = [0.0] * len(pool)  # cosine of each to the nearest chosen one; lists, as numpy is slow on so few
        while left:
            best = left.pop()
            reason = held.reason_to_reject(pool[best], nearest[best], prices[best])
            if reason is not None:
                rejected.append(Rejection(pool[best], reason))
                continue
            held.take(best, pool[best])
            if vectors is not None and left:  # what the others bring has changed
                to_best = (vectors @ vectors[best]).tolist()
                nearest = to_best if len(held.chosen) == 1 else list(map(max, nearest, to_best))
                scores = [one - diversity * near for one, near in zip(worth, nearest, strict=True)]
                left = _best_last(left, scores)
        chosen = [pool[i] for i in held.chosen]
        if self.lead:
            chosen.sort(key=lambda one: -one.utility)
        return Selection(tuple(chosen), tuple(rejected), threshold=self.threshold)

    def _advantage(self, one: Candidate) -> float:
        """More than any utility and diversity can make up for."""
        found = [place for place, example_id in enumerate(self.lead) if example_id == one.example.id]
        return 10.0 * (len(self.lead) - found[0]) if found else 0.0

    def _price(self, one: Candidate) -> float:
        """Utility that its tokens must bring."""
        return self.rules.token_cost * one.example.n_tokens / 1000


def _best_last(indices: Sequence[int], scores: Sequence[float]) -> list[int]:
    """By score; of equals the first in the pool is the best."""
    return sorted(sorted(indices, reverse=True), key=scores.__getitem__)


class _Held:
    """What has been chosen so far, and what it leaves room for."""

    __slots__ = ("_learned", "_n_most", "_n_tokens", "_quality", "_rules", "_utilities", "chosen")

    def __init__(self, rules: SelectionPolicy, learned: Learned, alone: float, n_most: int) -> None:
        self.chosen: list[int] = []
        self._rules = rules
        self._learned = learned
        self._n_most = n_most
        self._n_tokens = 0
        self._utilities: list[float] = []
        self._quality = alone
        """Of an answer given with these."""

    def take(self, index: int, one: Candidate) -> None:
        """One more."""
        self.chosen.append(index)
        self._n_tokens += one.example.n_tokens
        self._utilities.append(one.utility)
        self._quality = self._learned.together(self._utilities)

    def reason_to_reject(self, one: Candidate, nearest: float, price: float) -> str | None:
        """None when it is to be taken."""
        if len(self.chosen) >= self._n_most:
            return "enough"
        if self.chosen and 1 - nearest < self._rules.duplicate_distance:
            return "duplicate"
        if self._n_tokens + one.example.n_tokens > self._rules.max_tokens:
            return "token_budget"
        gain = self._learned.together([*self._utilities, one.utility]) - self._quality
        return "gain" if gain + _ROUNDING < price else None


_ROUNDING = 1e-9
"""A gain of nothing may come out a little below it."""


def _vectors(candidates: Sequence[Candidate]) -> Vector:
    """Shape (n_candidates, dimensions)."""
    flat: Vector = np.concatenate([candidate.example.vector for candidate in candidates])
    return flat.reshape(len(candidates), -1)


def _tried(
    made: Selection,
    pool: Sequence[Candidate],
    features: Vector,
    alone: Sequence[float],
    n_most: int,
    rules: SelectionPolicy,
    seed: int | None,
) -> Selection:
    """The selection, now and then varied by chance, with the trials that the utility model learns from."""
    draw = vary(made, n_most, rules, seed)
    rows = {one.example.id: row for row, one in enumerate(pool)}
    chosen = draw.selection.chosen
    shown = [*chosen, *draw.left_out]
    values = (
        np.round(features[[rows[one.example.id] for one in shown]], 4).tolist() if shown else []
    )  # short in the log
    trials = [
        Trial(one.example.id, PAIR_SCHEMA, tuple(value), draw.chances[one.example.id], place < len(chosen))
        for place, (one, value) in enumerate(zip(shown, values, strict=True))
    ]
    told = tuple(round(value, 4) for value in alone)
    trials.append(Trial("", ALONE_SCHEMA, told, draw.none_chance, not chosen))
    return replace(draw.selection, trials=tuple(trials))
