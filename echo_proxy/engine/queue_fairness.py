"""Which scope has been served least of late? Virtual counters of tokens, decayed.

After Sheng et al. 2024, Fairness in Serving Large Language Models (Virtual Token Counter),
https://arxiv.org/abs/2401.00588. Two changes: the answer is charged when it begins, as predicted, and settled when it
ends; and counters fade, so that yesterday's load costs nobody today's turn.
"""

import heapq
from collections.abc import Collection
from dataclasses import dataclass

from echo_proxy.engine.queue_records import Waiter

HALF_LIFE_S = 60.0
"""After so long half is forgotten. Guess, not yet measured."""
WRITTEN_WEIGHT = 2.0
"""A written token costs as much as so many that are read; the paper's."""
_MAX_SCOPES = 1024
_MAX_DOUBLINGS = 100.0


@dataclass(frozen=True, slots=True)
class _Charge:
    n_tokens: float
    """That it was expected to write."""
    n_done: int
    """That it had written before."""


class FairShare:
    """Counts what each scope was served. A higher counter means a later turn."""

    def __init__(self) -> None:
        self._served: dict[str, float] = {}
        """In units that grow by two every half-life, so that old ones fade without being touched."""
        self._charged: dict[int, _Charge] = {}
        self._since: float | None = None
        self._last_to_leave = ""

    def of(self, scope: str) -> float:
        """Its counter; comparable with others' only."""
        return self._served.get(scope, 0.0)

    def wake(self, scope: str, waiting: Collection[str]) -> None:
        """The scope waits again, beside these others; its absence earned it nothing."""
        floor = min(map(self.of, waiting)) if waiting else self.of(self._last_to_leave)
        self._served[scope] = max(self.of(scope), floor)
        if len(self._served) > _MAX_SCOPES:
            self._forget_least({*waiting, scope})

    def sleep(self, scope: str) -> None:
        """The last request of the scope has left the queue."""
        self._last_to_leave = scope

    def begin(self, waiter: Waiter, n_read: int, n_tokens: float, now: float) -> None:
        """A request begins: it reads so many tokens and will probably write so many."""
        self._charged[waiter.number] = _Charge(n_tokens, waiter.n_done)
        self._add(waiter.scope, n_read + WRITTEN_WEIGHT * n_tokens, now)

    def settle(self, waiter: Waiter, n_written: int, now: float) -> None:
        """A request ended or was paused, its whole answer having so many tokens: charge what was really written."""
        charge = self._charged.pop(waiter.number, None)
        if charge is not None:
            n_tokens = n_written - charge.n_done - charge.n_tokens
            self._add(waiter.scope, WRITTEN_WEIGHT * n_tokens, now)

    def keep_only(self, numbers: Collection[int]) -> None:
        """Forget what was begun but neither runs nor was settled; it counts as predicted."""
        self._charged = {number: charge for number, charge in self._charged.items() if number in numbers}

    def _add(self, scope: str, n_tokens: float, now: float) -> None:
        if self._since is None:
            self._since = now
        n_doublings = (now - self._since) / HALF_LIFE_S
        if n_doublings > _MAX_DOUBLINGS:  # long before a float overflows
            self._served = {one: count * 2.0**-n_doublings for one, count in self._served.items()}
            self._since, n_doublings = now, 0.0
        self._served[scope] = max(self.of(scope) + n_tokens * 2.0**n_doublings, 0.0)

    def _forget_least(self, needed: Collection[str]) -> None:
        """Small counters say nothing: whoever comes back is lifted to those that wait."""
        kept = heapq.nlargest(_MAX_SCOPES // 2, self._served, key=self.of)
        self._served = {scope: self.of(scope) for scope in {*kept, *needed}}
