from typing import Any

import pytest

from echo_proxy.online.sample import is_sampled, judge_call, shadow_call, share_of
from echo_proxy.policy import Policy
from echo_proxy.types import Attempt, Message, Names, Outcome, Plan, Quality, Rejection, Selection
from tests.builders import (
    GOOD,
    LARGE,
    SMALL,
    candidate,
    decision,
    failed,
    outcome,
    plan,
    plan_with_example,
    policy,
    request,
    selection,
    served,
)

JUDGE = {"sampled": {"model_group": "judge", "rate": 1.0}}
BY_SMALL = outcome("Lyon.", [served(SMALL)])
ARMS = ("small+0", "small+2", "large+0")


def judging(**changes: Any) -> Policy:
    return policy(judge={"sampled": {**JUDGE["sampled"], **changes}})


def shadowing(**changes: Any) -> Policy:
    return policy(shadow={"rate": 1.0, **changes})


def test_a_sample_is_the_same_everywhere() -> None:
    """It hangs on id and purpose alone, and is as large as the rate says."""
    ids = [f"d{i}" for i in range(10_000)]
    judged = {one for one in ids if is_sampled(one, "judge", 0.1)}
    shadowed = {one for one in ids if is_sampled(one, "shadow", 0.1)}

    assert judged == {one for one in ids if is_sampled(one, "judge", 0.1)}
    assert 900 < len(judged) < 1100
    assert 60 < len(judged & shadowed) < 140
    assert {one for one in ids if is_sampled(one, "judge", 0.05)} < judged
    assert not any(is_sampled(one, "judge", 0.0) for one in ids)
    assert all(is_sampled(one, "judge", 1.0) for one in ids)
    assert share_of("d1", "judge") != share_of("d1", "shadow")


# ------------------------------------------------------------------ judge


def test_an_answer_is_compared_with_the_nearest_example_s() -> None:
    """If it asks nearly the same: the teacher's answer is there already."""
    near = selection(candidate("e1", 0.04, response="Marseille."), candidate("e2", 0.01, response="Paris."))
    made = judge_call(plan(selection=near), BY_SMALL, GOOD, judging())

    assert made is not None
    assert (made.reference, made.answer, made.scope) == ("Paris.", "Lyon.", "key:a")
    assert made.dialogue == "user: What is the capital of France?"


def test_an_example_that_was_left_out_serves_too() -> None:
    """A twin of the chosen one is as good to compare with."""
    left_out = Selection(rejected=(Rejection(candidate(distance=0.0, response="Paris."), "duplicate"),))
    made = judge_call(plan(selection=left_out), BY_SMALL, GOOD, judging())

    assert made is not None
    assert made.reference == "Paris."


@pytest.mark.parametrize(
    "near", [candidate(distance=0.06), candidate(distance=0.01).__class__(candidate().example, 0.01, Names.NUMBERS)]
)
def test_an_example_about_something_else_does_not(near: Any) -> None:
    """The teacher is asked then: the arm's own deployment, without examples."""
    made = judge_call(plan(selection=selection(near), request=request(system="Be brief.")), BY_SMALL, GOOD, judging())

    assert made is not None
    assert made.reference == ""
    assert (made.ask_reference.model_group, made.ask_reference.deployment) == ("auto", "large")
    assert made.ask_reference.messages[0] == Message("system", "Be brief.")
    assert made.ask_reference.prompt.n_examples == 0


def test_the_policy_may_name_another_teacher() -> None:
    """By its model group; any of its deployments may answer."""
    made = judge_call(plan(), BY_SMALL, GOOD, judging(reference_group="best"))

    assert made is not None
    assert (made.ask_reference.model_group, made.ask_reference.deployment) == ("best", "")


@pytest.mark.parametrize(
    ("made", "answered", "quality", "rules"),
    [
        (plan(), BY_SMALL, GOOD, policy()),
        (plan(), BY_SMALL, GOOD, judging(rate=0.0)),
        (plan(), outcome(attempts=[served(LARGE)]), GOOD, judging()),
        (plan(), outcome(attempts=[Attempt("x", "x", None)]), GOOD, judging()),
        (plan(), outcome(attempts=[failed(SMALL)], error="Timeout"), GOOD, judging()),
        (plan(), outcome(attempts=[served(SMALL)], may_keep=False), GOOD, judging()),
        (plan(), outcome(attempts=[served(SMALL)], is_whole=False), GOOD, judging()),
        (plan(), outcome(" ", attempts=[served(SMALL)]), GOOD, judging()),
        (plan(), BY_SMALL, Quality(0.0, 1.0, {"refusal": 0.0}), judging()),
    ],
)
def test_what_is_not_judged(made: Plan, answered: Outcome, quality: Quality, rules: Policy) -> None:
    """Nothing out of the sample, of a teacher, of LiteLLM's own choice, failed, redacted, cut, or known to be bad."""
    assert judge_call(made, answered, quality, rules) is None


# ------------------------------------------------------------------ shadow


def test_another_deployment_answers_too() -> None:
    """With the prompt of its own arm, in the same group."""
    made = shadow_call(plan_with_example(), outcome(attempts=[served(LARGE)]), shadowing()) or shadow_call(
        plan(decision=decision(arms=ARMS), selection=selection(candidate())), outcome(), shadowing()
    )

    assert made is not None
    assert made.ask.deployment == "small"
    assert made.ask.model_group == "auto"
    assert made.key.segment == "all"
    assert made.ask.prompt.n_examples == (1 if made.key.arm == "small+2" else 0)


def test_the_second_arm_is_drawn_evenly() -> None:
    """Among the arms of other deployments that could have been drawn."""
    rules = shadowing()
    drawn = [
        shadow_call(plan(request=request(decision_id=f"d{i}"), decision=decision(arms=ARMS)), outcome(), rules)
        for i in range(1000)
    ]
    arms = [one.key.arm for one in drawn if one is not None]

    assert set(arms) == {"small+0", "small+2"}
    assert 420 < arms.count("small+0") < 580


def test_the_second_answer_has_room() -> None:
    """Four times the first one's, so that it is rarely our limit that cuts it."""
    long = outcome(attempts=[served(SMALL)], completion_tokens=5000)
    made = shadow_call(plan(decision=decision(arms=ARMS)), long, shadowing())

    assert made is not None
    assert (made.ask.deployment, made.ask.max_tokens) == ("large", 20_000)


@pytest.mark.parametrize(
    ("made", "answered", "rules"),
    [
        (plan(decision=decision(arms=ARMS)), outcome(), policy()),
        (plan(decision=decision(arms=ARMS)), outcome(), shadowing(rate=0.0)),
        (plan(decision=decision(arms=("large+0",))), outcome(), shadowing()),
        (plan(decision=decision(arms=ARMS)), outcome(may_keep=False), shadowing()),
        (plan(decision=decision(arms=ARMS)), outcome(error="Timeout"), shadowing()),
        (plan(decision=decision(arms=ARMS)), outcome(attempts=[Attempt("x", "x", None)]), shadowing()),
    ],
)
def test_what_has_no_shadow(made: Plan, answered: Outcome, rules: Policy) -> None:
    """Nothing out of the sample, without another arm, redacted, failed, or of LiteLLM's own choice."""
    assert shadow_call(made, answered, rules) is None
