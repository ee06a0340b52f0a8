"""One policy at work in one worker: plans, settles, takes feedback, and keeps what it knows fresh."""

import asyncio
import logging
import os
import secrets
from collections.abc import Collection, Sequence
from dataclasses import replace

from echo_proxy.beside import Beside, Models
from echo_proxy.errors import FAULTS, FeedbackRefused, StoreError, StoreUnavailable
from echo_proxy.fitting import Fitting
from echo_proxy.online.measure import Answer
from echo_proxy.online.receive import receive
from echo_proxy.online.sample import Heard
from echo_proxy.outbox import Outbox
from echo_proxy.pipeline import Parts, amend, plan, reroute, revise, settle
from echo_proxy.policy import Policy
from echo_proxy.protocols import UtilityModel
from echo_proxy.telemetry.counts import EVERYONE, Counts
from echo_proxy.types import (
    Amendment,
    Attempt,
    Call,
    DecisionRecord,
    Feedback,
    Lesson,
    PassThrough,
    Plan,
    Settlement,
)

log = logging.getLogger("echo_proxy")

_LESSONS = 500
"""Lessons read at once."""
_AT_ONCE = 50
"""Lessons learned before requests have their turn. # guess, not yet measured"""
_LOADS_TTL_S = 10.0
"""A worker that has not told its loads for so long is taken for dead."""

_FEEDBACK_TRIES = 8
"""Concurrent feedback on one decision is rare; more conflicts than this would be a bug."""
_MOST_REVISIONS = 21
"""The first, and twenty that feedback may add. # guess, not yet measured"""


