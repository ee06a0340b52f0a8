"""When a judge is asked about an example that waits, and what he must say."""

from typing import Any

import pytest

from echo_proxy.admission.approval import approval_call, is_approved
from echo_proxy.online.sample import Approval, JudgeCall
from tests.builders import example, policy

WAITING = example("e1", scope="team:t", reader="a", version=4, system="Be brief.")


def asked(sampled: dict[str, Any] | None = None, **changes: Any) -> JudgeCall | None:
    judge = {"sampled": {"model_group": "judge", "rate": 1.0, **(sampled or {})}}
    return approval_call(
        changes.pop("doubted", WAITING), "d2", "b", policy(**{"scope": "team", "judge": judge, **changes})
    )


def test_the_waiting_answer_is_compared_with_a_fresh_one() -> None:
    """Of the teacher, to a call of our own: what the witness was answered may hang on odd parameters of his call."""
    made = asked()

    assert made is not None
    assert (made.answer, made.reference, made.approves) == ("Paris.", "", Approval("e1", 4, "b"))
    assert (made.ask_reference.model_group, made.ask_reference.deployment) == ("auto", "large")
    assert [turn.content for turn in made.ask_reference.messages] == ["Be brief.", "What is the capital of France?"]
    assert made.dialogue == "system: Be brief.\n\nuser: What is the capital of France?"


def test_the_policy_may_name_who_gives_it() -> None:
    """As for all that is judged."""
    made = asked({"reference_group": "best"})

    assert made is not None
    assert (made.ask_reference.model_group, made.ask_reference.deployment) == ("best", "")


@pytest.mark.parametrize(
    "changes",
    [
        {"judge": {}},
        {"sampled": {"rate": 0.0}},
        {"admission": {"quarantine": {"judge": False}}},
        {"admission": {"quarantine": None}},
        {"doubted": example("e1", reader="a", n_turns=2)},
    ],
    ids=["no judge", "not sampled", "confirmations alone", "no quarantine", "dialogue"],
)
def test_otherwise_nobody_is_asked(changes: dict[str, Any]) -> None:
    """Of a dialogue only the last turn is known, so it cannot be asked again."""
    assert asked(**changes) is None


@pytest.mark.parametrize(
    ("first", "second", "is_good"), [(0.5, 0.5, True), (1.0, 0.6, True), (1.0, 0.0, False), (0.4, 0.9, False)]
)
def test_it_must_be_as_good_both_ways_round(first: float, second: float, is_good: bool) -> None:
    """A judge that always prefers the first has said nothing."""
    assert is_approved(first, second) is is_good
