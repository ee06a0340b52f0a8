"""What answers tell of stored ones, and what follows from it on the path."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from echo_proxy.answers.bound import LEAST_EXPLORING
from echo_proxy.answers.observe import EXPLAINED, complaint, observed
from echo_proxy.answers.witnesses import witness_of
from echo_proxy.lane import Lane
from echo_proxy.online.sample import Heard, SameCall, same_call
from echo_proxy.pipeline import revise, settle
from echo_proxy.policy import Policy
from echo_proxy.types import (
    STORED,
    Attempt,
    Caller,
    Example,
    ExampleIncrement,
    Feedback,
    Observation,
    Plan,
    SeenAnswer,
    StoredAnswer,
)
from tests.builders import NOW, SMALL, answer, example, lane, outcome, plan, policy, request, served, vector
from tests.builders import call as call_of
from tests.fakes import MemoryStore
from tests.test_beside import World

LONG = "The capital of France is Paris, which lies on the Seine and has been the seat of its government for very long."
SHORTER = "It is Paris, on the Seine, where the government of France has had its seat for many centuries and still has."


def prefers_stored(first: str, second: str) -> int:
    """A judge who takes LONG for much better, wherever it stands."""
    return 3 if first == LONG else -3


def rules(**changes: Any) -> Policy:
    """The tier is on, and a judge can be asked."""
    return policy(judge={"sampled": {"model_group": "judge", "rate": 0}}, answers={"near_miss_rate": 1.0, **changes})


NO_JUDGE = policy(answers={})


def considered(response: str = "Paris.", is_served: bool = False, **changes: Any) -> Plan:
    """A plan with a stored answer."""
    stored = StoredAnswer(example(response=response, version=3), 0.1, 0.4, is_served, "drew 0.2")
    return plan(answer=stored, **changes)


def call(text: str = SHORTER, response: str = LONG, **changes: Any) -> SameCall:
    """What the judge is asked when the teacher said something else than the store."""
    made = same_call(considered(response), outcome(text, **changes), rules())
    assert made is not None
    return made


def told(is_correct: bool) -> SeenAnswer:
    """What is noted with the example."""
    return SeenAnswer("e1", 3, Observation(0.1, is_correct, NOW, witness_of(Caller("a"))))


@pytest.mark.parametrize(("text", "is_correct"), [("paris", True), ("London", False)])
def test_a_teachers_answer_is_a_label(text: str, is_correct: bool) -> None:
    """The same words say that the stored answer was right, other brief ones that it was wrong."""
    assert observed(considered(), outcome(text), rules()) == told(is_correct)


@pytest.mark.parametrize(
    ("made", "came"),
    [
        (plan(), outcome("Paris.")),
        (considered(), outcome("Paris.", [served(SMALL)])),
        (considered(), outcome("Paris.", is_whole=False)),
        (considered(), outcome("Paris.", may_keep=False)),
        (considered(), outcome("", error="Timeout")),
        (considered(is_served=True), outcome("Paris.", [Attempt(STORED, STORED, None)], deployment_id=STORED)),
    ],
)
def test_other_answers_are_none(made: Plan, came: Any) -> None:
    """Without a stored answer, from a small model, in part, not to be kept, failed, or the stored one itself."""
    assert observed(made, came, rules()) is None


def test_a_teacher_that_saw_examples_tells_nothing() -> None:
    """It may have copied one."""
    made = considered()
    shown = replace(made, prompt=replace(made.prompt, example_ids=("e1",)))

    assert observed(shown, outcome("Paris."), rules()) is None


def test_in_shadow_mode_labels_are_gathered() -> None:
    """The teacher answered by LiteLLM's choice, without a decision of Echo's."""
    made = considered(is_shadow=True)

    assert observed(made, outcome("Paris.", [Attempt("large-1", "large", None)]), rules()) == told(True)


def test_what_only_a_judge_can_tell_waits_for_the_judge() -> None:
    """Longer texts in other words are no label yet; without a judge they count as wrong."""
    assert observed(considered(LONG), outcome(SHORTER), rules()) is None
    assert call().reference == SHORTER
    assert observed(considered(LONG), outcome(SHORTER), NO_JUDGE) == told(False)
    assert same_call(considered(LONG), outcome(SHORTER), NO_JUDGE) is None


def test_a_near_miss_of_a_small_model_is_sampled() -> None:
    """The teacher is asked beside the path, at the policy's rate; a plain label needs no call."""
    small = outcome("Rome.", [served(SMALL)])

    made = same_call(considered(), small, rules())

    assert made is not None
    assert (made.reference, made.ask_reference.deployment) == ("", "large")
    assert same_call(considered(), small, rules(near_miss_rate=0.0)) is None
    assert same_call(considered(), outcome("Paris."), rules()) is None