class Lane:
    """What one policy does in one worker. Belongs to one event loop."""

    def __init__(self, parts: Parts, max_pending: int) -> None:
        self.parts = parts
        self.counts = Counts()
        self.outbox = Outbox(parts.store, self.counts, max_pending)
        self.fitting = Fitting(lambda: self.parts, self.counts)
        self.is_open = False
        """The store has been opened."""
        self.beside: Beside | None = None
        """Judge and shadow calls; None where nobody can be asked."""
        self._worker = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._cursor = ""

    @property
    def policy(self) -> Policy:
        """The policy as it is now; a reload replaces it."""
        return self.parts.policy

    def adopt(self, policy: Policy, utility: UtilityModel) -> None:
        """Go on by a new version of the policy; the models are fitted to it next."""
        self.parts = replace(self.parts, policy=policy, utility=utility)
        self.parts.knowledge.adopt(policy)

    # ------------------------------------------------------------------ before the call

    async def plan(self, call: Call, available: Collection[str]) -> Plan | PassThrough:
        """The plan for a call, or why there is none. Raises TimeoutError beyond the policy's deadline."""
        request = receive(call, self.policy, self.parts.clock.now())
        if isinstance(request, PassThrough):
            self.counts.add(EVERYONE, f"pass:{request.reason}")
            return request
        async with asyncio.timeout(self.policy.deadline_s):
            made = await plan(request, available, self.parts)
        if made is None:
            return self.bypass("no_arm_available", request.scope)
        for reason in made.bypasses:
            self.bypass(reason, request.scope)
        self._start(made)
        return made

    def _start(self, made: Plan) -> None:
        """From now on the deployment is busier; in shadow mode somebody else chooses it."""
        if not made.is_shadow:
            deployment, now = made.decision.arm.deployment, self.parts.clock.now()
            self.parts.knowledge.board.start(made.request.decision_id, deployment, now)

    def reroute(self, before: Plan, available: Collection[str]) -> Plan | None:
        """The plan after a failed attempt; None when no arm is left."""
        made = reroute(before, available, self.parts)
        if made is not None:
            self._start(made)
        return made

    def give_up(self, made: Plan) -> None:
        """Its outcome will never be known."""
        self.counts.add(made.request.scope, "unsettled")
        self.parts.knowledge.board.end(made.request.decision_id, None)

    def bypass(self, reason: str, scope: str = EVERYONE) -> PassThrough:
        """Count a step or a call that went on without us."""
        self.counts.add(scope, f"bypass:{reason}")
        return PassThrough(reason)

    # ------------------------------------------------------------------ after the answer

    def settle(self, made: Plan, answer: Answer, attempts: Sequence[Attempt]) -> None:
        """Learn from an answer; the store hears of it in the background. What must not be lost comes first."""
        settled = settle(made, answer, attempts, self.policy)
        record = settled.settlement.record
        self.outbox.put(settled, self.policy)
        self.parts.knowledge.board.end(record.id, record.latency_s if record.is_acted else None)
        self._count(record, settled.refusal)
        if self.beside is not None:
            self.beside.put(settled.judge_call)
            self.beside.put(settled.shadow_call)
        self._learn(settled.settlement)

    def _learn(self, settlement: Settlement) -> None:
        """At once, without waiting for the store."""
        try:
            self.parts.knowledge.absorb(settlement.increments)
            self._study([settlement.lesson] if settlement.lesson is not None else [])
        except FAULTS as error:
            self.counts.add(EVERYONE, "learning_failed")
            log.warning("decision %s: what came of it cannot be learned: %r", settlement.record.id, error)

    def _study(self, lessons: Sequence[Lesson | Amendment]) -> None:
        n_odd = self.parts.knowledge.study(lessons)
        if n_odd:
            self.counts.add(EVERYONE, "lessons_skipped", n_odd)

    def _count(self, record: DecisionRecord, refusal: str | None) -> None:
        scope = record.scope
        for name, amount in (
            ("decisions", 1.0),
            (f"arm:{record.arm}" if record.is_acted else "served_by_other", 1.0),
            ("examples_used", float(record.n_examples)),
            ("prompt_tokens", float(record.prompt_tokens)),
            ("completion_tokens", float(record.completion_tokens)),
            ("cost_usd", record.cost_usd),
            ("latency_s", record.latency_s),
        ):
            self.counts.add(scope, name, amount)
        if refusal:
            self.counts.add(scope, f"refused:{refusal}")

    async def take_feedback(self, decision_id: str, feedback: Feedback) -> DecisionRecord | None:
        """The revised record, or None when the decision is unknown; what was said before changes nothing.

        Raises StoreUnavailable, and FeedbackRefused when the decision was judged anew too often: every revision is
        written, learned by all workers and kept.
        """
        for _ in range(_FEEDBACK_TRIES):
            record = await self.parts.store.decision(decision_id)
            if record is None:
                return None
            if feedback.score == record.feedback and feedback.comment in ("", record.explanation.get("comment")):
                return record
            if record.revision >= _MOST_REVISIONS:
                raise FeedbackRefused(
                    f"expected at most {_MOST_REVISIONS - 1} changes of a decision, {decision_id} has had as many"
                )
            settlement = revise(record, feedback, self.policy)
            if await self.parts.store.settle(settlement):
                await self._after_feedback(record, settlement.record, feedback)
                self._learn(settlement)
                return settlement.record
        raise StoreUnavailable(f"feedback on {decision_id} met {_FEEDBACK_TRIES} concurrent changes; try again")

    async def take_heard(self, heard: Heard) -> bool:
        """Learn what a judge or a second arm said; False when the decision is unknown. Raises StoreError."""
        for _ in range(_FEEDBACK_TRIES):
            record = await self.parts.store.decision(heard.decision_id)
            if record is None:
                return False
            if heard.signals.keys() <= record.signals.keys():  # brought before
                return True
            settlement = amend(record, heard, self.policy)
            if await self.parts.store.settle(settlement):
                self._learn(settlement)
                return True
        raise StoreUnavailable(f"what was heard of {heard.decision_id} met {_FEEDBACK_TRIES} concurrent changes")

    async def _after_feedback(self, before: DecisionRecord, record: DecisionRecord, feedback: Feedback) -> None:
        earlier = before.feedback
        if earlier is None:
            self.counts.add(record.scope, "feedback")
            self.counts.add(record.scope, f"feedback:{record.arm}")
        self.counts.add(record.scope, f"feedback_score:{record.arm}", feedback.score - (earlier or 0.0))
        if feedback.score < self.policy.admission.min_feedback and record.admitted_id:
            self.counts.add(record.scope, "forgotten", await self.parts.store.remove([record.admitted_id]))

    # ------------------------------------------------------------------ beside the path

    def ask_by(self, models: Models) -> None:
        """From now on judge and shadow calls can be made."""
        self.beside = Beside(models, self.take_heard, self.counts, self.parts.clock)

    async def write(self) -> bool:
        """Bring outcomes and counts to the store; False when it is away."""
        try:
            await self.outbox.flush()
            await self._write_counts()
        except StoreUnavailable:
            return False
        except StoreError as error:
            log.error("policy %s: the store refuses what it is sent, it is tried again: %s", self.policy.name, error)
            return False
        return True

    async def _write_counts(self) -> None:
        """Also when it is cancelled, as at a stop, what was not written is kept."""
        counts, is_written = self.counts.take(), False
        try:
            if counts:
                await self.parts.store.count(counts)
            is_written = True
        finally:
            if not is_written:
                self.counts.restore(counts)

    async def read(self) -> bool:
        """Take over what all workers have learned; False when the store is away."""
        try:
            sums = await self.parts.store.sums()
            await self._read_lessons()
            await self._share_loads()
            await self._share_budgets()
        except StoreUnavailable:
            return False
        except StoreError as error:
            log.error("policy %s: the store does not tell what was learned: %s", self.policy.name, error)
            return False
        self.parts.knowledge.replace(sums, self.outbox.unwritten())
        return True

    async def _read_lessons(self) -> None:
        """What all workers have learned since the last time."""
        while True:
            page = await self.parts.store.lessons(self._cursor, _LESSONS)
            self._cursor = page.cursor
            for start in range(0, len(page.lessons), _AT_ONCE):
                self._study(page.lessons[start : start + _AT_ONCE])
                await asyncio.sleep(0)
            if not page.lessons:
                return

    async def _share_loads(self) -> None:
        board, now = self.parts.knowledge.board, self.parts.clock.now()
        await self.parts.store.report_loads(self._worker, board.own(now), _LOADS_TTL_S)
        told = await self.parts.store.loads()
        board.hear([loads for worker, loads in told.items() if worker != self._worker])

    async def _share_budgets(self) -> None:
        """What all workers have spent beside the path today."""
        if self.beside is not None and (self.policy.judge.sampled or self.policy.shadow):
            self.beside.hear(await self.parts.store.counters(EVERYONE))
