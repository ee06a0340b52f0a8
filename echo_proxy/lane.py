"""One policy at work in one worker: plans, settles, takes feedback, and keeps what it knows fresh.

A little over 300 lines: every way in which an outcome comes back changes the same counts, evidence and examples.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import Collection, Sequence
from dataclasses import replace

from echo_proxy.admission.approval import is_approved
from echo_proxy.admission.forget import forget_answer
from echo_proxy.admission.gate import Arrival, Gate
from echo_proxy.admission.telling import cleaned_comment
from echo_proxy.answers.observe import complained, complaint
from echo_proxy.beside import Beside, Models
from echo_proxy.errors import FAULTS, FeedbackRefused, StoreError, StoreUnavailable
from echo_proxy.fitting import Fitting
from echo_proxy.online.combine import VERDICTS
from echo_proxy.online.measure import Answer
from echo_proxy.online.promote import Promotion
from echo_proxy.online.receive import receive
from echo_proxy.online.sample import Approval, Heard
from echo_proxy.outbox import Outbox
from echo_proxy.pipeline import Parts, Settled, amend, plan, reroute, revise, settle
from echo_proxy.policy import Policy
from echo_proxy.protocols import UtilityModel
from echo_proxy.telemetry.counts import EVERYONE, Counts
from echo_proxy.types import (
    STORED,
    Amendment,
    Attempt,
    Call,
    DecisionRecord,
    Feedback,
    Lesson,
    PassThrough,
    Plan,
    SeenAnswer,
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
        self.gate = Gate(parts.store, parts.embedder, parts.clock)
        self.outbox = Outbox(parts.store, self.gate, self.counts, max_pending)
        self.fitting = Fitting(lambda: self.parts, self.counts)
        self.is_open = False
        """The store has been opened."""
        self.beside: Beside | None = None
        """Judge and shadow calls; None where nobody can be asked."""
        self.worker = f"{os.getpid()}-{secrets.token_hex(4)}"
        """Name of this process, different in every worker."""
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
        if made.answer is None or not made.answer.is_served:
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

    def call_off(self, made: Plan) -> None:
        """Its deployment is not asked, at least not now."""
        self.parts.knowledge.board.end(made.request.decision_id, None)

    def give_up(self, made: Plan) -> None:
        """Its outcome will never be known."""
        self.counts.add(made.request.scope, "unsettled")
        self.call_off(made)

    def bypass(self, reason: str, scope: str = EVERYONE) -> PassThrough:
        """Count a step or a call that went on without us."""
        self.counts.add(scope, f"bypass:{reason}")
        return PassThrough(reason)

    # ------------------------------------------------------------------ after the answer

    def settle(self, made: Plan, answer: Answer, attempts: Sequence[Attempt]) -> None:
        """Learn from an answer; the store hears of it in the background. What must not be lost comes first."""
        settled = self._told(settle(made, answer, attempts, self.policy))
        record = settled.settlement.record
        if settled.seen is not None:
            self.parts.pools.learn(record.id, settled.seen.observation.is_correct)
        self.outbox.put(settled, self.policy)
        self.parts.knowledge.board.end(record.id, record.latency_s if record.is_acted else None)
        self._count(record, settled.refusal)
        if record.served_by == STORED:
            is_own = made.answer is not None and made.answer.is_served
            self.counts.add(record.scope, "answered_from_store" if is_own else "answered_jointly")
        if self.beside is not None:
            self.beside.put(settled.judge_call)
            self.beside.put(settled.shadow_call)
            self.beside.put(settled.same_call)
        self._learn(settled.settlement)

    def _told(self, settled: Settled) -> Settled:
        """Where a judge should tell whether a stored answer was right, and cannot be asked, it counts as wrong."""
        call = settled.same_call
        if call is None or not call.reference or (self.beside is not None and not self.beside.is_full):
            return settled
        return replace(settled, seen=call.seen(is_correct=False), same_call=None)

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
        comment = await cleaned_comment(feedback.comment, self.policy.admission.privacy)
        feedback = replace(feedback, comment=comment)
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
            settlement, wrong = revise(record, feedback, self.policy), self._complaint(record, feedback)
            if wrong is not None:
                settlement = replace(settlement, record=complained(settlement.record))
            if await self.parts.store.settle(settlement):
                if wrong is not None:
                    await self._observe(record.id, wrong)
                await self._after_feedback(record, settlement.record, feedback)
                self._learn(settlement)
                return settlement.record
        raise StoreUnavailable(f"feedback on {decision_id} met {_FEEDBACK_TRIES} concurrent changes; try again")

    async def take_heard(self, heard: Heard) -> bool:
        """Learn what a judge or a second arm said; False when the decision is unknown. Raises StoreError."""
        if heard.approves is not None:
            await self._take_approval(heard, heard.approves)
            return True
        if heard.seen is not None:
            if heard.promotes is not None:  # first: it may be tried again, an observation would count twice
                await self._promote(heard.promotes)
            await self._observe(heard.decision_id, heard.seen)
            return True
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

    async def _take_approval(self, heard: Heard, asked: Approval) -> None:
        """Release the example that was judged, when it was found good."""
        if not is_approved(*(heard.signals[name] for name in VERDICTS)):
            return
        quarantine = self.gate.quarantine
        if await quarantine.approve(asked.example_id, asked.version, asked.witness, self.policy):
            self.counts.add(EVERYONE, "approved")

    async def _promote(self, asked: Promotion) -> None:
        """Keep a stored answer under more words, unless it has changed since, or has been kept under them already."""
        store, example = self.parts.store, asked.example
        original = await store.get(asked.original_id)
        if original is None or original.version != asked.version or await store.get(example.id) is not None:
            return
        made = await self.gate.admit(Arrival(example, asked.asked), self.policy)
        self.counts.add(example.scope, f"unpromoted:{made.refusal}" if made.refusal else "promoted")

    async def _observe(self, decision_id: str, seen: SeenAnswer) -> None:
        """Note with its example whether a stored answer was right; nothing when that has changed since."""
        self.parts.pools.learn(decision_id, seen.observation.is_correct)
        await self.parts.store.observe(seen.example_id, seen.version, seen.observation)

    def _complaint(self, record: DecisionRecord, feedback: Feedback) -> SeenAnswer | None:
        """That a stored answer was wrong, where the feedback is bad; once per decision."""
        is_bad = feedback.score < self.policy.admission.min_feedback
        return complaint(record, self.parts.clock.now()) if is_bad else None

    async def _after_feedback(self, before: DecisionRecord, record: DecisionRecord, feedback: Feedback) -> None:
        earlier = before.feedback
        if earlier is None:
            self.counts.add(record.scope, "feedback")
            self.counts.add(record.scope, f"feedback:{record.arm}")
        self.counts.add(record.scope, f"feedback_score:{record.arm}", feedback.score - (earlier or 0.0))
        if feedback.score < self.policy.admission.min_feedback and record.admitted_id:
            gone = await forget_answer(record, self.policy, self.parts.store, self.parts.clock)
            self.counts.add(record.scope, "forgotten", gone)

    # ------------------------------------------------------------------ beside the path

    def ask_by(self, models: Models) -> None:
        """From now on judge and shadow calls can be made."""
        self.beside = Beside(models, self.take_heard, self.counts, self.parts.clock)
        self.outbox.judge = self.beside.put

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
        await self.parts.store.report_loads(self.worker, board.own(now), _LOADS_TTL_S)
        told = await self.parts.store.loads()
        board.hear([loads for worker, loads in told.items() if worker != self.worker])

    async def _share_budgets(self) -> None:
        """What all workers have spent beside the path today."""
        if self.beside is not None and (self.policy.judge.sampled or self.policy.shadow):
            self.beside.hear(await self.parts.store.counters(EVERYONE))