@pytest.mark.parametrize(
    ("prefers", "is_correct"),
    [
        (lambda first, second: 0, True),
        (prefers_stored, True),
        (lambda a, b: -prefers_stored(a, b), False),
        (lambda a, b: 3, False),
    ],
)
async def test_the_judge_decides_both_ways_round(prefers: Callable[[str, str], int], is_correct: bool) -> None:
    """Only an answer that is as good in both orders was right: a judge that always takes the first one decides
    nothing."""
    world = World(prefers)

    await world.beside.do(call())

    assert [heard.seen for heard in world.heard] == [told(is_correct)]


async def test_without_a_verdict_the_stored_answer_counts_as_wrong() -> None:
    """A label that is left out whenever the judge is away would leave too many right ones."""
    world = World()
    world.models.error = TimeoutError()

    await world.beside.do(call())

    assert [heard.seen for heard in world.heard] == [told(False)]


async def test_a_near_miss_whose_teacher_is_away_is_no_label() -> None:
    """Whether the teacher can be asked hangs on nothing that it would say."""
    world = World()
    world.models.error = TimeoutError()

    await world.beside.do(replace(call(), reference=""))

    assert world.heard == []


async def test_a_near_miss_is_compared_with_the_teachers_answer() -> None:
    """No judge is asked where the words are the same."""
    world = World()
    world.models.text = LONG

    await world.beside.do(replace(call(), reference=""))

    assert [heard.seen for heard in world.heard] == [told(True)]
    assert [ask.model_group for ask in world.models.asked] == ["auto"]


def test_what_the_store_says_already_is_not_kept_again() -> None:
    """The observation is worth more with the one example than another of which nothing is known."""
    merged = settle(considered(), answer("Paris."), [served()], rules())
    pooled = settle(considered(), answer("Paris."), [served()], rules(estimate="pooled"))

    assert (merged.refusal, merged.example, merged.seen) == ("same_answer", None, told(True))
    assert pooled.refusal is None


def test_a_served_answer_is_an_offload_and_no_evidence() -> None:
    """No arm learns from it; the example is credited, less when a reader is discontent."""
    made = considered(is_served=True)
    settled = settle(made, answer(deployment_id=STORED), [Attempt(STORED, STORED, None)], rules())
    record = settled.settlement.record

    assert settled.settlement.increments == ()
    assert settled.settlement.example_increments == (ExampleIncrement("e1", 0.0, 0.0, offloads=record.quality),)
    assert record.explanation[EXPLAINED] == {
        "example": "e1",
        "version": 3,
        "distance": 0.1,
        "explore_chance": 0.4,
        "fate": "served",
        "why": "drew 0.2",
        "witness": witness_of(Caller("a")),
    }
    revised = revise(record, Feedback(0.0), rules())
    assert revised.example_increments == (ExampleIncrement("e1", 0.0, 0.0, offloads=-record.quality),)


def test_a_complaint_is_a_wrong_answer() -> None:
    """Only of an answer that was served; what a model said in its place is the model's affair."""
    made = considered(is_served=True)
    stored = settle(made, answer(deployment_id=STORED), [Attempt(STORED, STORED, None)], rules()).settlement.record
    model = settle(made, answer(), [served()], rules()).settlement.record

    assert complaint(stored, NOW) == told(False)
    assert complaint(model, NOW) is None


async def served_lane(store: MemoryStore) -> Lane:
    """A lane that has served example e1 for decision d1."""
    made = lane(rules(), store)
    await store.add(example(version=3))
    made.settle(considered(is_served=True), answer(deployment_id=STORED), [Attempt(STORED, STORED, None)])
    await made.write()
    return made


async def test_bad_feedback_is_noted_once_with_the_example() -> None:
    """The example stays, with a wrong observation; to complain again adds none."""
    store = MemoryStore()
    made = await served_lane(store)

    await made.take_feedback("d1", Feedback(0.0))
    await made.take_feedback("d1", Feedback(0.1))

    assert [one.is_correct for one in store.examples["e1"].observations] == [False]


