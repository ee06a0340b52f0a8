"""Who is next of those that wait? Sorted lists, so that asking is cheap however many there are."""

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TypeVar

from echo_proxy.engine.queue_fairness import FairShare
from echo_proxy.engine.queue_records import Waiter

AGEING = 4.0
"""A request stands behind shorter ones of its scope that came up to so many seconds later per second that it takes
longer than they. Guess, not yet measured: 0 = by arrival, inf = shortest first."""
_Sorted = TypeVar("_Sorted", int, tuple[float, int])
_MAX_SCOPES_LOOKED_AT = 8
"""At once, when the first ones do not fit into the memory that is free."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A waiter and what was predicted of it when it was filed."""

    waiter: Waiter
    n_tokens: float
    """Tokens that it will probably still write."""
    service_s: float
    """Seconds that it will probably spend in the batch."""
    give_up_at: float
    """When its deadline is lost or its wait has become too long, in monotonic seconds."""
    is_refusable: bool = True
    """False = part of its answer may have been sent."""
    is_late: bool = False
    """Its deadline is lost and no longer a reason to hurry."""

    @property
    def start_by(self) -> float:
        """Latest start that meets its deadline, if the prediction holds; slack = start_by - now."""
        return math.inf if self.is_late else self.waiter.deadline_at - self.service_s

    @property
    def rank(self) -> tuple[float, int]:
        """Place within its scope, first = smallest: shorter ones first, but not for ever; then by arrival."""
        return self.waiter.arrived_at + AGEING * self.service_s, self.waiter.number


@dataclass(slots=True)
class _Level:
    """Those of one priority."""

    hurried: list[tuple[float, int]] = field(default_factory=list)
    """(start_by, number) of those with a deadline, least slack first."""
    scopes: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    """Ranks of all."""


