"""One policy at work, over fakes: calls in, outcomes and feedback out."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from echo_proxy.errors import StoreError, StoreUnavailable
from echo_proxy.lane import Lane
from echo_proxy.online.combine import VERDICTS
from echo_proxy.online.sample import Approval, Ask, Heard, Reply
from echo_proxy.types import (
    STORED,
    ArmKey,
    ArmSums,
    Attempt,
    Evidence,
    Feedback,
    Message,
    PassThrough,
    Plan,
    Settlement,
    StoredAnswer,
)
from tests.builders import NOW, answer, call, example, lane, lesson, policy, record, served
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

    assert (known.weight, known.reward_sum) == (0.05, pytest.approx(0.045))
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


async def test_what_is_heard_later_is_learned_once(teacher: Lane, store: MemoryStore) -> None:
    """A second delivery changes nothing; of an unknown decision nothing is learned."""
    made = await settled(teacher)
    await teacher.write()
    other = Evidence(ArmKey("small+0", "all"), 0.2, 0.5, is_served=False)
    heard = Heard(made.request.decision_id, {"shadow_agreement": 1.0}, (other,))

    taken = [await teacher.take_heard(one) for one in (heard, heard, replace(heard, decision_id="unknown"))]
    (record,) = store.records.values()

    assert taken == [True, True, False]
    assert (record.revision, record.signals["shadow_agreement"], record.evidence[-1]) == (2, 1.0, other)
    assert teacher.parts.knowledge.sums(other.key).weight == pytest.approx(0.2)
    assert store.evidence[other.key].weight == pytest.approx(0.2)


async def test_reading_takes_over_what_others_learned_and_keeps_what_waits(teacher: Lane, store: MemoryStore) -> None:
    """The store's sums plus what it does not have yet."""
    store.evidence[GUESS] = ArmSums(10.0, 9.0, 8.0)
    await settled(teacher)

    await teacher.read()
    known = teacher.parts.knowledge.sums(GUESS)

    assert (known.weight, known.reward_sum) == (pytest.approx(10.05), pytest.approx(9.045))


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


# ---------------------------------------------------------------------- lessons, loads, conversations


async def test_what_one_worker_learns_the_other_hears(store: MemoryStore) -> None:
    """Lessons go through the store, feedback too; hearing one's own again changes nothing."""
    one, other = lane(store=store), lane(store=store)
    made = await settled(one)
    await one.write()
    await one.take_feedback(made.request.decision_id, Feedback(0.0))
    for worker in (one, other, one):
        await worker.read()

    lessons = [worker.parts.knowledge.memory.snapshot() for worker in (one, other)]
    assert [len(known) for known in lessons] == [1, 1]
    assert [known[0].quality for known in lessons] == [0.0, 0.0]
    assert one.parts.knowledge.forecaster.forecasts()[made.decision.arm.name].weight == 1.0


async def test_a_deployment_is_busy_until_its_answer_is_settled(store: MemoryStore) -> None:
    """For this worker at once, for others when they read."""
    one, other = lane(store=store), lane(store=store)
    made = await planned(one)
    deployment = made.decision.arm.deployment
    await one.read()
    await other.read()
    busy = [worker.parts.knowledge.board.total(NOW)[deployment].in_flight for worker in (one, other)]
    one.settle(made, answer(), [replace(served(), decision=made.decision)])

    assert busy == [1.0, 1.0]
    assert one.parts.knowledge.board.total(NOW)[deployment].in_flight == 0.0


async def test_an_outcome_that_never_comes_frees_the_deployment() -> None:
    """And is counted."""
    one = lane()
    made = await planned(one)
    one.give_up(made)

    assert all(load.in_flight == 0 for load in one.parts.knowledge.board.total(NOW).values())
    assert counted(one)["key:a unsettled"] == 1.0


async def test_a_conversation_stays_with_its_deployment(store: MemoryStore) -> None:
    """The second turn sees who answered the first, in any worker; the penalty stands in the decision."""
    sticky = policy(stickiness={"switch_cost": 0.5}, **TEACHER)
    one, other = lane(sticky, store), lane(sticky, store)
    await settled(one)
    await one.write()
    turns = (*call().messages, Message("assistant", "Paris."), Message("user", "And of Spain?"))

    made = await planned(other, messages=turns)

    (taken,) = made.decision.taken
    assert (taken.name, taken.why) == ("switch", "the conversation is with large")
    assert {arm for arm, p in zip(made.decision.arms, taken.penalties, strict=True) if p} == {"small+0", "small+2"}


# ---------------------------------------------------------------------- what goes wrong while learning


def break_(thing: Any, name: str, error: Exception) -> None:
    def fail(*args: Any) -> None:
        raise error

    setattr(thing, name, fail)