async def test_who_changes_his_mind_complains_once() -> None:
    """Praise in between does not make another wrong answer of the same one."""
    store = MemoryStore()
    made = await served_lane(store)

    for score in (0.0, 1.0) * 5:
        await made.take_feedback("d1", Feedback(score))

    assert [one.is_correct for one in store.examples["e1"].observations] == [False]


async def test_praise_that_is_taken_back_is_a_complaint() -> None:
    """What was not noted yet is noted, as of the one who asked."""
    store = MemoryStore()
    made = await served_lane(store)

    await made.take_feedback("d1", Feedback(1.0))
    await made.take_feedback("d1", Feedback(0.0))

    assert store.examples["e1"].observations == (told(False).observation,)


def test_keys_of_one_user_are_one_witness() -> None:
    """A label names the person; where no user is known, the key."""
    joe, same, other = (Caller(key, user=user) for key, user in (("k1", "joe"), ("k2", "joe"), ("k1", None)))

    made = [observed(considered(request=request(caller=one)), outcome("Paris."), rules()) for one in (joe, same, other)]

    names = [one.observation.witness for one in made if one is not None]
    assert (len(names), len(set(names))) == (3, 2)
    assert names[0] == names[1]


async def test_praise_is_not_noted() -> None:
    """A label must not hang on what it says."""
    store = MemoryStore()
    made = await served_lane(store)

    await made.take_feedback("d1", Feedback(1.0))

    assert store.examples["e1"].observations == ()


async def test_the_label_reaches_the_store() -> None:
    """What the teacher's answer told is there after the next write, once."""
    store = MemoryStore()
    made = lane(rules(), store)
    await store.add(example(version=3))

    for _ in range(2):
        made.settle(considered(), answer("Paris."), [served()])
    await made.write()

    assert store.examples["e1"].observations == (told(True).observation,)


async def test_a_judge_who_cannot_be_asked_means_wrong() -> None:
    """Where nothing can be asked beside the path."""
    store = MemoryStore()
    made = lane(rules(), store)
    await store.add(example(version=3, response=LONG))

    made.settle(considered(LONG), answer(SHORTER), [served()])
    await made.write()

    assert store.examples["e1"].observations == (told(False).observation,)


async def test_what_the_judge_said_reaches_the_store() -> None:
    """Unless the example has changed since."""
    store = MemoryStore()
    made = lane(rules(), store)
    await store.add(example(version=3))

    assert await made.take_heard(Heard("d1", {}, seen=told(True)))
    assert await made.take_heard(Heard("d1", {}, seen=replace(told(True), version=2)))

    assert store.examples["e1"].observations == (told(True).observation,)


async def test_plan_considers_what_retrieval_found() -> None:
    """From the request to the stored answer, through the pipeline."""
    store = MemoryStore()
    made = lane(rules(max_error=0.5), store)
    asked = call_of()
    first = await made.plan(asked, {"small", "large"})
    assert isinstance(first, Plan)
    assert first.vector is not None
    like = {"vector": first.vector, "partition": first.request.partition, "answer_key": first.request.answer_key}
    await store.add(example(**like, observations=(Observation(0.0, True, NOW),) * 20))

    second = await made.plan(asked, {"small", "large"})

    assert first.answer is None
    assert isinstance(second, Plan)
    assert second.answer is not None
    assert (second.answer.example.id, second.answer.explore_chance) == ("e1", LEAST_EXPLORING)


# ------------------------------------------------------------------ what a judge found right is kept under more words


def near_miss(text: str = "Which town is the capital of France?", **changes: Any) -> SameCall:
    """A small model answered what the store, perhaps, could have."""
    asked = request(text, **{"answer_key": "k", "caller": Caller(key="a"), **changes})
    made = same_call(
        considered(LONG, request=asked, vector=vector(0.5, 0.5)), outcome("Rome.", [served(SMALL)]), rules()
    )
    assert made is not None
    return made


async def promoting(store: MemoryStore, call: SameCall | None = None, **changes: Any) -> Lane:
    """A lane whose judge finds the stored answer of example e1 right, and says so twice."""
    made, world = lane(rules(), store), World()
    world.models.text = LONG
    await store.add(example(version=3, response=LONG, **changes))
    await world.beside.do(call or near_miss())
    for _ in range(2):
        assert await made.take_heard(world.heard[0])
    return made


