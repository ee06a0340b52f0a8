"""What must still be written to the store, and what if the store is away?"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from echo_proxy.errors import StoreUnavailable
from echo_proxy.online.admit import same_answer, twins_of
from echo_proxy.pipeline import Settled
from echo_proxy.policy import Policy
from echo_proxy.protocols import Store
from echo_proxy.telemetry.counts import Counts
from echo_proxy.types import Example, Increment

log = logging.getLogger("echo_proxy")

_BATCH = 16
"""Settlements written side by side. guess, not yet measured"""


class Outbox:
    """Settled outcomes on their way to the store, in order of arrival; bounded, retried, never silent about a loss."""

    def __init__(self, store: Store, counts: Counts, max_pending: int) -> None:
        self._store = store
        self._counts = counts
        self._max_pending = max_pending
        self._waiting: deque[tuple[Settled, Policy]] = deque()
        self.arrived = asyncio.Event()
        """Set when there is something to write."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, settled: Settled, policy: Policy) -> None:
        """Queue an outcome; when the queue is full the oldest is dropped and counted."""
        if len(self._waiting) >= self._max_pending:
            dropped, _ = self._waiting.popleft()
            self._counts.add(dropped.settlement.record.scope, "dropped_outcomes")
            log.warning("outcome of decision %s dropped: %d are waiting", dropped.settlement.record.id, len(self))
        self._waiting.append((settled, policy))
        self.arrived.set()

    def unwritten(self) -> Iterator[Increment]:
        """Increments that the store does not have yet."""
        for settled, _ in self._waiting:
            yield from settled.settlement.increments

    async def flush(self) -> None:
        """Write what waits. Raises StoreUnavailable; what was not written waits on."""
        self.arrived.clear()
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            try:
                results = await asyncio.gather(
                    *(self._write(settled, policy) for settled, policy in batch), return_exceptions=True
                )
            except asyncio.CancelledError:  # the worker stops; writing twice changes nothing
                self._waiting.extendleft(reversed(batch))
                raise
            self._sort_out(batch, results)

    def _sort_out(self, batch: Sequence[tuple[Settled, Policy]], results: Sequence[BaseException | None]) -> None:
        """Queue again what the store could not be reached for, and raise that; drop and count what it refused."""
        away: StoreUnavailable | None = None
        for pair, result in reversed(list(zip(batch, results, strict=True))):
            if isinstance(result, StoreUnavailable):
                self._waiting.appendleft(pair)
                away = result
            elif result is not None:
                record = pair[0].settlement.record
                self._counts.add(record.scope, "dropped_outcomes")
                log.error("outcome of decision %s cannot be written", record.id, exc_info=result)
        if away is not None:
            raise away

    async def _write(self, settled: Settled, policy: Policy) -> None:
        """Example first, then the settlement: both can be repeated, and the record never names a lost example."""
        settlement = settled.settlement
        if settled.example is not None:
            kept = await self._keep(settled.example, policy)
            settlement = replace(settlement, record=replace(settlement.record, admitted_id=kept))
        await self._store.settle(settlement)
        if settled.turn is not None:
            turn = settled.turn
            await self._store.remember_turn(turn.conversation, turn.deployment, turn.ttl_s)

    async def _keep(self, example: Example, policy: Policy) -> str:
        """Id of the stored example that holds the answer from now on."""
        twins = await twins_of(example, policy, self._store)
        known = same_answer(example, twins)
        if known is not None:
            self._counts.add(example.scope, "refused:duplicate")
            return known.id
        await self._store.add(example)
        if twins:
            await self._store.remove([twin.id for twin in twins])
        self._counts.add(example.scope, "admitted")
        return example.id