@pytest.mark.parametrize("broken", ["absorb", "forecaster"])
async def test_an_outcome_that_cannot_be_learned_is_kept(store: MemoryStore, broken: str) -> None:
    """It is written and counted, its deployment is free, and the caller hears of nothing."""
    one = lane(policy(**TEACHER), store)
    knowledge = one.parts.knowledge
    break_(*((knowledge, "absorb") if broken == "absorb" else (knowledge.forecaster, "learn")), ValueError("odd"))  # type: ignore[misc]
    made = await settled(one)
    counts = counted(one)
    await one.write()

    assert list(store.records) == [made.request.decision_id]
    assert all(load.in_flight == 0 for load in knowledge.board.total(NOW).values())
    assert counts["key:a decisions"] == 1.0
    assert counts["all " + {"absorb": "learning_failed", "forecaster": "lessons_skipped"}[broken]] == 1.0


async def test_an_odd_lesson_does_not_end_the_reading(store: MemoryStore) -> None:
    """It is skipped and counted, and the others are learned."""
    one = lane(store=store)
    store.learned += [lesson("a"), lesson("odd", means=(0.5,)), lesson("b")]

    assert await one.read() is True
    assert [known.decision_id for known in one.parts.knowledge.memory.snapshot()] == ["a", "b"]
    assert counted(one)["all lessons_skipped"] == 1.0


async def test_requests_have_their_turn_while_lessons_are_read(store: MemoryStore) -> None:
    """A page of hundreds takes longer than any of them should wait."""
    one = lane(store=store)
    store.learned += [lesson(f"d{i}") for i in range(400)]
    memory = one.parts.knowledge.memory
    reading, sizes = asyncio.create_task(one.read()), []
    while not reading.done():
        await asyncio.sleep(0)
        sizes.append(len(memory))

    assert len(memory) == 400
    assert max(after - before for before, after in pairwise([0, *sizes])) <= 50


# ------------------------------------------------------------------ admission


TEAM = policy(scope="team", judge={"sampled": {"model_group": "judge", "rate": 1.0}})


@pytest.mark.parametrize(("verdict", "reader"), [((0.5, 0.5), ""), ((1.0, 0.4), "a")])
async def test_a_judge_releases_what_waits(store: MemoryStore, verdict: tuple[float, float], reader: str) -> None:
    """When it found the answer at least as good both ways round; no decision is changed by it."""
    one = lane(TEAM, store)
    await store.add(example(scope="team:t", reader="a"))
    signals = dict(zip(VERDICTS, verdict, strict=True))

    was_taken = await one.take_heard(Heard("d9", signals, approves=Approval("e1", 1, "b")))

    assert was_taken
    assert store.examples["e1"].reader == reader
    assert (store.records, counted(one)) == ({}, {} if reader else {"all approved": 1.0})


class _Models:
    """Answers everything."""

    async def ask(self, ask: Ask) -> Reply:
        return Reply("Paris.", "stop", "m", 1, 1, 0.0, 0.1)


async def test_the_judge_is_asked_where_models_can_be() -> None:
    """Otherwise what waits is confirmed by others, or not at all."""
    one = lane(TEAM)
    before = one.outbox.judge
    one.ask_by(_Models())

    assert before is None
    assert one.outbox.judge is not None


async def test_a_stranger_s_bad_feedback_forgets_nothing(store: MemoryStore) -> None:
    """The same answer, which he was given too, is another's example."""
    one = lane(TEAM, store)
    await store.add(example("e1", scope="team:t", writer="v"))
    await store.settle(Settlement(record("d1", caller="x", scope="team:t", admitted_id="e1"), (), ()))

    await one.take_feedback("d1", Feedback(0.0, "", NOW))

    assert list(store.examples) == ["e1"]
    assert counted(one)["team:t forgotten"] == 0.0


async def test_an_answer_that_no_model_gave_is_counted_by_itself(teacher: Lane) -> None:
    """No arm is busy with it, and none has served; one of the same request at the same time is counted apart."""
    made = await planned(teacher)
    teacher.call_off(made)
    busy = [load.in_flight for load in teacher.parts.knowledge.board.own(NOW).values()]
    stored = StoredAnswer(example(), 0.0, 0.0, True, "proven")

    for one in (replace(made, answer=stored), made):
        teacher.settle(one, answer(deployment_id=STORED, cost_usd=0.0), [Attempt(STORED, STORED, None)])
    counts = counted(teacher)

    assert busy == [0]
    assert (counts["key:a answered_from_store"], counts["key:a answered_jointly"]) == (1, 1)
    assert (counts["key:a served_by_other"], counts["key:a cost_usd"]) == (2, 0)
    assert "key:a arm:large+0" not in counts
