"""Who is asked beside the path? A bounded queue of judge and shadow calls, worked off two at a time under a budget.

Nothing waits for this, and nothing here may cost the caller anything: a full queue, a spent budget, a model that is
away or a reply that is no verdict are counted, and that is all.
"""

import asyncio
import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from echo_proxy.answers.same import say_the_same
from echo_proxy.errors import FAULTS, AskError, StoreError
from echo_proxy.online.both_ways import Pair, both_ways
from echo_proxy.online.combine import VERDICTS
from echo_proxy.online.measure import WHOLE_REASONS
from echo_proxy.online.sample import Ask, Heard, JudgeCall, Reply, SameCall, ShadowCall
from echo_proxy.online.shadow import compare
from echo_proxy.protocols import Clock
from echo_proxy.telemetry.counts import EVERYONE, Counts

log = logging.getLogger("echo_proxy")

_AT_ONCE = 2
"""Calls under way in one worker."""
_MAX_WAITING = 100
_MAX_REMEMBERED = 1_000
"""Verdicts and the teacher's answers that are kept for the next time."""
_ASK_S = 60.0
"""Seconds for one call. # guess, not yet measured"""
_DELIVERY_WAITS_S = (0.2, 1.0, 5.0)
"""A verdict may come before its decision is written."""
_DAY_S = 86_400.0


class Models(Protocol):
    """Asks a model beside the path."""

    async def ask(self, ask: Ask) -> Reply:
        """Its answer. Raises AskError."""
        ...


T = TypeVar("T")
BesideCall = JudgeCall | ShadowCall | SameCall
_PURPOSES = {JudgeCall: "judge", ShadowCall: "shadow", SameCall: "same"}
"""As counts name them."""
_AS_GOOD = 0.5
"""A judge's share from which on the first answer is at least as good as the second."""
Deliver = Callable[[Heard], Awaitable[bool]]
"""Takes what was heard; False while the decision is not known. Raises StoreError."""


