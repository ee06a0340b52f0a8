"""What must still be written to the store, and what if the store is away?"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterator

from echo_proxy.errors import StoreError, StoreUnavailable
from echo_proxy.online.admit import twins_of
from echo_proxy.pipeline import Settled
from echo_proxy.policy import Policy
from echo_proxy.protocols import Store
from echo_proxy.telemetry.counts import Counts
from echo_proxy.types import Increment

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
            results = await asyncio.gather(
                *(self._write(settled, policy) for settled, policy in batch), return_exceptions=True
            )
            failed = [pair for pair, result in zip(batch, results, strict=True) if isinstance(result, StoreUnavailable)]
            self._waiting.extendleft(reversed(failed))
            for result in results:
                if isinstance(result, BaseException):
                    raise result

    async def _write(self, settled: Settled, policy: Policy) -> None:
        """Example first, then the settlement: both can be repeated, and the record never names a lost example."""
        scope = settled.settlement.record.scope
        try:
            if settled.example is not None:
                twins = await twins_of(settled.example, policy, self._store)
                await self._store.add(settled.example)
                if twins:
                    await self._store.remove(twins)
            await self._store.settle(settled.settlement)
        except StoreUnavailable:
            raise
        except StoreError:
            self._counts.add(scope, "dropped_outcomes")
            log.exception("outcome of decision %s cannot be written", settled.settlement.record.id)
