"""plan(), reroute(), settle() and revise(), over fakes."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from echo_proxy.errors import EmbedderError
from echo_proxy.online.combine import combine
from echo_proxy.online.sample import Heard
from echo_proxy.pipeline import amend, plan, reroute, revise, settle
from echo_proxy.types import ArmKey, ArmSums, Attempt, Evidence, Feedback, Increment, Message, Prompt, Settlement
from tests.builders import (
    LARGE,
    NOW,
    SMALL,
    answer,
    example,
    failed,
    parts,
    plan_with_example,
    policy,
    request,
    served,
)
from tests.builders import plan as a_plan
from tests.builders import record as a_record
from tests.fakes import FrozenClock, HashingEmbedder, MemoryStore

BOTH = {"small", "large"}
TEACH = {"bandit": {"kind": "fixed", "floor": 1e-9, "probabilities": {"small+2": 1.0}}}


async def store_with_example() -> MemoryStore:
    store = MemoryStore()
    vector = HashingEmbedder().vector("What is the capital of France?")
    await store.add(example(vector=vector))
    return store


async def test_a_plan_takes_every_step() -> None:
    """Embedded once, retrieved, selected, routed, assembled; nothing bypassed."""
    made = await plan(request(), BOTH, parts(policy(**TEACH), await store_with_example()))

    assert made is not None
    assert [one.example.id for one in made.selection.chosen] == ["e1"]
    assert (made.decision.arm, made.decision.seed) == (SMALL, 1)
    assert made.prompt.example_ids == ("e1",)
    assert (made.policy, made.bypasses, made.is_shadow) == ("test", (), False)


async def test_a_store_that_is_away_costs_the_examples_not_the_decision() -> None:
    """The plan says so."""
    store = await store_with_example()
    store.is_away = True

    made = await plan(request(), BOTH, parts(policy(**TEACH), store))

    assert made is not None
    assert made.bypasses == ("store_unavailable",)
    assert made.prompt == Prompt()


async def test_without_an_available_arm_there_is_no_plan() -> None:
    """The call is LiteLLM's."""
    assert await plan(request(), {"elsewhere"}, parts()) is None


async def test_in_shadow_mode_a_decision_is_made_and_nothing_added() -> None:
    """The call is LiteLLM's alone."""
    made = await plan(request(), BOTH, parts(policy(mode="shadow", **TEACH), await store_with_example()))

    assert made is not None
    assert (made.is_shadow, made.decision.arm, made.prompt) == (True, SMALL, Prompt())


async def test_no_more_examples_are_selected_than_the_greediest_arm_takes() -> None:
    """Though more are near."""
    store = MemoryStore()
    for index, text in enumerate(("capital of France", "the capital of France", "France capital", "capital France of")):
        await store.add(example(f"e{index}", vector=HashingEmbedder().vector(text)))
    rules = policy(selection={"duplicate_distance": 0.0, "min_utility": 0.0}, retrieval={"max_distance": 2.0})

    made = await plan(request(), BOTH, parts(rules, store))

    assert made is not None
    assert len(made.selection.chosen) == 2


class _Broken(HashingEmbedder):
    async def embed(self, texts: Any) -> Any:
        raise EmbedderError("away")


async def test_without_a_vector_there_is_no_plan() -> None:
    """The adapter hears of it and counts it."""
    with pytest.raises(EmbedderError, match="away"):
        await plan(request(), BOTH, parts(embedder=_Broken()))


async def test_a_failed_attempt_draws_again_among_what_is_left() -> None:
    """Same request, same examples, another arm; nothing is embedded or searched again."""
    before = await plan(request(), BOTH, parts(policy(**TEACH), await store_with_example()))
    assert before is not None

    again = reroute(before, {"large"}, parts(policy(**TEACH)))

    assert again == replace(before, decision=again.decision, prompt=Prompt()) if again else False
    assert again.decision.arm.name == "large+0"
    assert reroute(before, {"elsewhere"}, parts()) is None


async def test_a_second_draw_sees_how_busy_it_is_now_and_how_little_time_is_left() -> None:
    """The first attempt took seven of twenty seconds; its record still tells the whole deadline."""
    rules, clock = policy(deadline={"answer_s": 20.0}), FrozenClock(request().received_at)
    given = replace(parts(rules), clock=clock)
    before = await plan(request(), BOTH, given)
    assert before is not None
    clock.time += 7.0
    given.knowledge.board.start("other", "large", clock.time)
    again = reroute(before, {"large"}, given)

    assert again is not None
    assert again.decision.situation is not None
    assert again.decision.situation.conditions.deadline_s == 13.0
    assert again.decision.situation.conditions.loads["large"].in_flight == 1


# ------------------------------------------------------------------ settle


GUESS = combine({}, policy().judge, 0.05).estimate
"""Quality of an answer that nothing speaks against."""


