"""What does one round of upkeep do? Expiry, eviction, replay, coverage: in this order, under one lease and one budget.

Exactly one process of all does it. Whatever its ending, what it did is noted in the store, except when it did nothing
because another one is at work or the last round is not long ago.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from echo_proxy.beside import Models
from echo_proxy.errors import EchoProxyError, LeaseLost, StoreError
from echo_proxy.online.receive import new_id
from echo_proxy.policy import Policy
from echo_proxy.protocols import Clock, Embedder, Store
from echo_proxy.telemetry.counts import EVERYONE
from echo_proxy.types import Json, Lease, UpkeepRun
from echo_proxy.upkeep.asking import Asker, teacher_of
from echo_proxy.upkeep.budget import Budget
from echo_proxy.upkeep.coverage import clusters_of
from echo_proxy.upkeep.evict import act, plan_eviction
from echo_proxy.upkeep.fill import Fill
from echo_proxy.upkeep.idle import Idle, ReadLoads, Wait
from echo_proxy.upkeep.lease import LEASE_S, NAME, under_lease
from echo_proxy.upkeep.progress import Progress
from echo_proxy.upkeep.replay import Replay
from echo_proxy.upkeep.unaided import unaided_answers

log = logging.getLogger("echo_proxy")

Work = Literal["evict", "replay", "coverage"]
ALL_WORK: frozenset[Work] = frozenset(("evict", "replay", "coverage"))
BUSY, NOT_DUE, LOST = "busy", "not_due", "lease_lost"
"""Endings of rounds that did nothing because another is at work, or because one was done of late; and of one whose
lease went to another."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a round works with."""

    policy: Policy
    store: Store
    embedder: Embedder
    clock: Clock
    models: Models | None
    """None where nobody can be asked: then nothing is replayed or filled."""
    loads: ReadLoads
    progress: Progress
    wait: Wait = asyncio.sleep
    keep_wait: Wait = asyncio.sleep
    """How to wait before the lease is prolonged."""


@dataclass(frozen=True, slots=True)
class RoundOptions:
    """What is asked of a round."""

    work: frozenset[Work] = ALL_WORK
    usd: float | None = None
    """Instead of the policy's `usd_per_round`."""
    seconds: float | None = None
    """Instead of the policy's `seconds_per_round`."""
    every_s: float | None = None
    """Nothing is done unless the last round ended so long ago; None = whenever asked."""


@dataclass(slots=True)
class _Done:
    budget: Budget
    report: dict[str, Json] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    is_budget_spent: bool = False


async def run_round(tools: Tools, options: RoundOptions, holder: str) -> UpkeepRun:
    """The round, also when it failed: then its ending names the error and the report holds its words.

    Raises StoreError when the store is away before it has begun.
    """
    started_at = tools.clock.now()
    nothing = UpkeepRun(new_id(started_at), started_at, started_at, holder, BUSY, 0.0, {})
    if not await is_due(tools.store, options.every_s, started_at):
        return replace(nothing, ending=NOT_DUE)
    lease = await tools.store.take_lease(NAME, holder, LEASE_S)
    if lease is None:
        return nothing
    try:
        # another may have ended its round between the first look and the lease
        if not await is_due(tools.store, options.every_s, started_at):
            return replace(nothing, ending=NOT_DUE)
        return await _under(lease, tools, options, nothing)
    finally:
        await _let_go(lease, tools.store)


async def is_due(store: Store, every_s: float | None, now: float) -> bool:
    """Whether the last round, by whomever, ended so long ago. Raises StoreUnavailable."""
    if every_s is None:
        return True
    last = await store.runs(1)
    return not last or now - last[0].ended_at >= every_s


async def _under(lease: Lease, tools: Tools, options: RoundOptions, empty: UpkeepRun) -> UpkeepRun:
    rules = tools.policy.upkeep
    usd = rules.usd_per_round if options.usd is None else options.usd
    seconds = rules.seconds_per_round if options.seconds is None else options.seconds
    done = _Done(Budget(usd, seconds, tools.clock))
    ending = "CancelledError"
    try:
        work = _Round(tools, options, lease, empty.started_at, done).run()
        await under_lease(work, lease, tools.store, tools.keep_wait)
        ending = "budget" if done.is_budget_spent else "done"
    except LeaseLost as error:
        ending = LOST
        done.report["error"] = str(error)
    except EchoProxyError as error:
        ending = type(error).__name__
        done.report["error"] = str(error)
    finally:  # also when it is cancelled, as at a stop of the proxy
        spent = done.budget.spent_usd
        made = replace(empty, ended_at=tools.clock.now(), ending=ending, cost_usd=spent, report=done.report)
        await _note(made, done, tools.store)
    return made