class DailyBudget:
    """What may be spent within a day (UTC), all workers together as far as they know of each other."""

    def __init__(self, purpose: str, clock: Clock) -> None:
        self._purpose = purpose
        self._clock = clock
        self._day = -1
        self._spent_usd = 0.0

    @property
    def counter(self) -> str:
        """Name of the count that adds up today's spending."""
        return f"{self._purpose}_usd@{time.strftime('%Y-%m-%d', time.gmtime(self._clock.now()))}"

    def allows(self, usd_per_day: float) -> bool:
        """Whether anything is left. Calls under way are not known yet, so it is overspent by two calls at most."""
        self._begin_day()
        return self._spent_usd < usd_per_day

    def spend(self, usd: float) -> None:
        """This worker has spent so much."""
        self._begin_day()
        self._spent_usd += usd

    def hear(self, counters: Mapping[str, float]) -> None:
        """What all workers have spent, as far as it was written, also before this one was started."""
        self._begin_day()
        self._spent_usd = max(self._spent_usd, counters.get(self.counter, 0.0))

    def _begin_day(self) -> None:
        day = int(self._clock.now() // _DAY_S)
        if day != self._day:
            self._day, self._spent_usd = day, 0.0


class _Spent(Exception):
    """The day's budget is used up."""


@dataclass(frozen=True, slots=True)
class _Purse:
    budget: DailyBudget
    usd_per_day: float
    purpose: str
    """judge or shadow."""


class Beside:
    """The calls beside the path of one policy in one worker. Belongs to one event loop."""

    def __init__(self, models: Models, deliver: Deliver, counts: Counts, clock: Clock) -> None:
        self._models = models
        self._deliver = deliver
        self._counts = counts
        self._budgets = {purpose: DailyBudget(purpose, clock) for purpose in ("judge", "shadow")}
        self._waiting: asyncio.Queue[BesideCall] = asyncio.Queue(_MAX_WAITING)
        self._verdicts: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._references: OrderedDict[str, str] = OrderedDict()
        self.wait: Callable[[float], Awaitable[None]] = asyncio.sleep
        """How to wait before a delivery is tried again."""

    @property
    def n_waiting(self) -> int:
        """Calls that have not begun."""
        return self._waiting.qsize()

    @property
    def is_full(self) -> bool:
        """The next call would be dropped."""
        return self._waiting.full()

    def put(self, call: BesideCall | None) -> None:
        """Queue a call, if there is one; when the queue is full it is dropped and counted."""
        if call is None:
            return
        try:
            self._waiting.put_nowait(call)
        except asyncio.QueueFull:
            self._counts.add(call.scope, "beside_dropped")

    def hear(self, counters: Mapping[str, float]) -> None:
        """Take over what all workers have spent today, from the store's counts."""
        for budget in self._budgets.values():
            budget.hear(counters)

    async def run(self) -> None:
        """Work until cancelled; what waits then is dropped."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            await self.do(await self._waiting.get())

    async def do(self, call: BesideCall) -> None:
        """One call from its question to the delivery of what was learned; its failures are counted."""
        purpose = _PURPOSES[type(call)]
        try:
            await self._do(call, purpose)
        except FAULTS as error:  # an odd reply must not end all that is asked later; its words may be the prompt's
            self._counts.add(call.scope, f"{purpose}_failed")
            log.warning("decision %s: an odd %s answer: %s", call.decision_id, purpose, type(error).__name__)

    async def _do(self, call: BesideCall, purpose: str) -> None:
        try:
            heard = await self._hear(call)
        except _Spent:
            self._counts.add(call.scope, f"{purpose}_over_budget")
            return
        except (AskError, TimeoutError) as error:
            self._counts.add(call.scope, f"{purpose}_failed")
            log.warning("decision %s: no %s answer: %s", call.decision_id, purpose, error or type(error).__name__)
            return
        if heard is None:
            self._counts.add(call.scope, f"{purpose}_no_verdict")
            return
        self._counts.add(call.scope, f"{purpose}_answered")
        if heard.signals or heard.seen:
            await self._tell(call, heard)

    async def _hear(self, call: BesideCall) -> Heard | None:
        if isinstance(call, JudgeCall):
            return await self._judge(call)
        return await (self._same(call) if isinstance(call, SameCall) else self._shadow(call))

    # ------------------------------------------------------------------ judge

    async def _judge(self, call: JudgeCall) -> Heard | None:
        purse = _Purse(self._budgets["judge"], call.rules.usd_per_day, "judge")
        reference = call.reference or await self._reference(call, purse)
        key = _key(call.scope, call.rules.model_group, call.dialogue, call.answer, reference)
        verdict = self._verdicts.get(key)
        if verdict is not None:
            self._counts.add(call.scope, "judge_from_cache")
        else:
            pair = Pair(call.dialogue, call.answer, reference)
            verdict = await both_ways(pair, call.rules.model_group, lambda ask: self._ask(ask, purse))
            if verdict is None:
                return None
            _remember(self._verdicts, key, verdict)
        return Heard(call.decision_id, dict(zip(VERDICTS, verdict, strict=True)), approves=call.approves)

    async def _reference(self, call: JudgeCall | SameCall, purse: _Purse) -> str:
        asked = call.ask_reference
        turns = json.dumps([[turn.role, turn.content] for turn in asked.messages])  # as one text they may be another's
        key = _key(call.scope, asked.model_group, asked.deployment, turns, str(asked.wants_json))
        known = self._references.get(key)
        if known is not None:
            return known
        reply = await self._ask(asked, purse)
        if reply.finish_reason not in WHOLE_REASONS or not reply.text.strip():
            raise AskError(f"expected a whole answer to compare with, got finish reason {reply.finish_reason!r}")
        _remember(self._references, key, reply.text)
        return reply.text

    # ------------------------------------------------------------------ stored answers

    async def _same(self, call: SameCall) -> Heard:
        """Once the teacher's answer is known there is a label, whatever the judge does: one that is left out whenever
        the judge is away would leave more right ones than there are."""
        purse = _Purse(self._budgets["judge"], call.rules.usd_per_day, "judge")
        reference = call.reference or await self._reference(call, purse)
        same = say_the_same(call.answer.example.response, reference)
        if same is None:
            same = await self._is_as_good(call, reference, purse)
        return Heard(call.decision_id, {}, seen=call.seen(same), promotes=call.promotes if same else None)

    async def _is_as_good(self, call: SameCall, reference: str, purse: _Purse) -> bool:
        """Whether the judge finds so both ways round."""
        pair = Pair(call.dialogue, call.answer.example.response, reference)
        try:
            verdict = await both_ways(pair, call.rules.model_group, lambda ask: self._ask(ask, purse))
        except (_Spent, AskError, TimeoutError, *FAULTS):
            verdict = None
        if verdict is None:
            self._counts.add(call.scope, "same_unjudged")
        return verdict is not None and min(verdict) >= _AS_GOOD

    # ------------------------------------------------------------------ shadow

    async def _shadow(self, call: ShadowCall) -> Heard:
        assert call.policy.shadow is not None  # shadow_call has seen to it
        purse = _Purse(self._budgets["shadow"], call.policy.shadow.usd_per_day, "shadow")
        return compare(call, await self._ask(call.ask, purse))

    # ------------------------------------------------------------------ asking and telling

    async def _ask(self, ask: Ask, purse: _Purse) -> Reply:
        """Raises AskError, TimeoutError or _Spent."""
        if not purse.budget.allows(purse.usd_per_day):
            raise _Spent
        async with asyncio.timeout(_ASK_S):
            reply = await self._models.ask(ask)
        purse.budget.spend(reply.cost_usd)
        self._counts.add(EVERYONE, f"{purse.purpose}_cost_usd", reply.cost_usd)
        self._counts.add(EVERYONE, purse.budget.counter, reply.cost_usd)
        return reply

    async def _tell(self, call: BesideCall, heard: Heard) -> None:
        for wait_s in (*_DELIVERY_WAITS_S, None):
            try:
                if await self._deliver(heard):
                    return
            except StoreError:
                pass
            if wait_s is not None:
                await self.wait(wait_s)
        self._counts.add(call.scope, "beside_undelivered")


def _key(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8) + raw)
    return digest.hexdigest()


def _remember(kept: OrderedDict[str, T], key: str, value: T) -> None:
    kept[key] = value
    if len(kept) > _MAX_REMEMBERED:
        kept.popitem(last=False)
