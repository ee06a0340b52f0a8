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
) -> Selection:
    """At most n_most examples, most useful first, within the token budget.

    Args:
        learned: what past answers taught; None = nothing yet.
        seed: of the generator that decides whether something else is tried; None = nothing is left to chance.
    """
    if not candidates:
        return Selection()
    learned = learned or Learned()
    threshold = threshold_for(request.decision_id, learned.threshold, rules)
    prior = model.utilities(request, candidates)
    if rules.learned is None:
        return _Choice(_valued(candidates, prior), rules, threshold, Learned(), 0.0).selection(n_most)
    features = pair_features(request, candidates, prior)  # (n_candidates, n_features)
    alone = alone_features(request, features)
    pool = _valued(candidates, learned.utilities(features, prior))
    choice = _Choice(pool, rules, threshold, learned, learned.alone_quality(alone))
    made = choice.selection(n_most)
    return _tried(made, pool, features, alone, n_most, rules, seed)


def _valued(candidates: Sequence[Candidate], utilities: Vector) -> list[Candidate]:
    return [replace(one, utility=float(utility)) for one, utility in zip(candidates, utilities, strict=True)]


@dataclass(frozen=True, slots=True)
class _Choice:
    """The candidates of one request with what it takes to choose among them."""

    pool: Sequence[Candidate]
    rules: SelectionPolicy
    threshold: float
    learned: Learned
    alone: float
    """P(an answer without examples is good); 0 while it is unknown."""

    def selection(self, n_most: int) -> Selection:
        """By maximal marginal relevance, what brings nothing left out.

        Source of the diversity term: Carbonell and Goldstein 1998, https://doi.org/10.1145/290941.291025
        """
        pool, cosines = self.pool, _cosines(self.pool)
        left = [i for i, one in enumerate(pool) if one.utility >= self.threshold]
        rejected = [Rejection(one, "utility") for one in pool if one.utility < self.threshold]
        chosen: list[int] = []
        worth = [(1 - self.rules.diversity) * (one.utility - self._price(one)) for one in pool]
        nearest = [0.0] * len(pool)  # cosine of each to the nearest chosen one; lists, as numpy is slow on so few
        while left:
            best = max(left, key=lambda i: worth[i] - self.rules.diversity * nearest[i])
            left.remove(best)
            reason = self._reason_to_reject(best, chosen, nearest[best], n_most)
            if reason:
                rejected.append(Rejection(pool[best], reason))
                continue
            to_best = cosines[best].tolist()
            nearest = [max(pair) for pair in zip(nearest, to_best, strict=True)] if chosen else to_best
            chosen.append(best)
        return Selection(tuple(pool[i] for i in chosen), tuple(rejected), threshold=self.threshold)

    def _price(self, one: Candidate) -> float:
        """Utility that its tokens must bring."""
        return self.rules.token_cost * one.example.n_tokens / 1000

    def _reason_to_reject(self, index: int, chosen: Sequence[int], nearest: float, n_most: int) -> str | None:
        one, held = self.pool[index], [self.pool[i] for i in chosen]
        if len(held) >= n_most:
            return "enough"
        if held and 1 - nearest < self.rules.duplicate_distance:
            return "duplicate"
        if sum(other.example.n_tokens for other in held) + one.example.n_tokens > self.rules.max_tokens:
            return "token_budget"
        if self._gain(one, held) < self._price(one):
            return "gain"
        return None

    def _gain(self, one: Candidate, held: Sequence[Candidate]) -> float:
        """What it is expected to add to the answer's quality."""
        utilities = [other.utility for other in held]
        before = self.learned.together(utilities) if held else self.alone
        return self.learned.together([*utilities, one.utility]) - before + _ROUNDING


_ROUNDING = 1e-9
"""A gain of nothing may come out a little below it."""


def _cosines(candidates: Sequence[Candidate]) -> Vector:
    """Cosine of every pair, shape (n_candidates, n_candidates)."""
    vectors = np.stack([candidate.example.vector for candidate in candidates])  # (n_candidates, dimensions)
    cosines: Vector = (vectors @ vectors.T).astype(np.float64)
    return cosines


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
    rows = {one.example.id: row for one, row in zip(pool, features, strict=True)}

    def trial(one: Candidate, is_chosen: bool) -> Trial:
        example_id = one.example.id
        return Trial(example_id, PAIR_SCHEMA, _rounded(rows[example_id]), draw.chances[example_id], is_chosen)

    chosen = draw.selection.chosen
    trials = [trial(one, True) for one in chosen] + [trial(one, False) for one in draw.left_out]
    trials.append(Trial("", ALONE_SCHEMA, _rounded(alone), draw.none_chance, not chosen))
    return replace(draw.selection, trials=tuple(trials))


def _rounded(features: Sequence[float] | Vector) -> tuple[float, ...]:
    """Short in the log."""
    return tuple(round(float(value), 4) for value in features)
