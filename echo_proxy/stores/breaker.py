"""A store that does not answer is left alone for a moment, so that it does not cost every request its deadline."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from echo_proxy.errors import StoreUnavailable
from echo_proxy.protocols import Clock, Store
from echo_proxy.types import (
    ArmKey,
    ArmSums,
    Candidate,
    DecisionRecord,
    Example,
    ExamplePage,
    Held,
    HoldingsPage,
    Lease,
    LessonPage,
    Load,
    Observation,
    Query,
    Settlement,
    StoreStatus,
    UpkeepRun,
    Which,
)

T = TypeVar("T")

_SLOW_S = 0.02
"""A call that was cancelled after more than this counts as a failure: the plan's deadline is shorter than a socket's
timeout, so of a black-holed server nothing else is ever seen. Ten times a search. guess, not yet measured"""


class BreakerStore:
    """Any Store behind a circuit breaker.

    After max_failures in a row every call raises StoreUnavailable at once for open_s; then one call is let through, and
    what becomes of it decides.
    """

    def __init__(self, store: Store, clock: Clock, *, max_failures: int = 3, open_s: float = 1.0) -> None:
        self._store = store
        self._clock = clock
        self._max_failures = max_failures
        self._open_s = open_s
        self._n_failures = 0
        self._retry_at = 0.0

    async def open(self) -> None:
        """As the store; success closes the breaker."""
        await self._store.open()
        self._n_failures = 0

    async def close(self) -> None:
        """As the store."""
        await self._store.close()

    async def status(self) -> StoreStatus:
        """As the store; asks it even while the breaker is open."""
        return await self._store.status()

    async def nearest(self, query: Query) -> tuple[Candidate, ...]:
        """As the store."""
        return await self._guard(lambda: self._store.nearest(query))

    async def add(self, example: Example) -> None:
        """As the store."""
        await self._guard(lambda: self._store.add(example))

    async def get(self, example_id: str) -> Example | None:
        """As the store."""
        return await self._guard(lambda: self._store.get(example_id))

    async def page(self, scope: str | None, offset: int, limit: int) -> tuple[Example, ...]:
        """As the store."""
        return await self._guard(lambda: self._store.page(scope, offset, limit))

    async def remove(self, example_ids: Sequence[str], lease: Lease | None = None) -> int:
        """As the store."""
        return await self._guard(lambda: self._store.remove(example_ids, lease))

    async def add_many(self, examples: Sequence[Example]) -> None:
        """As the store."""
        await self._guard(lambda: self._store.add_many(examples))

    async def change(self, before: Example, after: Example, lease: Lease | None = None) -> bool:
        """As the store."""
        return await self._guard(lambda: self._store.change(before, after, lease))

    async def observe(self, example_id: str, version: int, seen: Observation) -> bool:
        """As the store."""
        return await self._guard(lambda: self._store.observe(example_id, version, seen))

    async def held_by(self, writer: str) -> Held:
        """As the store."""
        return await self._guard(lambda: self._store.held_by(writer))

    async def find(self, which: Which, cursor: str, limit: int) -> ExamplePage:
        """As the store."""
        return await self._guard(lambda: self._store.find(which, cursor, limit))

    async def holdings(self, cursor: str, limit: int) -> HoldingsPage:
        """As the store."""
        return await self._guard(lambda: self._store.holdings(cursor, limit))

    async def take_lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """As the store."""
        return await self._guard(lambda: self._store.take_lease(name, holder, ttl_s))

    async def keep_lease(self, lease: Lease, ttl_s: float) -> bool:
        """As the store."""
        return await self._guard(lambda: self._store.keep_lease(lease, ttl_s))

    async def drop_lease(self, lease: Lease) -> None:
        """As the store."""
        await self._guard(lambda: self._store.drop_lease(lease))

    async def note_run(self, run: UpkeepRun) -> None:
        """As the store."""
        await self._guard(lambda: self._store.note_run(run))

    async def runs(self, limit: int) -> tuple[UpkeepRun, ...]:
        """As the store."""
        return await self._guard(lambda: self._store.runs(limit))

    async def put_note(self, name: str, text: str) -> None:
        """As the store."""
        await self._guard(lambda: self._store.put_note(name, text))

    async def note(self, name: str) -> str:
        """As the store."""
        return await self._guard(lambda: self._store.note(name))

    async def settle(self, settlement: Settlement) -> bool:
        """As the store."""
        return await self._guard(lambda: self._store.settle(settlement))

    async def decision(self, decision_id: str) -> DecisionRecord | None:
        """As the store."""
        return await self._guard(lambda: self._store.decision(decision_id))

    async def decisions(self, scope: str | None, limit: int) -> tuple[DecisionRecord, ...]:
        """As the store."""
        return await self._guard(lambda: self._store.decisions(scope, limit))

    async def sums(self) -> Mapping[ArmKey, ArmSums]:
        """As the store."""
        return await self._guard(self._store.sums)

    async def lessons(self, cursor: str, limit: int) -> LessonPage:
        """As the store."""
        return await self._guard(lambda: self._store.lessons(cursor, limit))

    async def report_loads(self, worker: str, loads: Mapping[str, Load], ttl_s: float) -> None:
        """As the store."""
        await self._guard(lambda: self._store.report_loads(worker, loads, ttl_s))

    async def loads(self) -> Mapping[str, Mapping[str, Load]]:
        """As the store."""
        return await self._guard(self._store.loads)

    async def remember_turn(self, conversation: str, deployment: str, ttl_s: float) -> None:
        """As the store."""
        await self._guard(lambda: self._store.remember_turn(conversation, deployment, ttl_s))

    async def last_turn(self, conversation: str) -> str:
        """As the store."""
        return await self._guard(lambda: self._store.last_turn(conversation))

    async def count(self, counters: Mapping[tuple[str, str], float]) -> None:
        """As the store."""
        await self._guard(lambda: self._store.count(counters))

    async def counters(self, scope: str | None) -> Mapping[str, float]:
        """As the store."""
        return await self._guard(lambda: self._store.counters(scope))

    async def _guard(self, call: Callable[[], Awaitable[T]]) -> T:
        self._admit()
        started = self._clock.monotonic()
        try:
            result = await call()
        except StoreUnavailable:
            self._failed()
            raise
        except asyncio.CancelledError:
            if self._clock.monotonic() - started > _SLOW_S:
                self._failed()
            raise
        self._n_failures = 0
        return result

    def _admit(self) -> None:
        """Raises StoreUnavailable while the breaker is open; after that, lets one trial through per open_s."""
        if self._n_failures < self._max_failures:
            return
        wait_s = self._retry_at - self._clock.monotonic()
        if wait_s > 0:
            raise StoreUnavailable(f"the store failed {self._n_failures} times in a row; tried again in {wait_s:.1f} s")
        self._retry_at = self._clock.monotonic() + self._open_s

    def _failed(self) -> None:
        self._n_failures += 1
        self._retry_at = self._clock.monotonic() + self._open_s
