from typing import Any

import pytest

from echo_proxy.learning.knowledge import Knowledge
from echo_proxy.online.situation import conditions_of, situation_of
from echo_proxy.policy import LinearEstimate, RegressionEstimate, SegmentEstimate
from echo_proxy.types import Conditions, Selection
from tests.builders import policy, request, vector


def test_only_the_regression_on_single_requests_looks_at_single_words() -> None:
    """What takes time and is not read is not made."""
    made = policy()
    conditions = conditions_of(request(), "", made, Knowledge(made))
    lengths = []
    for estimate in (SegmentEstimate(), LinearEstimate(kind="linear"), RegressionEstimate(kind="regression")):
        asked = made.model_copy(update={"bandit": made.bandit.model_copy(update={"estimate": estimate})})
        lengths.append(len(situation_of(request(), vector(1.0), Selection(), conditions, asked).context.text))

    assert lengths[:2] == [0, 0]
    assert lengths[2] > 0


def conditions(asked: dict[str, float], spent_s: float = 0.0, **changes: Any) -> Conditions:
    made = policy(**changes)
    return conditions_of(request(**asked), "", made, Knowledge(made), spent_s)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"allow_client_deadline": True}, 0.001),
        ({"deadline": {"answer_s": 20.0}}, 0.001),
    ],
)
def test_a_caller_s_deadline_counts_where_the_policy_has_deadlines(
    changes: dict[str, Any], expected: float | None
) -> None:
    """Else a caller in no haste could ask for the quickest arm, which may be the dearest."""
    assert conditions({"deadline_s": 0.001}, **changes).deadline_s == expected


@pytest.mark.parametrize(
    ("asked", "changes", "expected"),
    [
        (0.2, {}, 0.2),
        (0.2, {"preference": {"value": 0.5}}, 0.2),
        (1.0, {"preference": {"value": 0.5}}, None),
        (1.0, {"preference": {"value": 0.5}, "allow_client_preference": True}, 1.0),
    ],
)
def test_a_caller_may_turn_the_dial_towards_cheap(
    asked: float, changes: dict[str, Any], expected: float | None
) -> None:
    """And towards dear only where the operator allows it."""
    assert conditions({"preference": asked}, **changes).preference == expected


def test_later_there_is_less_time_left() -> None:
    """Never less than none."""
    rules = {"deadline": {"answer_s": 20.0}}

    assert conditions({}, 5.0, **rules).deadline_s == 15.0
    assert conditions({}, 50.0, **rules).deadline_s == 0.0
