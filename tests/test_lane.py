"""One policy at work, over fakes: calls in, outcomes and feedback out."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from echo_proxy.errors import StoreError, StoreUnavailable
from echo_proxy.lane import Lane
from echo_proxy.types import ArmKey, ArmSums, Feedback, PassThrough, Plan, Settlement
from tests.builders import NOW, answer, call, lane, policy, served
from tests.fakes import HashingEmbedder, MemoryStore

BOTH = {"small", "large"}
TEACHER = {"bandit": {"kind": "fixed", "floor": 1e-9, "probabilities": {"large+0": 1.0}}}
GUESS = ArmKey("large+0", "names=missing")


def counted(one: Lane) -> Mapping[str, float]:
    return {f"{scope} {name}": amount for (scope, name), amount in one.counts.take().items()}


async def planned(one: Lane, **changes: Any) -> Plan:
    made = await one.plan(call(**changes), BOTH)
    assert isinstance(made, Plan)
    return made


async def settled(one: Lane, **changes: Any) -> Plan:
    made = await planned(one)
    one.settle(made, answer(**changes), [replace(served(), decision=made.decision)])
    return made


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def teacher(store: MemoryStore) -> Lane:
    """Always asks the teacher; quality alone is the reward."""
    return lane(policy(reward={"quality_weight": 1, "cost_weight": 0, "latency_weight": 0}, **TEACHER), store)


async def test_a_call_that_is_not_ours_is_counted_for_everyone() -> None:
    """With its reason; nothing is embedded."""
    one = lane()

    made = await one.plan(call(obstacle="tools"), BOTH)

    assert made == PassThrough("tools")
    assert counted(one) == {"all pass:tools": 1.0}


async def test_without_an_arm_the_call_is_bypassed() -> None:
    """Counted for its scope."""
    one = lane()

    made = await one.plan(call(), {"elsewhere"})

    assert made == PassThrough("no_arm_available")
    assert counted(one) == {"key:a bypass:no_arm_available": 1.0}


async def test_a_store_that_is_away_is_counted_and_the_plan_goes_on(store: MemoryStore) -> None:
    """Examples are missing, nothing else."""
    one = lane(store=store)
    store.is_away = True

    made = await planned(one)

    assert made.bypasses == ("store_unavailable",)
    assert counted(one) == {"key:a bypass:store_unavailable": 1.0}


class _Stuck(HashingEmbedder):
    async def embed(self, texts: Any) -> Any:
        await asyncio.Event().wait()


async def test_planning_ends_at_the_deadline() -> None:
    """However long a step would take."""
    one = lane(policy(deadline_s=0.001), embedder=_Stuck())

    with pytest.raises(TimeoutError):
        await one.plan(call(), BOTH)


async def test_an_outcome_is_learned_at_once_and_written_later(teacher: Lane, store: MemoryStore) -> None:
    """The next decision knows it; the store hears of it in the background."""
    made = await settled(teacher)
    key = ArmKey("large+0", made.decision.segment)
    known = teacher.parts.knowledge.sums(key)
    before = dict(store.records)

    was_written = await teacher.write()

    assert known == ArmSums(0.05, 0.05, 0.05)
    assert (before, was_written) == ({}, True)
    assert list(store.records) == list(store.examples) == [made.request.decision_id]
    assert store.evidence == {key: known}


async def test_outcomes_are_counted_by_scope(teacher: Lane) -> None:
    """Sums, so that workers add up."""
    await settled(teacher)
    await settled(teacher, finish_reason="length")

    assert counted(teacher) == {
        "key:a decisions": 2.0,
        "key:a arm:large+0": 2.0,
        "key:a examples_used": 0.0,
        "key:a prompt_tokens": 40.0,
        "key:a completion_tokens": 10.0,
        "key:a cost_usd": 0.002,
        "key:a latency_s": 4.0,
        "key:a refused:not_whole": 1.0,
    }


async def test_while_the_store_is_away_counts_and_outcomes_wait(teacher: Lane, store: MemoryStore) -> None:
    """And are written once when it is back."""
    await settled(teacher)
    store.is_away = True
    away = (await teacher.write(), await teacher.read())
    store.is_away = False
    back = (await teacher.write(), await teacher.write(), await teacher.read())

    assert (away, back) == ((False, False), (True, True, True))
    assert store.counts["key:a", "decisions"] == 1.0
    assert len(store.records) == 1


class _NoCounts(MemoryStore):
    async def count(self, counters: Any) -> None:
        if self.is_away:
            raise StoreUnavailable("away")
        await super().count(counters)

    def _reach(self) -> None:
        """Only counting fails."""


async def test_counts_that_could_not_be_written_are_kept() -> None:
    """Nothing is lost when the store goes away between outcomes and counts."""
    store = _NoCounts()
    one = lane(store=store)
    one.bypass("deadline")
    store.is_away = True
    away = await one.write()
    one.bypass("deadline")
    store.is_away = False
    await one.write()

    assert away is False
    assert store.counts == {("all", "bypass:deadline"): 2.0}


async def test_reading_takes_over_what_others_learned_and_keeps_what_waits(teacher: Lane, store: MemoryStore) -> None:
    """The store's sums plus what it does not have yet."""
    store.evidence[GUESS] = ArmSums(10.0, 9.0, 8.0)
    await settled(teacher)

    await teacher.read()

    assert teacher.parts.knowledge.sums(GUESS) == ArmSums(10.05, 9.05, 8.05)


