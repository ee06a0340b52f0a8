import json
from dataclasses import replace
from typing import Any

import pytest

from echo_proxy.online.log import record_of, revised_record
from echo_proxy.policy import LogPolicy
from echo_proxy.types import (
    ArmKey,
    Caller,
    Conditions,
    DecisionRecord,
    Evidence,
    Names,
    Plan,
    Quality,
    Rejection,
    Selection,
)
from tests.builders import (
    GOOD,
    LARGE,
    NOW,
    SMALL,
    candidate,
    decision,
    failed,
    outcome,
    plan,
    plan_with_example,
    request,
    served,
    situation,
)

EVIDENCE = (Evidence(ArmKey("large+0", "all"), 0.05, 0.9),)


def logged(made: Plan, rules: LogPolicy | None = None, **changes: object) -> DecisionRecord:
    return record_of(made, outcome(**changes), GOOD, 0.9, EVIDENCE, rules or LogPolicy(ttl_s=60))


def test_a_record_holds_decision_and_outcome() -> None:
    """First revision, with the decision's propensity and an expiry counted from its time."""
    made = logged(plan())

    assert (made.id, made.policy, made.scope, made.revision) == ("d1", "test", "key:a", 1)
    assert (made.created_at, made.expires_at) == (NOW, NOW + 60)
    assert (made.arm, made.segment, made.propensity, made.served_by) == ("large+0", "all", 0.75, "large-1")
    assert (made.quality, made.quality_weight, made.reward, made.evidence) == (1.0, 0.05, 0.9, EVIDENCE)
    assert (made.feedback, made.admitted_id, made.n_examples) == (None, "", 0)


def test_the_last_draw_of_several_counts() -> None:
    """A retry drew again; the record shows the draw that LiteLLM followed last."""
    made = logged(plan(), attempts=[failed(LARGE), served(SMALL)])

    assert made.arm == "small+2"
    assert made.explanation["attempts"] == [
        {"deployment": "large-1", "arm": "large+0", "error": "InternalServerError", "blamed": True},
        {"deployment": "small-1", "arm": "small+2", "error": None, "blamed": False},
    ]


def test_without_a_draw_of_its_own_the_plan_s_counts() -> None:
    """As in shadow mode, where every attempt is LiteLLM's."""
    made = logged(plan(is_shadow=True), attempts=[replace(served(), decision=None)])

    assert made.arm == "large+0"
    assert made.explanation["mode"] == "shadow"


def test_a_reader_is_told_of_rewards_that_can_be() -> None:
    """A line may lead beyond [0, 1]."""
    made = logged(plan(decision=decision(means=(1.2, -0.1))), attempts=[replace(served(), decision=None)])
    told = made.explanation["decision"]

    assert isinstance(told, dict)
    assert isinstance(told["arms"], dict)
    assert [one["mean_reward"] for one in told["arms"].values() if isinstance(one, dict)] == [1.0, 0.0]


def test_the_deadline_is_the_request_s() -> None:
    """Not what was left of it when a later attempt was drawn: the answer's time counts from the beginning as well."""
    first, again = (
        replace(served(), decision=decision(situation=situation(conditions=Conditions(deadline_s=left_s))))
        for left_s in (20.0, 13.0)
    )
    made = logged(plan(), attempts=[replace(first, error="Timeout"), again])

    assert made.deadline_s == 20.0


def test_every_candidate_s_fate_is_told() -> None:
    """Used, chosen for more than the arm took, or left out."""
    left_out = Rejection(replace(candidate("e3", utility=0.1), names=Names.MISSING), "utility")
    chosen = Selection((candidate("e1"), candidate("e2")), (left_out,))

    made = logged(replace(plan_with_example(), selection=chosen))
    fates = {one["id"]: one["fate"] for one in made.explanation["candidates"]}  # type: ignore[union-attr,index,call-overload]

    assert fates == {"e1": "used", "e2": "chosen, arm took fewer", "e3": "left out: utility"}
    assert (made.n_examples, made.example_ids) == (1, ("e1",))


