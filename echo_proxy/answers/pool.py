"""What do all examples of a scope tell together of one that little is known of?

Answers are of one kind when their requests are about as far from the example, and the example has been about as right
so far. Of each kind it is counted how many were wrong; then the bound is kept for the scope's requests together, as in
conformal risk control (arXiv 2208.02814): the least doubtful kinds are served first, until the share of wrong answers
that must be expected is spent, where more wrong answers than were seen are expected. Requests whose answer needs no
proof (identical.py) are left out on both sides.

Each worker counts the labels of its own requests alone. Those of others could only be read from the examples that come
by, and one that was wrong comes by less often than one that was right: its request has an example of its own then. So a
worker that starts anew begins where nothing is known.

A share of all requests can be bought with requests that are surely right, and its wrong ones land on others. So in a
scope of many only some requests of each person count, three people must have tried a kind before it is served, and no
kind is served that is wrong much more often than the bound, however rare it is.
"""

from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from echo_proxy.answers.bound import LEAST_RIGHT
from echo_proxy.answers.witnesses import LEAST_WITNESSES, is_of_many
from echo_proxy.types import Observation, Request, Vector

_MAX_SCOPES = 256
_MAX_WAITING = 10_000
"""Requests whose label may still come."""
_DISTANCES = (0.001, 0.03, 0.06, 0.12)
"""Where kinds part. The first holds the same words again. Chosen on train folds; eight kinds learned more slowly."""
_FEW = 4
_RARELY = 0.1
"""An example with so small a share of wrong answers has been right about always."""
_N_RECORDS = 4
_CAUTION = 1.3
"""Factor on the share of wrong answers that is expected: kinds that were lucky are chosen. Chosen on train folds."""

_UNSEEN = 2.0
"""Wrong answers that are expected beside those that were seen. One is what exchangeable answers take; but a kind that
began luckily is served, and labels that would say so come seldom then. On four streams of the demo's world at a bound
of 1 % the worst had 2.6 times the bound with 1, and 0.3 times with 2."""
_TIMES_BOUND = 3.0
"""A kind that is wrong more often than so many times the bound is never served. # guess, not yet measured"""
_TURNS = 20
"""Requests of one person that count within an hour, in a scope of many. # guess, not yet measured"""
_MAX_PEOPLE = 10_000
"""Whose turns are counted; those of further ones do not count before the next hour."""
_HOUR_S = 3600.0


class _Turns:
    """How many requests of each person have counted in the hour that is running."""

    def __init__(self) -> None:
        self._hour = -1
        self._n_of: Counter[str] = Counter()

    def take(self, person: str, at: float) -> bool:
        """Whether one more may count, at a time in seconds since the epoch."""
        hour = int(at // _HOUR_S)
        if hour > self._hour:
            self._hour, self._n_of = hour, Counter()
        if self._n_of[person] >= _TURNS or (person not in self._n_of and len(self._n_of) >= _MAX_PEOPLE):
            return False
        self._n_of[person] += 1
        return True


class Pool:
    """What is known of one scope's answers. Belongs to one event loop."""

    def __init__(self, is_of_many: bool = False) -> None:
        n_kinds = (len(_DISTANCES) + 1) * _N_RECORDS
        self._asked = np.zeros(n_kinds)  # requests
        self._seen = np.zeros(n_kinds)  # labels
        self._wrong = np.zeros(n_kinds)  # those of them that were wrong
        self._turns = _Turns() if is_of_many else None
        self._tried_by: list[set[str]] = [set() for _ in range(n_kinds)]
        """Who caused the labels; no more than are needed."""

    def wrong_chance(self, kind: int) -> float:
        """How likely an answer of a kind is wrong, [0, 1]; one half when nothing is known."""
        return float(self._expected()[kind])

    def ask(self, kind: int, person: str = "", at: float = 0.0) -> bool:
        """Count a request to which an answer of a kind could be given; whether it counts, as its label does then."""
        if self._turns is not None and not self._turns.take(person, at):
            return False
        self._asked[kind] += 1
        return True

    def learn(self, kind: int, is_correct: bool, person: str = "") -> None:
        """Count a label."""
        self._seen[kind] += 1
        self._wrong[kind] += not is_correct
        if len(self._tried_by[kind]) < LEAST_WITNESSES:
            self._tried_by[kind].add(person)

    def affordable(self, kind: int, max_error: float) -> float:
        """P(an answer of a kind may be served), [0, 1], so that all served ones together keep the bound."""
        if self.wrong_chance(kind) >= min(1 - LEAST_RIGHT, _TIMES_BOUND * max_error) or not self._is_vouched(kind):
            return 0.0
        order = np.argsort(self._expected(), kind="stable")  # least doubtful first
        shares = self._asked / max(self._asked.sum(), 1.0)  # (n_kinds,)
        wrong = np.cumsum((shares * self._wrong / (self._seen + 1))[order])  # if all kinds up to one are served
        more = _UNSEEN * np.maximum.accumulate((shares / (self._seen + 1))[order])  # where they weigh most
        costs = _CAUTION * wrong + more  # (n_kinds,)
        place = int(np.flatnonzero(order == kind)[0])
        before = float(costs[place - 1]) if place else 0.0
        left = max_error - before
        return 0.0 if left <= 0 else min(left / max(float(costs[place]) - before, 1e-12), 1.0)

    def _is_vouched(self, kind: int) -> bool:
        return self._turns is None or len(self._tried_by[kind]) >= LEAST_WITNESSES

    def _expected(self) -> Vector:
        expected: Vector = (self._wrong + 1) / (self._seen + 2)
        return expected


@dataclass(frozen=True, slots=True)
class _Asked:
    pool: Pool
    kind: int
    person: str


class Pools:
    """One pool per scope and partition: tenants do not vouch for each other."""

    def __init__(self) -> None:
        self._pools: OrderedDict[tuple[str, str], Pool] = OrderedDict()
        self._waiting: OrderedDict[str, _Asked] = OrderedDict()
        """By decision id."""

    def of(self, request: Request) -> Pool:
        """The pool of a request's scope, empty at first; the ones used last are kept."""
        key = (request.scope, request.partition)
        pool = self._pools.pop(key, None) or Pool(is_of_many(request.scope))
        self._pools[key] = pool
        if len(self._pools) > _MAX_SCOPES:
            self._pools.popitem(last=False)
        return pool

    def ask(self, request: Request, kind: int) -> None:
        """An answer of a kind could be given to a request."""
        pool, person = self.of(request), request.caller.person
        if not pool.ask(kind, person, request.received_at):
            return
        self._waiting[request.decision_id] = _Asked(pool, kind, person)
        if len(self._waiting) > _MAX_WAITING:
            self._waiting.popitem(last=False)

    def learn(self, decision_id: str, is_correct: bool) -> None:
        """Whether the answer that could have been given would have been right; told twice it counts once."""
        found = self._waiting.pop(decision_id, None)
        if found is not None:
            found.pool.learn(found.kind, is_correct, found.person)


def kind_of(observations: Sequence[Observation], distance: float) -> int:
    """The kind that an answer belongs to, by the distance and by what was observed of its example before."""
    n, n_wrong = len(observations), sum(not one.is_correct for one in observations)
    if n == 0:
        record = 0
    elif n_wrong > _RARELY * n:
        record = 3
    else:
        record = 1 if n < _FEW else 2
    return bisect_left(_DISTANCES, distance) * _N_RECORDS + record