async def test_feedback_changes_record_evidence_and_knowledge(teacher: Lane, store: MemoryStore) -> None:
    """At once in this worker, and in the store for all."""
    made = await settled(teacher)
    await teacher.write()

    record = await teacher.take_feedback(made.request.decision_id, Feedback(0.75, "good", NOW))

    assert record is not None
    assert (record.feedback, record.quality, record.revision) == (0.75, 0.75, 2)
    assert store.records[record.id] == record
    assert store.evidence[GUESS].weight == pytest.approx(1.0)
    assert store.evidence[GUESS].reward_sum == pytest.approx(0.75)
    assert teacher.parts.knowledge.sums(GUESS) == store.evidence[GUESS]
    assert list(store.examples) == [record.admitted_id]


async def test_a_second_feedback_replaces_the_first(teacher: Lane, store: MemoryStore) -> None:
    """In the sums as in the record."""
    made = await settled(teacher)
    await teacher.write()

    for score in (0.1, 0.6):
        await teacher.take_feedback(made.request.decision_id, Feedback(score, "", NOW))

    assert store.evidence[GUESS].weight == pytest.approx(1.0)
    assert store.evidence[GUESS].reward_sum == pytest.approx(0.6)
    assert store.records[made.request.decision_id].revision == 3


async def test_bad_feedback_forgets_the_example(teacher: Lane, store: MemoryStore) -> None:
    """That the answer became; below min_feedback only."""
    made = await settled(teacher)
    await teacher.write()
    teacher.counts.take()

    await teacher.take_feedback(made.request.decision_id, Feedback(0.49, "", NOW))

    assert store.examples == {}
    assert counted(teacher) == {
        "key:a feedback": 1.0,
        "key:a feedback:large+0": 1.0,
        "key:a feedback_score:large+0": 0.49,
        "key:a forgotten": 1.0,
    }


async def test_feedback_on_an_unknown_decision_changes_nothing(teacher: Lane, store: MemoryStore) -> None:
    """None, and nothing counted."""
    assert await teacher.take_feedback("nobody", Feedback(1.0)) is None
    assert (counted(teacher), store.evidence) == ({}, {})


class _Contested(MemoryStore):
    """Another worker is faster, a number of times."""

    def __init__(self, n_conflicts: int) -> None:
        super().__init__()
        self.n_conflicts = n_conflicts

    async def settle(self, settlement: Settlement) -> bool:
        if settlement.record.revision > 1 and self.n_conflicts:
            self.n_conflicts -= 1
            return False
        return await super().settle(settlement)


@pytest.mark.parametrize(("n_conflicts", "is_taken"), [(1, True), (7, True), (8, False)])
async def test_concurrent_feedback_is_tried_again(n_conflicts: int, is_taken: bool) -> None:
    """Applied once; after many conflicts the caller is asked to try again."""
    store = _Contested(n_conflicts)
    one = lane(policy(**TEACHER), store)
    made = await settled(one)
    await one.write()

    async def give() -> bool:
        try:
            return await one.take_feedback(made.request.decision_id, Feedback(1.0, "", NOW)) is not None
        except StoreUnavailable:
            return False

    assert await give() is is_taken
    assert store.records[made.request.decision_id].revision == (2 if is_taken else 1)


async def test_a_new_version_of_the_policy_is_adopted(teacher: Lane) -> None:
    """Knowledge, store and outbox stay."""
    knowledge = teacher.parts.knowledge
    changed = policy(match={"model_groups": ["auto", "more"]})

    teacher.adopt(changed, teacher.parts.utility)

    assert teacher.policy is changed
    assert teacher.parts.knowledge is knowledge


async def test_a_store_that_refuses_does_not_end_the_upkeep(teacher: Lane, store: MemoryStore) -> None:
    """Counts are kept for the next try; nothing is raised."""

    async def refuse(counters: object) -> None:
        raise StoreError("no room")

    await settled(teacher)
    store.count = refuse  # type: ignore[method-assign, assignment]

    assert await teacher.write() is False
    assert counted(teacher)["key:a decisions"] == 1.0


class _Untold(MemoryStore):
    """Answers, but not what was asked."""

    async def sums(self) -> Mapping[ArmKey, ArmSums]:
        raise StoreError("no such index")


async def test_a_store_that_does_not_tell_what_was_learned_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The worker goes on with what it knows, says so in the log, and raises nothing."""
    one = lane(policy(**TEACHER), _Untold())
    made = await settled(one)
    known = one.parts.knowledge.sums(ArmKey("large+0", made.decision.segment))

    was_read = await one.read()

    assert was_read is False
    assert one.parts.knowledge.sums(ArmKey("large+0", made.decision.segment)) == known
    assert "the store does not tell what was learned: no such index" in caplog.text


async def test_counts_survive_a_stop_in_the_middle_of_their_writing(teacher: Lane, store: MemoryStore) -> None:
    """The task that writes is cancelled at a stop; what it had taken is written by the last write."""

    async def wait_for_ever(counters: object) -> None:
        await asyncio.Event().wait()

    await settled(teacher)
    store.count = wait_for_ever  # type: ignore[method-assign, assignment]
    writing = asyncio.create_task(teacher.write())
    await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)

    assert counted(teacher)["key:a decisions"] == 1.0