def test_an_explanation_is_json() -> None:
    """It is stored and served as it is."""
    made = logged(plan_with_example(bypasses=("store_unavailable",)))

    assert json.loads(json.dumps(made.explanation)) == made.explanation
    assert made.explanation["bypasses"] == ["store_unavailable"]
    assert made.explanation["decision"] == {
        "arm": "large+0",
        "propensity": 0.75,
        "segment": "all",
        "arms": {
            "large+0": {"probability": 0.75, "mean_reward": 0.8, "weight": 3.0},
            "other+0": {"probability": 0.25, "mean_reward": 0.5, "weight": 2.0},
        },
        "adjustments": ["floor 0.01"],
        "taken": {},
        "invites_feedback": False,
        "seed": 7,
    }


def test_texts_are_whole_at_first() -> None:
    """They are cut when they have been cleaned: half a secret is not recognised."""
    made = logged(plan(request=request("q" * 3000)), text="a" * 3000)

    assert made.explanation["request"] == "q" * 3000
    assert made.explanation["answer"] == "a" * 3000


def test_texts_can_be_left_out() -> None:
    """Neither question nor answer nor an example's text is in the record then."""
    made = logged(plan_with_example(), LogPolicy(texts=False), text="Secret answer")

    assert "Secret answer" not in json.dumps(made.explanation)
    assert "France" not in json.dumps(made.explanation)


def test_feedback_makes_the_next_revision() -> None:
    """What was measured stays; what was believed is replaced."""
    before = logged(plan())
    after = revised_record(before, Quality(0.25, 1.0, {"answered": 1.0, "feedback": 0.25}), 0.2, (), "meh")

    assert after == replace(
        before,
        revision=2,
        quality=0.25,
        quality_weight=1.0,
        reward=0.2,
        evidence=(),
        feedback=0.25,
        signals={"answered": 1.0, "feedback": 0.25},
        explanation={**before.explanation, "signals": {"answered": 1.0, "feedback": 0.25}, "comment": "meh"},
    )


def test_what_was_redacted_is_not_written_down() -> None:
    """Neither question, answer nor examples: the operator or the caller wanted no text kept."""
    made = logged(plan_with_example(), may_keep=False)

    assert made.explanation["request"] is None
    assert made.explanation["answer"] is None
    assert made.explanation["candidates"][0]["request"] is None  # type: ignore[index, call-overload]


def test_a_record_says_whether_its_arm_answered() -> None:
    """After a fallback cost, latency and reward are somebody else's."""
    other = replace(served(), decision=None)

    assert logged(plan()).is_acted
    assert not logged(plan(), attempts=[failed(SMALL), other]).is_acted


@pytest.mark.parametrize("wish", [{"is_unkept": True}, {"caller": Caller(key="a", is_unkept=True)}])
def test_who_wants_nothing_kept_leaves_no_texts(wish: dict[str, Any]) -> None:
    """Whether the client says so or the operator of its key."""
    said = logged(replace(plan_with_example(), request=request(**wish)), text="Secret answer").explanation

    assert (said["request"], said["answer"]) == (None, None)
    assert "France" not in json.dumps(said)


def test_a_record_shows_nobody_else_s_requests() -> None:
    """It would outlive their example: who forgets that knows nothing of this record."""
    chosen = Selection((candidate("e1", request="Mine?"), candidate("e2", request="Theirs?", writer="b")))
    told = logged(replace(plan_with_example(), selection=chosen)).explanation["candidates"]

    assert [one["request"] for one in told] == ["Mine?", None]  # type: ignore[index, call-overload, union-attr]


def test_a_record_says_whether_its_request_may_ever_be_kept() -> None:
    """So that upkeep asks for nothing of whom the policy excludes; the caller's user goes with it."""
    made = record_of(plan(), outcome(), GOOD, 0.9, EVIDENCE, LogPolicy(), may_keep=False)

    assert (made.explanation["may_keep"], logged(plan()).explanation["may_keep"]) == (False, True)
    assert made.explanation["person"] == ""
