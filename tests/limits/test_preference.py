import numpy as np
import pytest

from echo_proxy.limits.preference import preference_penalty, switch_penalty
from echo_proxy.policy import PreferencePolicy, StickinessPolicy
from echo_proxy.types import Conditions
from tests.builders import LARGE, SMALL

ARMS = (SMALL, LARGE)
COSTS = np.array([0.1, 1.0])


@pytest.mark.parametrize(
    ("by_policy", "by_caller", "expected"),
    [(1.0, None, None), (0.5, None, (0.05, 0.5)), (1.0, 0.0, (0.1, 1.0)), (0.0, 1.0, None)],
)
def test_the_dial_takes_from_dear_arms(
    by_policy: float, by_caller: float | None, expected: tuple[float, ...] | None
) -> None:
    """By the policy's value unless the caller turns it."""
    taken = preference_penalty(ARMS, COSTS, Conditions(preference=by_caller), PreferencePolicy(value=by_policy))

    assert (taken.penalties if taken else None) == (pytest.approx(expected) if expected else None)


def test_a_conversation_stays_where_it_is() -> None:
    """Arms of another deployment must bring more."""
    taken = switch_penalty(ARMS, Conditions(last_deployment="small"), StickinessPolicy(switch_cost=0.2))

    assert taken is not None
    assert (taken.penalties, taken.why) == ((0.0, 0.2), "the conversation is with small")


@pytest.mark.parametrize("last", ["", "gone"])
def test_a_new_conversation_or_one_whose_deployment_is_gone_is_free(last: str) -> None:
    """There is nothing to stay with."""
    assert switch_penalty(ARMS, Conditions(last_deployment=last), StickinessPolicy()) is None


def test_without_the_line_every_turn_is_decided_afresh() -> None:
    """Stickiness is off unless the policy says otherwise."""
    assert switch_penalty(ARMS, Conditions(last_deployment="small"), None) is None