class Line:
    """All that wait."""

    def __init__(self, shares: FairShare) -> None:
        self._shares = shares
        self._entries: dict[int, Entry] = {}
        self._numbers: list[int] = []
        self._levels: dict[int, _Level] = {}
        self._priorities: list[int] = []
        self._give_up: list[tuple[float, int]] = []
        self._n_by_scope: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def get(self, number: int) -> Entry | None:
        """The one with that number, if it waits."""
        return self._entries.get(number)

    @property
    def oldest(self) -> Entry:
        """The first to arrive."""
        return self._entries[self._numbers[0]]

    @property
    def top_priority(self) -> int:
        """Of those that wait."""
        return self._priorities[-1]

    def add(self, entry: Entry) -> None:
        """A new one waits, or one that was paused."""
        scope = entry.waiter.scope
        if scope not in self._n_by_scope:
            self._shares.wake(scope, self._n_by_scope)
        self._n_by_scope[scope] = self._n_by_scope.get(scope, 0) + 1
        insort(self._numbers, entry.waiter.number)
        self._file(entry)

    def pop(self, number: int) -> Entry:
        """Take it out; it must be there."""
        entry = self._entries[number]
        self._unfile(entry)
        _discard(self._numbers, number)
        scope = entry.waiter.scope
        self._n_by_scope[scope] -= 1
        if not self._n_by_scope[scope]:
            del self._n_by_scope[scope]
            self._shares.sleep(scope)
        return entry

    def replace(self, entry: Entry) -> None:
        """What is predicted of it changed."""
        self._unfile(self._entries[entry.waiter.number])
        self._file(entry)

    def _file(self, entry: Entry) -> None:
        waiter = entry.waiter
        self._entries[waiter.number] = entry
        if waiter.priority not in self._levels:
            self._levels[waiter.priority] = _Level()
            insort(self._priorities, waiter.priority)
        level = self._levels[waiter.priority]
        insort(level.scopes.setdefault(waiter.scope, []), entry.rank)
        if entry.start_by < math.inf:
            insort(level.hurried, (entry.start_by, waiter.number))
        if entry.give_up_at < math.inf:
            insort(self._give_up, (entry.give_up_at, waiter.number))

    def _unfile(self, entry: Entry) -> None:
        waiter = entry.waiter
        del self._entries[waiter.number]
        level = self._levels[waiter.priority]
        _discard(self._give_up, (entry.give_up_at, waiter.number))
        _discard(level.hurried, (entry.start_by, waiter.number))
        _discard(level.scopes[waiter.scope], entry.rank)
        if not level.scopes[waiter.scope]:
            del level.scopes[waiter.scope]
        if not level.scopes:
            del self._levels[waiter.priority]
            _discard(self._priorities, waiter.priority)

    def due(self, now: float) -> Entry | None:
        """One to be given up, if there is one."""
        return self._entries[self._give_up[0][1]] if self._give_up and self._give_up[0][0] < now else None

    def ordered(self, now: float, usual_s: float) -> Iterator[Entry]:
        """Who is next: by priority; then those that would miss their deadline if they waited `usual_s` more, least
        slack first; then by scope, the least served first; then by rank. Must not be changed meanwhile.

        Of many scopes of one priority only the first few are told.
        """
        for priority in reversed(self._priorities):
            level = self._levels[priority]
            told = set()
            for start_by, number in level.hurried:
                if start_by - now > usual_s:
                    break
                told.add(number)
                yield self._entries[number]
            for scope in self._scopes_in_turn(level):
                yield from (self._entries[number] for _, number in level.scopes[scope] if number not in told)

    def _scopes_in_turn(self, level: _Level) -> list[str]:
        if len(level.scopes) == 1:
            return list(level.scopes)
        shares, scopes = self._shares, level.scopes
        return heapq.nsmallest(_MAX_SCOPES_LOOKED_AT, scopes, key=lambda scope: (shares.of(scope), scopes[scope][0]))

    def work_s(self, priority: int) -> float:
        """Seconds of service that those of at least that priority will take, one after the other."""
        return sum(entry.service_s for entry in self if entry.waiter.priority >= priority)

    def ahead_s(self, new: Entry) -> float:
        """Seconds of service that would probably come before a new one.

        Of its own scope all, of each other scope no more than of its own, for turns are fair between them. A deadline
        lets it pass all but those of its priority that are in a greater hurry.
        """
        higher_s = hurried_s = 0.0
        by_scope: dict[str, float] = {}
        for entry in self:
            if entry.waiter.priority > new.waiter.priority:
                higher_s += entry.service_s
            elif entry.waiter.priority == new.waiter.priority:
                scope = entry.waiter.scope
                by_scope[scope] = by_scope.get(scope, 0.0) + entry.service_s
                hurried_s += entry.service_s if entry.start_by <= new.start_by else 0.0
        own_s = by_scope.pop(new.waiter.scope, 0.0)
        fair_s = own_s + sum(min(work_s, own_s + new.service_s) for work_s in by_scope.values())
        return higher_s + min(fair_s, hurried_s)

    def to_push_out(self, new: Entry) -> Entry | None:
        """Who must leave a full queue for the new one: the least urgent, if it is less urgent than the new one."""
        refusable = [entry for entry in self if entry.is_refusable]
        lowest = min((entry.waiter.priority for entry in refusable), default=new.waiter.priority)
        peers = [entry for entry in refusable if entry.waiter.priority == lowest]
        if not peers or lowest > new.waiter.priority:
            return None
        relaxed = [entry for entry in peers if entry.start_by == math.inf]
        if not relaxed:
            laxest = max(peers, key=attrgetter("start_by"))
            return laxest if lowest < new.waiter.priority or laxest.start_by > new.start_by else None
        last = self._last_of_largest_scope(relaxed)
        is_less_urgent = lowest < new.waiter.priority or new.start_by < math.inf
        return last if is_less_urgent or self._has_fewer(new.waiter.scope, last.waiter.scope) else None

    def _last_of_largest_scope(self, entries: list[Entry]) -> Entry:
        """So that a scope that floods the queue loses its own, not others'."""
        return max(entries, key=lambda entry: (self._n_by_scope[entry.waiter.scope], entry.rank))

    def _has_fewer(self, scope: str, other: str) -> bool:
        """Whether one more of the scope would still be fewer than the other's now."""
        return self._n_by_scope.get(scope, 0) + 1 < self._n_by_scope[other]


def _discard(ordered: list[_Sorted], value: _Sorted) -> None:
    at = bisect_left(ordered, value)
    if at < len(ordered) and ordered[at] == value:
        del ordered[at]