def promoted_in(store: MemoryStore) -> list[Example]:
    """What was promoted, or was to be."""
    return [one for one in store.examples.values() if one.id != "e1"]


async def test_a_near_miss_that_was_right_is_kept_once() -> None:
    """Under the words of that request; it is counted, and noted with the original as ever."""
    store = MemoryStore()

    made = await promoting(store)

    assert [(one.request[:10], one.response, one.origin) for one in promoted_in(store)] == [
        ("Which town", LONG, "promoted")
    ]
    assert made.counts.take()[("key:a", "promoted")] == 1
    assert {one.is_correct for one in store.examples["e1"].observations} == {True}


async def test_one_that_was_wrong_is_not_kept() -> None:
    """It is a label, and that is all."""
    world = World(lambda first, second: -prefers_stored(first, second))
    world.models.text = SHORTER

    await world.beside.do(near_miss())

    assert [(heard.seen, heard.promotes) for heard in world.heard] == [(told(False), None)]


async def test_an_original_that_has_changed_is_not_promoted() -> None:
    """Its answer is another one by now, or it is gone."""
    store = MemoryStore()
    made, heard = lane(rules(), store), Heard("d1", {}, seen=told(True), promotes=near_miss().promotes)

    for version in (None, 2):
        if version:
            await store.add(example(version=version))
        assert await made.take_heard(heard)

    assert promoted_in(store) == []


async def test_a_secret_in_the_request_keeps_it_out() -> None:
    """It passes the gate as every example does, and the refusal is counted."""
    store = MemoryStore()
    secret = "AKIA" + "Q7" * 8

    made = await promoting(store, near_miss(f"Which town is the capital of France? {secret}"))

    assert promoted_in(store) == []
    assert any(name.startswith("unpromoted:privacy") for _, name in made.counts.take())


async def test_in_a_scope_of_many_it_serves_the_asker_alone() -> None:
    """And it vouches for nobody: the asker's teacher has not said it."""
    store, text = MemoryStore(), "Which town is the capital of France?"
    waiting = example("w", scope="team:t", request=text, response=LONG, writer="c", reader="c", vector=vector(0.5, 0.5))
    await store.add(waiting)
    asked = request(text, answer_key="k", caller=Caller(key="b", team="t"), scope="team:t")
    answer = StoredAnswer(example(response=LONG, version=3, scope="team:t"), 0.1, 0.4, False, "")
    near = plan(answer=answer, request=asked, vector=vector(0.5, 0.5))
    missed = same_call(near, outcome("Rome.", [served(SMALL)]), rules())

    await promoting(store, missed, scope="team:t")

    made = [(one.writer, one.reader) for one in promoted_in(store) if one.origin == "promoted"]
    assert made == [("b", "b")]
    assert store.examples["w"].confirmed_by == ()


async def test_the_same_words_again_are_given_what_was_promoted() -> None:
    """At temperature 0 at once; by chance only what is proven."""
    store = MemoryStore()
    made = lane(rules(), store)
    one = call_of("Which town is the capital of France?", parameters='{"temperature":0}')
    first = await made.plan(one, {"small", "large"})
    assert isinstance(first, Plan)
    assert first.vector is not None
    shape = {"partition": first.request.partition, "answer_key": first.request.answer_key, "vector": -first.vector}
    answer = StoredAnswer(example(response=LONG, version=3, **shape), 0.1, 0.4, False, "")
    missed = same_call(replace(first, answer=answer), outcome("Rome.", [served(SMALL)]), rules())
    await promoting(store, missed, **shape)

    plans = [await made.plan(replace(one, parameters=how), {"small", "large"}) for how in (one.parameters, "")]

    chances = [(p.answer.example.origin, p.answer.explore_chance) for p in plans if isinstance(p, Plan) and p.answer]
    assert chances == [("promoted", LEAST_EXPLORING)]


def test_what_may_be_given_again_is_kept_though_the_store_says_the_same() -> None:
    """The next one with these very words needs no proof then."""
    asked = request(answer_key="k", is_deterministic=True)
    kept, without = (
        settle(considered(request=asked), answer("Paris."), [served()], rules(identical=how)).refusal
        for how in ("deterministic", "off")
    )

    assert (kept, without) == (None, "same_answer")
