"""One policy at work in one worker: plans, settles, takes feedback, and keeps what it knows fresh."""

import asyncio
import logging
from collections.abc import Collection, Sequence
from dataclasses import replace

from echo_proxy.errors import StoreError, StoreUnavailable
from echo_proxy.online.measure import Answer
from echo_proxy.online.receive import receive
from echo_proxy.outbox import Outbox
from echo_proxy.pipeline import Parts, plan, reroute, revise, settle
from echo_proxy.policy import Policy
from echo_proxy.protocols import UtilityModel
from echo_proxy.telemetry.counts import EVERYONE, Counts
from echo_proxy.types import Attempt, Call, DecisionRecord, Feedback, PassThrough, Plan

log = logging.getLogger("echo_proxy")

_FEEDBACK_TRIES = 8
"""Concurrent feedback on one decision is rare; more conflicts than this would be a bug."""


class Lane:
    """What one policy does in one worker. Belongs to one event loop."""

    def __init__(self, parts: Parts, max_pending: int) -> None:
        self.parts = parts
        self.counts = Counts()
        self.outbox = Outbox(parts.store, self.counts, max_pending)
        self.is_open = False
        """The store has been opened."""

    @property
    def policy(self) -> Policy:
        """The policy as it is now; a reload replaces it."""
        return self.parts.policy

    def adopt(self, policy: Policy, utility: UtilityModel) -> None:
        """Go on by a new version of the policy."""
        self.parts = replace(self.parts, policy=policy, utility=utility)

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
        return made

    def reroute(self, before: Plan, available: Collection[str]) -> Plan | None:
        """The plan after a failed attempt; None when no arm is left."""
        return reroute(before, available, self.parts)

    def bypass(self, reason: str, scope: str = EVERYONE) -> PassThrough:
        """Count a step or a call that went on without us."""
        self.counts.add(scope, f"bypass:{reason}")
        return PassThrough(reason)

    # ------------------------------------------------------------------ after the answer

    def settle(self, made: Plan, answer: Answer, attempts: Sequence[Attempt]) -> None:
        """Learn from an answer; the store hears of it in the background."""
        settled = settle(made, answer, attempts, self.policy)
        self.parts.knowledge.absorb(settled.settlement.increments)
        self._count(settled.settlement.record, settled.refusal)
        self.outbox.put(settled, self.policy)

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
        """The revised record, or None when the decision is unknown. Raises StoreUnavailable."""
        for _ in range(_FEEDBACK_TRIES):
            record = await self.parts.store.decision(decision_id)
            if record is None:
                return None
            settlement = revise(record, feedback, self.policy)
            if await self.parts.store.settle(settlement):
                await self._after_feedback(record, settlement.record, feedback)
                self.parts.knowledge.absorb(settlement.increments)
                return settlement.record
        raise StoreUnavailable(f"feedback on {decision_id} met {_FEEDBACK_TRIES} concurrent changes; try again")

    async def _after_feedback(self, before: DecisionRecord, record: DecisionRecord, feedback: Feedback) -> None:
        earlier = before.feedback
        if earlier is None:
            self.counts.add(record.scope, "feedback")
            self.counts.add(record.scope, f"feedback:{record.arm}")
        self.counts.add(record.scope, f"feedback_score:{record.arm}", feedback.score - (earlier or 0.0))
        if feedback.score < self.policy.admission.min_feedback and record.admitted_id:
            self.counts.add(record.scope, "forgotten", await self.parts.store.remove([record.admitted_id]))

    # ------------------------------------------------------------------ beside the path

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
        except StoreUnavailable:
            return False
        except StoreError as error:
            log.error("policy %s: the store does not tell what was learned: %s", self.policy.name, error)
            return False
        self.parts.knowledge.replace(sums, self.outbox.unwritten())
        return True
