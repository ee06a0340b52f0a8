"""What must still be written to the store, and what if the store is away?"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from echo_proxy.admission.approval import approval_call
from echo_proxy.admission.gate import Admission, Arrival, Gate
from echo_proxy.admission.telling import cleaned
from echo_proxy.errors import StoreUnavailable
from echo_proxy.online.sample import JudgeCall
from echo_proxy.pipeline import Settled
from echo_proxy.policy import Policy
from echo_proxy.protocols import Store
from echo_proxy.telemetry.counts import Counts
from echo_proxy.types import DecisionRecord, Increment, Settlement

log = logging.getLogger("echo_proxy")

_BATCH = 16
"""Settlements written side by side. guess, not yet measured"""


@dataclass(slots=True)
class _Waiting:
    """An outcome, and how far it has come."""

    settled: Settled
    policy: Policy
    made: Admission | None = None
    """What became of its example. It arrives once: what is forgotten before the settlement is repeated stays so."""
    ready: Settlement | None = None
    """The settlement as it may be written; None until its texts have been cleaned."""

    @property
    def record(self) -> DecisionRecord:
        return self.settled.settlement.record


class Outbox:
    """Settled outcomes on their way to the store, in order of arrival; bounded, retried, never silent about a loss."""

    def __init__(self, store: Store, gate: Gate, counts: Counts, max_pending: int) -> None:
        self._store = store
        self._gate = gate
        self._counts = counts
        self._max_pending = max_pending
        self._waiting: deque[_Waiting] = deque()
        self.arrived = asyncio.Event()
        """Set when there is something to write."""
        self.judge: Callable[[JudgeCall], None] | None = None
        """Asks about examples in quarantine; None where nobody can be asked."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, settled: Settled, policy: Policy) -> None:
        """Queue an outcome; when the queue is full the oldest is dropped and counted."""
        if len(self._waiting) >= self._max_pending:
            dropped = self._waiting.popleft().record
            self._counts.add(dropped.scope, "dropped_outcomes")
            log.warning("outcome of decision %s dropped: %d are waiting", dropped.id, len(self))
        self._waiting.append(_Waiting(settled, policy))
        self.arrived.set()

    def unwritten(self) -> Iterator[Increment]:
        """Increments that the store does not have yet."""
        for one in self._waiting:
            yield from one.settled.settlement.increments

    async def flush(self) -> None:
        """Write what waits. Raises StoreUnavailable; what was not written waits on."""
        self.arrived.clear()
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            try:
                results = await asyncio.gather(*(self._write(one) for one in batch), return_exceptions=True)
            except asyncio.CancelledError:  # the worker stops; writing twice changes nothing
                self._waiting.extendleft(reversed(batch))
                raise
            self._sort_out(batch, results)

    def _sort_out(self, batch: Sequence[_Waiting], results: Sequence[BaseException | None]) -> None:
        """Queue again what the store could not be reached for, and raise that; drop and count what it refused."""
        away: StoreUnavailable | None = None
        for one, result in reversed(list(zip(batch, results, strict=True))):
            if isinstance(result, StoreUnavailable):
                self._waiting.appendleft(one)
                away = result
            elif result is not None:
                self._counts.add(one.record.scope, "dropped_outcomes")
                log.error("outcome of decision %s cannot be written", one.record.id, exc_info=result)
        if away is not None:
            raise away

    async def _write(self, one: _Waiting) -> None:
        """Example first, then the settlement: it can be repeated, and the record never names a lost example."""
        settled, policy = one.settled, one.policy
        if settled.example is not None and one.made is None:
            one.made = await self._gate.admit(
                Arrival(settled.example, settled.asked, settled.wider, team=settled.team), policy
            )
        if one.ready is None:
            one.ready = await self._cleaned(settled, policy)
        settlement, made = one.ready, one.made
        if made is not None:
            settlement = replace(settlement, record=replace(settlement.record, admitted_id=made.example_id))
        is_new = await self._store.settle(settlement)
        if made is not None:
            self._count(made, settlement.record.scope)
            self._ask_about(made, settled, policy)
        if is_new and settled.seen is not None:  # noted twice it would count twice
            seen = settled.seen
            await self._store.observe(seen.example_id, seen.version, seen.observation)
        if settled.turn is not None:
            turn = settled.turn
            await self._store.remember_turn(turn.conversation, turn.deployment, turn.ttl_s)

    async def _cleaned(self, settled: Settled, policy: Policy) -> Settlement:
        """What a record may tell; texts that cannot be cleaned cost the record its texts, not its settlement."""
        cleared = await cleaned(settled.settlement, settled.asked, policy.admission.privacy)
        if cleared.is_failed:
            self._counts.add(cleared.settlement.record.scope, "texts_dropped")
        return cleared.settlement

    def _count(self, made: Admission, scope: str) -> None:
        self._counts.add(scope, f"refused:{made.refusal}" if made.refusal else "admitted")
        for name in made.counts:
            self._counts.add(scope, name)

    def _ask_about(self, made: Admission, settled: Settled, policy: Policy) -> None:
        """Whether others' examples may leave quarantine, now that somebody else has asked the same."""
        record = settled.settlement.record
        for doubted in made.doubted:
            call = approval_call(doubted, record.id, record.caller, policy)
            if call is not None and self.judge is not None:
                self.judge(call)
