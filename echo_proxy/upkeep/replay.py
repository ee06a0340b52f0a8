"""Which stored answers are worth asking for again, and what came of it?

Replay after IC-Cache (arXiv 2501.12689, section 4.3): examples with much regret, the most first, are answered anew by
the teacher, and the best answer stays. What was done stands in the examples themselves, so a round that was killed
loses one example's calls at most, and the next one goes on where it ended.
"""

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from echo_proxy.errors import FAULTS, AskError
from echo_proxy.online.combine import quality_of_verdict
from echo_proxy.online.receive import partition_of
from echo_proxy.policy import Policy, UpkeepPolicy
from echo_proxy.policy_keeping import ReplayPolicy
from echo_proxy.protocols import Clock, Store
from echo_proxy.types import Example, Holdings, Json, Lease, Replayed
from echo_proxy.upkeep.asking import Asker, teacher_of
from echo_proxy.upkeep.budget import Budget, BudgetSpent
from echo_proxy.upkeep.choose import Choice, by_judge, by_majority
from echo_proxy.upkeep.cutoff import CutOff, Findings, price_of
from echo_proxy.upkeep.fresh import Fresh, fresh_from
from echo_proxy.upkeep.lease import confirm_held
from echo_proxy.upkeep.progress import Progress

log = logging.getLogger("echo_proxy")

NOTE = "replay"
"""Name of the store's note that holds the findings."""
_PAGE = 1_000
_RECORDS = 500
"""Newest decisions in which the teacher's price is looked up, before the first replay."""
_MAX_FAILURES = 3
"""Examples in a row that no model answered, after which the round asks no more."""


@dataclass(frozen=True, slots=True)
class Due:
    """An example that could be replayed."""

    example_id: str
    regret: float


@dataclass(slots=True)
class ReplayTally:
    """What replay has done so far."""

    n_due: int = 0
    """Examples with enough regret that were not replayed too often."""
    n_replayed: int = 0
    n_improved: int = 0
    n_answers: int = 0
    """Answers of the teacher that could be kept."""
    n_undecided: int = 0
    """Replayed ones of which it could not be told which answer is better."""
    n_failed: int = 0
    """Examples of which no model was heard."""
    n_changed: int = 0
    """Examples that changed, or went, while models were asked: the result was dropped."""
    n_skipped: int = 0
    """Examples that cannot be asked again as they were: from conversations, or with a system prompt that is not known
    or was redacted."""
    regret_replayed: float = 0.0
    regret_improved: float = 0.0
    """Of the improved ones: what there was to gain."""
    cutoff: float = 0.0
    """Regret below which it did not pay; 0 = none was found."""
    ended_by: str = "list"
    """list, cutoff, budget or models_away."""

    def to_json(self) -> dict[str, Json]:
        """For the report."""
        return {name: getattr(self, name) for name in ReplayTally.__slots__}


async def due_for_replay(store: Store, rules: UpkeepPolicy, now: float, since: float) -> tuple[Due, ...]:
    """Examples that could be replayed, most regret first; those that were replayed since then are left out."""
    assert rules.replay is not None  # asked for only where it is wanted
    found: dict[str, Due] = {}  # one that is written meanwhile may come twice
    cursor = ""
    while True:
        page = await store.holdings(cursor, _PAGE)
        found |= {one.example_id: one for one in _due_among(page.holdings, rules.replay, now, since)}
        cursor = page.cursor
        if not cursor:
            return tuple(sorted(found.values(), key=lambda one: (-one.regret, one.example_id)))


def _due_among(held: Holdings, rules: ReplayPolicy, now: float, since: float) -> list[Due]:
    is_due = (
        (held.regret >= max(rules.min_regret, 1e-9))
        & (held.n_replays < rules.max_times)
        & (held.expires_at > now)
        & (held.replayed_at < since)
    )  # (n,)
    return [Due(held.ids[i], float(held.regret[i])) for i in np.flatnonzero(is_due)]


async def price_by_log(policy: Policy, store: Store) -> float | None:
    """USD that the teacher's answers to one example would cost, by what its answers to callers did; None = not known.

    Raises StoreError.
    """
    assert policy.upkeep.replay is not None  # asked for only where it is wanted
    teaching = {arm.name for arm in policy.to_arms() if arm.deployment == teacher_of(policy)}
    records = await store.decisions(None, _RECORDS)
    costs = [one.cost_usd for one in records if one.arm in teaching and one.is_acted]
    return policy.upkeep.replay.n_answers * float(np.mean(costs)) if costs else None


def _can_be_asked(example: Example) -> bool:
    """Whether what it was asked under is known, word by word: its partition is the hash of it."""
    return example.n_turns == 1 and example.partition == partition_of(example.system, example.wants_json)