async def _note(run: UpkeepRun, done: _Done, store: Store) -> None:
    counts = {"rounds": 1.0, f"ended:{run.ending}": 1.0, "cost_usd": run.cost_usd, "calls": float(done.budget.n_calls)}
    try:
        await store.note_run(run)
        await store.count({(EVERYONE, f"upkeep:{name}"): n for name, n in {**counts, **done.counts}.items() if n})
    except StoreError as error:
        log.warning("a round of upkeep could not be noted: %s", error)


async def _let_go(lease: Lease, store: Store) -> None:
    try:
        await store.drop_lease(lease)
    except StoreError as error:  # it ends by itself
        log.warning("the lease of upkeep could not be dropped: %s", error)


class _Round:
    """The steps, in order."""

    def __init__(self, tools: Tools, options: RoundOptions, lease: Lease, started_at: float, done: _Done) -> None:
        self._tools = tools
        self._options = options
        self._lease = lease
        self._started_at = started_at
        self._done = done

    async def run(self) -> None:
        work, rules = self._options.work, self._tools.policy.upkeep
        if "evict" in work:
            await self._evict()
        if "replay" in work and rules.replay is not None:
            await self._replay()
        if "coverage" in work and rules.coverage is not None:
            await self._cover(rules.coverage.fill)

    async def _evict(self) -> None:
        """Expired examples, then those of least value beyond the writers' shares and the byte budget."""
        tools, rules, n_gone = self._tools, self._tools.policy, 0
        unaided = await unaided_answers(tools.store, rules.to_arms())
        share, utility = rules.admission.writer_share, rules.selection.utility
        plan = await plan_eviction(tools.store, rules.upkeep, self._started_at, share, utility, unaided)
        tools.progress.begin("evict", len(plan.ids))
        try:
            async for n in act(tools.store, plan, self._lease):
                n_gone += n
                tools.progress.step("evict", n)
        finally:
            self._tell("evict", {**plan.to_json(), "n_gone": n_gone}, {"dropped": n_gone})
        tools.progress.tell(f"{n_gone} of {plan.n_examples} examples dropped, {plan.n_expired} of them expired")

    async def _replay(self) -> None:
        tools, asker = self._tools, self._asker()
        if asker is None:
            self._tell("replay", {"skipped": self._why_nobody()}, {})
            return
        replay = Replay(tools.policy, tools.store, asker, self._done.budget, tools.clock)
        try:
            await replay.run(self._lease, self._started_at, tools.progress)
        finally:
            tally = replay.tally
            self._done.is_budget_spent |= tally.ended_by == "budget"
            counts = {"replayed": tally.n_replayed, "improved": tally.n_improved, "replay_failed": tally.n_failed}
            self._tell("replay", tally.to_json(), counts)

    async def _cover(self, is_filled: bool) -> None:
        tools, asker = self._tools, self._asker()
        clusters = await clusters_of(tools.store, tools.policy)
        report: dict[str, Json] = {"clusters": [one.to_json() for one in clusters]}
        self._tell("coverage", report, {})
        if not is_filled:
            return
        if asker is None:
            report["skipped"] = self._why_nobody()
            return
        fill = Fill(tools.policy, tools.store, asker, tools.embedder, tools.clock)
        try:
            await fill.run(clusters, self._lease, tools.progress)
        finally:
            self._done.is_budget_spent |= fill.tally.ended_by == "budget"
            told: dict[str, Json] = {"n_filled": fill.tally.n_filled, "left_out": dict(fill.tally.left_out)}
            self._tell("coverage", {**report, **told}, {"filled": fill.tally.n_filled})

    def _asker(self) -> Asker | None:
        """None when nobody can be asked."""
        tools = self._tools
        teacher = teacher_of(tools.policy)
        if tools.models is None or not teacher:
            return None
        idle = Idle(teacher, tools.policy.upkeep, tools.loads, tools.wait)
        return Asker(tools.models, tools.policy, self._done.budget, idle)

    def _why_nobody(self) -> str:
        return "no models to ask" if teacher_of(self._tools.policy) else "no arm is a teacher"

    def _tell(self, work: str, report: Mapping[str, Json], counts: Mapping[str, int]) -> None:
        self._done.report[work] = dict(report)
        self._done.counts |= {name: float(n) for name, n in counts.items()}
