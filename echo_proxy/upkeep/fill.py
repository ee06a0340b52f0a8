"""How does the representative of a cluster become an example? The teacher is asked, and its answer meets the gate.

Only what may be kept and can be asked again by itself is filled: a whole text (records cut them, and take out what may
not be kept), a single turn, a caller who lets answers be kept, and a system prompt that is known - because there was
none, or because an example of the same scope and partition holds it.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from echo_proxy.admission.gate import Arrival, Gate
from echo_proxy.admission.telling import changed_texts
from echo_proxy.errors import FAULTS, AskError, EmbedderError
from echo_proxy.online.log import MAX_TEXT
from echo_proxy.online.receive import new_id, partition_of
from echo_proxy.policy import Policy
from echo_proxy.protocols import Clock, Embedder, Store
from echo_proxy.types import DecisionRecord, Embedding, Example, Lease, Query
from echo_proxy.upkeep.asking import Asker, teacher_of
from echo_proxy.upkeep.budget import BudgetSpent
from echo_proxy.upkeep.coverage import Told
from echo_proxy.upkeep.fresh import fresh_from
from echo_proxy.upkeep.lease import confirm_held
from echo_proxy.upkeep.progress import Progress

log = logging.getLogger("echo_proxy")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a request was asked under."""

    system: str
    wants_json: bool


@dataclass(slots=True)
class FillTally:
    """What became of the representatives."""

    n_filled: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    """By reason."""
    ended_by: str = "list"
    """list or budget."""

    def leave_out(self, reason: str) -> None:
        """One was not filled."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1


def reason_to_leave(record: DecisionRecord | None, policy: Policy) -> str | None:
    """Why the request of a decision must not, or cannot, be filled; None when nothing in its record says so."""
    if record is None:
        return "forgotten"
    said = record.explanation
    text = said.get("request")
    obstacles = (
        (not policy.admission.enabled, "disabled"),
        (record.caller in policy.admission.exclude.keys, "excluded"),
        (_is_excluded(record.scope, policy), "excluded"),
        (teacher_of(policy) in policy.admission.exclude.models, "excluded"),
        (said.get("may_keep") is not True, "not_to_be_kept"),
        (not isinstance(text, str) or not text.strip(), "no_text"),
        (isinstance(text, str) and len(text) >= MAX_TEXT, "cut"),
        ("request" in changed_texts(said), "redacted"),
        (said.get("turns") != 1, "turns"),
    )
    return next((reason for stands, reason in obstacles if stands), None)


def _is_excluded(scope: str, policy: Policy) -> bool:
    """Whether all who share a scope are excluded by now: that a decision's record cannot know."""
    rules, (kind, _, identity) = policy.admission.exclude, scope.partition(":")
    return identity in {"key": rules.keys, "team": rules.teams, "domain": rules.domains}.get(kind, ())


class Fill:
    """The fillings of one round."""

    def __init__(self, policy: Policy, store: Store, asker: Asker, embedder: Embedder, clock: Clock) -> None:
        """Nothing is asked yet."""
        self._policy = policy
        self._store = store
        self._asker = asker
        self._embedder = embedder
        self._clock = clock
        self._gate = Gate(store, embedder, clock)
        self._usd_each = 0.0
        """What the last answer cost."""
        self.tally = FillTally()

    async def run(self, clusters: Sequence[Told], lease: Lease, progress: Progress) -> None:
        """Fill what can be filled, the most lost reward first, while the budget lasts; see `tally`.

        What an answer costs is known by the last one, so that at most one is paid beyond the budget.

        Raises StoreError, also LeaseLost.
        """
        progress.begin("coverage", len(clusters))
        try:
            for one in clusters:
                await self._one(one, lease)
                progress.step("coverage")
        except BudgetSpent:
            self.tally.ended_by = "budget"
        progress.tell(f"{self.tally.n_filled} of {len(clusters)} clusters filled")

    async def _one(self, told: Told, lease: Lease) -> None:
        reason = reason_to_leave(told.record, self._policy)
        if told.record is None or reason is not None:
            self.tally.leave_out(reason or "forgotten")
            return
        try:
            reason = await self._fill(told.record, told.text, lease)
        except (AskError, EmbedderError, TimeoutError, *FAULTS) as error:
            log.warning("coverage of %s: %s", told.record.id, type(error).__name__)
            reason = "failed"
        if reason is None:
            self.tally.n_filled += 1
        else:
            self.tally.leave_out(reason)

    async def _fill(self, record: DecisionRecord, text: str, lease: Lease) -> str | None:
        """Why nothing was kept; None when an example was."""
        vector = (await self._embedder.embed([text]))[0]
        partition = str(record.explanation.get("partition") or "")
        if await self._near(record.scope, partition, vector, self._policy.admission.duplicate_distance, 1):
            return "held"
        setting = await self._setting(record.scope, partition, vector)
        if setting is None:
            return "no_system_prompt"
        self._asker.must_afford(self._usd_each)
        reply = await self._asker.teach(setting.system, text, setting.wants_json)
        self._usd_each = reply.cost_usd
        draft = self._draft(record, text, partition, setting, vector)
        fresh = await asyncio.to_thread(fresh_from, reply, draft, self._policy)  # takes up to some 100 ms
        if fresh is None:
            return "answer"
        answered = replace(draft, response=fresh.text, teacher=fresh.teacher, n_tokens=fresh.n_tokens)
        arrival = Arrival(answered, answered.request, confirm_right=lambda: confirm_held(self._store, lease))
        return (await self._gate.admit(arrival, self._policy)).refusal

    async def _near(
        self, scope: str, partition: str, vector: Embedding, max_distance: float, k: int
    ) -> tuple[Example, ...]:
        query = Query(vector, scope, partition, k, max_distance, self._clock.now(), reader=None)
        return tuple(one.example for one in await self._store.nearest(query))

    async def _setting(self, scope: str, partition: str, vector: Embedding) -> Setting | None:
        """The system prompt and format that the partition is the hash of."""
        for wants_json in (False, True):
            if partition == partition_of("", wants_json):
                return Setting("", wants_json)
        for one in await self._near(scope, partition, vector, 2.0, 1):
            if partition_of(one.system, one.wants_json) == partition:
                return Setting(one.system, one.wants_json)
        return None

    def _draft(self, record: DecisionRecord, text: str, partition: str, setting: Setting, vector: Embedding) -> Example:
        now, rules = self._clock.now(), self._policy.admission
        return Example(
            id=new_id(now),
            scope=record.scope,
            partition=partition,
            request=text,
            response="",
            vector=vector,
            teacher=teacher_of(self._policy),
            decision_id=record.id,
            writer=record.caller,
            quality=self._policy.judge.prior,
            n_tokens=0,
            created_at=now,
            expires_at=now + rules.ttl_s,
            system=setting.system,
            wants_json=setting.wants_json,
            origin="coverage",
            counted_at=now,
            person=str(record.explanation.get("person") or ""),
        )