class Replay:
    """The replays of one round."""

    def __init__(self, policy: Policy, store: Store, asker: Asker, budget: Budget, clock: Clock) -> None:
        """Nothing is asked yet."""
        assert policy.upkeep.replay is not None  # asked for only where it is wanted
        self._rules = policy.upkeep.replay
        self._policy = policy
        self._store = store
        self._asker = asker
        self._budget = budget
        self._clock = clock
        self._known = Findings()
        self._usd_by_log = 0.0
        self._n_mute = 0
        self.tally = ReplayTally()

    async def run(self, lease: Lease, started_at: float, progress: Progress) -> None:
        """Go down the ranking until it ends, does not pay any more, or the budget is spent; see `tally`.

        Raises StoreError, also LeaseLost.
        """
        self._known = Findings.from_text(await self._store.note(NOTE))
        if self._known.usd_each is None:
            self._usd_by_log = await price_by_log(self._policy, self._store) or 0.0
        due = await due_for_replay(self._store, self._policy.upkeep, started_at, started_at)
        self.tally.n_due = len(due)
        progress.begin("replay", len(due))
        cutoff = CutOff(self._known.outcomes, self._rules.min_gain, self._price())
        try:
            await self._down(due, cutoff, lease, progress)
        except BudgetSpent:
            self.tally.ended_by = "budget"
        self.tally.cutoff = cutoff.found
        await self._note(cutoff, lease)
        progress.tell(self._told())

    async def _down(self, due: Sequence[Due], cutoff: CutOff, lease: Lease, progress: Progress) -> None:
        for one in due:
            if not cutoff.goes_on(one.regret):
                self.tally.ended_by = "cutoff"
                return
            if not self._budget.has_room(self._usd_each()):
                raise BudgetSpent("the next example would cost more than is left")
            is_improved = await self._one(one, lease)
            progress.step("replay")
            if is_improved is not None:
                cutoff.learn(one.regret, is_improved)
                cutoff.price = self._price()
                await self._note(cutoff, lease)
            if self._n_mute >= _MAX_FAILURES:
                self.tally.ended_by = "models_away"
                return

    async def _one(self, due: Due, lease: Lease) -> bool | None:
        """Whether the example has a better answer now; None when it was not replayed."""
        before = await self._store.get(due.example_id)
        if before is None or not _can_be_asked(before):
            self.tally.n_skipped += 1
            return None
        spent_usd = self._budget.spent_usd
        try:
            fresh = await self._answers(before)
            choice = await self._chosen(before, fresh)
        except (AskError, TimeoutError, *FAULTS) as error:
            self._n_mute += 1
            self.tally.n_failed += 1
            # the kind alone where it is not ours: a fault's words may repeat a text
            log.warning("replay of %s: %s", before.id, error if isinstance(error, AskError) else type(error).__name__)
            return None
        self._n_mute = 0
        self._learn_cost(self._budget.spent_usd - spent_usd)
        if not await self._store.change(before, self._reworked(before, fresh, choice), lease):
            self.tally.n_changed += 1
            return None
        return self._count(due, fresh, choice)

    async def _answers(self, example: Example) -> list[Fresh]:
        """Those that may be kept. A teacher that says the same again is asked no more: it would go on doing so."""
        fresh: list[Fresh] = []
        last = ""
        for _ in range(self._rules.n_answers):
            reply = await self._asker.teach(example.system, example.request, example.wants_json)
            one = await asyncio.to_thread(fresh_from, reply, example, self._policy)  # takes up to some 100 ms
            if one is not None:
                fresh.append(one)
            if reply.text == last:
                break
            last = reply.text
        return fresh

    async def _chosen(self, stored: Example, fresh: Sequence[Fresh]) -> Choice | None:
        judge = self._policy.judge.sampled
        if judge is not None:
            return await by_judge(stored, fresh, judge.model_group, self._asker.ask)
        return by_majority(stored, fresh)

    def _reworked(self, before: Example, fresh: Sequence[Fresh], choice: Choice | None) -> Example:
        """The example as it is to be; also one that keeps its answer has lost its regret: only new doubts count."""
        is_better = choice is not None and choice.is_better
        noted = Replayed(
            at=self._clock.now(),
            teacher=choice.fresh.teacher if choice else before.teacher,
            n_answers=len(fresh),
            is_replaced=is_better,
            verdict=choice.verdict if choice else 0.5,
            replaced=_digest(before.response) if is_better else "",
        )
        kept = replace(before, history=(*before.history, noted), regret=0.0)
        if choice is None or not choice.is_better:
            return kept
        return replace(
            kept,
            response=choice.fresh.text,
            teacher=choice.fresh.teacher,
            n_tokens=choice.fresh.n_tokens,
            quality=quality_of_verdict(choice.verdict, self._policy.judge.prior),
            uses=0.0,
            gain=0.0,
            observations=(),
            confirmed_by=(),
            answer_key="" if choice.fresh.is_changed else kept.answer_key,
        )

    def _count(self, due: Due, fresh: Sequence[Fresh], choice: Choice | None) -> bool:
        is_better = choice is not None and choice.is_better
        tally = self.tally
        tally.n_replayed += 1
        tally.n_answers += len(fresh)
        tally.n_undecided += choice is None
        tally.regret_replayed += due.regret
        if is_better:
            tally.n_improved += 1
            tally.regret_improved += due.regret
        return is_better

    def _learn_cost(self, usd: float) -> None:
        known = self._known.usd_each
        rate = 0.1  # of the newest example in the moving average. # guess, not yet measured
        self._known = replace(self._known, usd_each=usd if known is None else known + rate * (usd - known))

    def _price(self) -> float:
        return price_of(self._usd_each(), self._policy)

    def _usd_each(self) -> float:
        known = self._known.usd_each
        return self._usd_by_log if known is None else known

    async def _note(self, cutoff: CutOff, lease: Lease) -> None:
        self._known = replace(self._known, outcomes=cutoff.outcomes, cutoff=cutoff.found)
        await confirm_held(self._store, lease)
        await self._store.put_note(NOTE, self._known.to_text())

    def _told(self) -> str:
        tally = self.tally
        end = (
            f"cut off at a regret of {tally.cutoff:.4g}" if tally.ended_by == "cutoff" else f"ended by {tally.ended_by}"
        )
        return f"{tally.n_replayed} of {tally.n_due} examples replayed, {tally.n_improved} improved, {end}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