def increment(arm: str, weight: float, reward: float) -> Increment:
    return Increment(ArmKey(arm, "all"), ArmSums(weight, weight * reward, weight * reward**2))


def test_an_answer_of_the_teacher_teaches() -> None:
    """Record, evidence and example in one settlement."""
    rules = policy(reward={"cost_weight": 0, "latency_weight": 0, "quality_weight": 1})

    made = settle(a_plan(), answer(), [served()], rules)

    assert made.refusal is None
    assert made.example is not None
    assert made.settlement.record.admitted_id == made.example.id == "d1"
    assert made.settlement.increments == (increment("large+0", 0.05, GUESS),)
    assert made.settlement.example_increments == ()
    assert made.settlement.record.revision == 1


def test_the_gate_is_told_what_the_vector_stands_for_and_who_shares() -> None:
    """The turn before belongs to it, and wider scopes are to have a copy."""
    asked = request(dialogue=(Message("user", "Who?"), Message("assistant", "Ann."), Message("user", "Why?")))

    made = settle(a_plan(request=replace(asked, wider=("team:t",))), answer(), [served()], policy())

    assert (made.asked, made.wider) == ("Who?\nWhy?", ("team:t",))


def test_a_refused_answer_says_why() -> None:
    """And the record names no example."""
    made = settle(plan_with_example(), answer(), [served(SMALL)], policy())

    assert (made.example, made.refusal, made.settlement.record.admitted_id) == (None, "not_a_teacher", "")


def test_the_examples_in_the_prompt_are_credited() -> None:
    """With the weight that validators have."""
    made = settle(plan_with_example(), answer(), [served(SMALL)], policy())

    (credit,) = made.settlement.example_increments

    assert (credit.example_id, credit.uses) == ("e1", pytest.approx(0.05 + 0.95 * 0.1))
    assert credit.gain == pytest.approx(credit.uses * made.settlement.record.quality)
    assert (made.settlement.record.n_examples, made.settlement.record.example_ids) == (1, ("e1",))


@pytest.mark.parametrize(
    "attempts",
    [
        [failed(SMALL), Attempt("elsewhere-1", "elsewhere-1", None)],
        [Attempt("elsewhere-1", "elsewhere-1", None)],
        [],
    ],
)
def test_examples_that_the_answer_never_saw_are_not_credited(attempts: list[Attempt]) -> None:
    """After a fallback that LiteLLM chose, the answer was given without them."""
    made = settle(plan_with_example(), answer(), attempts, policy())

    assert made.settlement.example_increments == ()
    assert (made.settlement.record.n_examples, made.settlement.record.example_ids) == (0, ())


def test_an_outage_is_not_the_examples_fault() -> None:
    """The arm that failed learns from it, its examples do not."""
    away = answer("", error="InternalServerError", deployment_id="")

    made = settle(plan_with_example(), away, [failed(SMALL)], policy())

    assert made.settlement.example_increments == ()
    assert made.settlement.increments == (increment("small+2", 1.0, 0.0),)
    assert (made.example, made.refusal) == (None, "error")


# ------------------------------------------------------------------ revise


def totals(*settlements: Settlement) -> list[float]:
    found = [one.sums for settlement in settlements for one in settlement.increments]
    return [sum(one.weight for one in found), sum(one.reward_sum for one in found)]


def test_feedback_replaces_what_was_believed() -> None:
    """Also the second time: the sums are as if only the last one had ever been given, whenever it came."""
    rules = policy(reward={"cost_weight": 0, "latency_weight": 0, "quality_weight": 1})
    first = settle(plan_with_example(), answer(), [served(SMALL)], rules).settlement

    second = revise(first.record, Feedback(0.25, "", NOW + 3600), rules)
    third = revise(second.record, Feedback(0.75, "", NOW + 7 * 86400), rules)

    assert totals(first, second) == pytest.approx([1.0, 0.25])
    assert totals(first, second, third) == pytest.approx([1.0, 0.75])
    assert [one.record.revision for one in (first, second, third)] == [1, 2, 3]
    assert (third.record.quality, third.record.feedback, third.record.reward) == (0.75, 0.75, 0.75)


SHADOW = Evidence(ArmKey("large+0", "all"), 0.2, 0.6, is_served=False)
NEWS = (
    Heard("d1", {"verdict_first": 0.3, "verdict_second": 0.5}),
    Heard("d1", {"shadow_agreement": 0.2}, (SHADOW,)),
    Heard("d1", {"feedback": 0.25}, comment="meh"),
)


@pytest.mark.parametrize("order", list(permutations(NEWS)) + list(permutations(NEWS[:2])))
def test_what_comes_later_may_come_in_any_order(order: tuple[Heard, ...]) -> None:
    """Sums, credit and record are as if all had been known at once; the second arm's evidence is added once."""
    rules = policy(judge={"sampled": {"model_group": "judge"}})
    made = [settle(plan_with_example(), answer(), [served(SMALL)], rules).settlement]
    for heard in order:
        made.append(amend(made[-1].record, heard, rules))
    last = made[-1].record
    all_known = {**made[0].record.signals, **{k: v for heard in order for k, v in heard.signals.items()}}
    expected = combine(all_known, rules.judge, rules.reward.unjudged_weight)

    assert (last.quality, last.quality_weight, dict(last.signals)) == (expected.estimate, expected.weight, all_known)
    assert [one for one in last.evidence if not one.is_served] == [SHADOW]
    assert totals(*made) == pytest.approx([expected.weight + 0.2, expected.weight * last.reward + 0.2 * 0.6])
    assert sum(one.gain for each in made for one in each.example_increments) == pytest.approx(
        expected.weight * expected.estimate
    )
    assert last.feedback == all_known.get("feedback")


def test_feedback_is_the_examples_credit_too() -> None:
    """Their uses count one answer, their gain what it was worth."""
    first = settle(plan_with_example(), answer(), [served(SMALL)], policy()).settlement
    second = revise(first.record, Feedback(0.25), policy())
    changes = [*first.example_increments, *second.example_increments]

    assert sum(one.uses for one in changes) == pytest.approx(1.0)
    assert sum(one.gain for one in changes) == pytest.approx(0.25)


def test_feedback_on_a_fallback_s_answer_teaches_no_arm() -> None:
    """Nobody drew it."""
    first = settle(a_plan(), answer(), [replace(served(), decision=None)], policy()).settlement

    assert revise(first.record, Feedback(1.0), policy()).increments == ()


def test_what_an_answer_cost_still_counts_after_feedback() -> None:
    """Feedback replaces the quality, not the price."""
    rules = policy(reward={"quality_weight": 0.5, "cost_weight": 0.5, "latency_weight": 0, "cost_scale_usd": 0.002})
    first = settle(a_plan(decision=a_plan().decision), answer(cost_usd=0.001), [served(LARGE)], rules).settlement

    assert revise(first.record, Feedback(1.0), rules).record.reward == pytest.approx(0.75)


def test_a_late_answer_is_worth_less_but_teaches_what_it_was() -> None:
    """Lateness is foreseen by the deadline step; counted in the evidence too it would weigh twice."""
    hurried = policy(deadline={"answer_s": 1.0})
    made = settle(a_plan(), answer(), [served()], hurried).settlement.record

    assert made.reward == 0.0
    assert made.evidence[0].reward > 0.5


def test_feedback_from_before_there_were_signals_is_not_forgotten() -> None:
    """What a judge says later counts less than what the reader has said."""
    before = a_record(feedback=0.0, quality=0.0, quality_weight=1.0, signals={})

    after = amend(before, Heard("d1", {"verdict_first": 1.0, "verdict_second": 1.0}), policy()).record

    assert (after.feedback, after.quality, after.quality_weight) == (0.0, 0.0, 1.0)


CLUSTER = ("capital of France", "the capital of France", "France capital city", "what capital has France")
SHARING: dict[str, Any] = {
    "selection": {"duplicate_distance": 0.0, "min_utility": 0.0, "learned": None, "explore": 0.0},
    "retrieval": {"max_distance": 2.0},
    "arms": [{"deployment": "small", "n_examples": 2}],
    "bandit": {"kind": "uniform"},
}


async def clustered() -> MemoryStore:
    store = MemoryStore()
    for index, text in enumerate(CLUSTER):
        await store.add(example(f"e{index}", vector=HashingEmbedder().vector(text), response=text))
    return store


async def test_a_backbone_grows_from_what_is_used_and_drops_what_is_forgotten() -> None:
    """At first all examples are tailored; then one is shared; once the store gives it no more it is not shown."""
    store = await clustered()
    work = parts(policy(prompt={"backbone": 1}, **SHARING), store)
    texts = ["capital of France", "France capital city", "capital of France", "what capital has France"]
    prompts = [made.prompt for text in texts if (made := await plan(request(text), BOTH, work))]
    (shared, *_) = prompts[2].example_ids
    await store.remove([shared])
    after = await plan(request("capital of France"), BOTH, work)

    assert prompts[2].example_ids[0] == prompts[3].example_ids[0] == shared
    assert prompts[2].turns[:2] == prompts[3].turns[:2]
    assert after is not None
    assert shared not in after.prompt.example_ids
    assert len(after.prompt.example_ids) == 2


async def test_without_a_backbone_nothing_is_counted() -> None:
    """What is not used costs nothing."""
    work = parts(policy(**SHARING), await clustered())
    made = await plan(request("capital of France"), BOTH, work)

    assert made is not None
    assert (made.selection.familiar, list(work.familiar._groups)) == ((), [])
