from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.bandits.evidence import merge
from echo_proxy.online.learn import evidence_from, example_increments, increments_between, revised, use_of
from echo_proxy.types import ArmKey, ArmSums, Evidence, ExampleIncrement, Increment, Quality, Use
from tests.builders import LARGE, SMALL, failed, policy, served

QUALITY = Quality(1.0, 0.05, {})
KEYS = [ArmKey(arm, segment) for arm in ("small+0", "large+0") for segment in ("a", "b")]
units = st.floats(0, 1)
histories = st.lists(st.builds(Evidence, st.sampled_from(KEYS), units, units, st.booleans()), max_size=4)


def total(increments: Sequence[Increment]) -> dict[ArmKey, list[float]]:
    sums: dict[ArmKey, ArmSums] = {}
    for one in increments:
        sums[one.key] = merge(sums.get(one.key, ArmSums()), one.sums)
    return {key: [one.weight, one.reward_sum, one.reward_sq_sum] for key, one in sums.items()}


def test_the_arm_that_served_learns_what_it_earned() -> None:
    """A blamed failure before it earned nothing, with full weight."""
    made = evidence_from([failed(SMALL), served(LARGE)], QUALITY, earned=0.9)

    assert made == (
        Evidence(ArmKey("small+2", "all"), 1.0, 0.0, is_served=False),
        Evidence(ArmKey("large+0", "all"), 0.05, 0.9),
    )


def test_nothing_is_learned_of_what_we_did_not_choose_or_cannot_blame() -> None:
    """LiteLLM's own choices, and errors of the caller."""
    not_ours = replace(served(), decision=None)

    assert evidence_from([failed(is_blamed=False), not_ours], QUALITY, 0.9) == ()


@given(histories, st.lists(units, max_size=3))
def test_feedback_leaves_only_the_last_view(history: list[Evidence], scores: list[float]) -> None:
    """However often it comes: all increments together are the final evidence alone."""
    views = [tuple(history)]
    for score in scores:
        views.append(revised(views[-1], 1.0, score))
    increments = list(increments_between((), views[0]))
    for before, after in pairwise(views):
        increments += increments_between(before, after)

    learned, wanted = total(increments), total(increments_between((), views[-1]))

    assert {key: pytest.approx(sums, abs=1e-9) for key, sums in wanted.items()} == {
        key: learned.get(key, [0.0] * 3) for key in wanted
    }
    assert set(learned) == set(wanted)


def test_the_same_feedback_again_changes_nothing() -> None:
    """No increment is sent at all."""
    view = revised((Evidence(KEYS[0], 0.05, 0.9),), 1.0, 0.5)

    assert increments_between(view, revised(view, 1.0, 0.5)) == ()


def test_feedback_leaves_failed_attempts_alone() -> None:
    """The reader judged the answer, not the failure before it."""
    before = (Evidence(KEYS[0], 1.0, 0.0, is_served=False), Evidence(KEYS[2], 0.05, 0.9))

    assert revised(before, 1.0, 0.4) == (before[0], Evidence(KEYS[2], 1.0, 0.4))


def test_views_of_different_attempts_are_refused() -> None:
    """They could not be told apart again."""
    with pytest.raises(ValueError, match="zip"):
        increments_between((Evidence(KEYS[0], 1, 1), Evidence(KEYS[1], 1, 1)), (Evidence(KEYS[0], 1, 0),))


TEACHERS, OFFLOAD = Use(False, 0.5), Use(True, 0.5)


def test_examples_are_credited_with_the_answer() -> None:
    """First with the validators' weight; feedback replaces it."""
    early, late = Quality(1.0, 0.25, {}), Quality(0.5, 1.0, {})

    assert example_increments(["a", "b"], None, early, TEACHERS) == (
        ExampleIncrement("a", 0.25, 0.25),
        ExampleIncrement("b", 0.25, 0.25),
    )
    assert example_increments(["a"], early, late, TEACHERS) == (ExampleIncrement("a", 0.75, 0.25, 0.0, 0.25),)
    assert example_increments([], None, early, TEACHERS) == ()


def test_an_offload_is_shared_by_its_examples() -> None:
    """As much as it was a success; what it lost is shared likewise, by its cost."""
    assert example_increments(["a", "b"], None, Quality(0.75, 1.0, {}), OFFLOAD) == (
        ExampleIncrement("a", 1.0, 0.75, 0.375, 0.0625),
        ExampleIncrement("b", 1.0, 0.75, 0.375, 0.0625),
    )


@given(units, units, units, units)
def test_feedback_leaves_nothing_of_the_guess(guess: float, weight: float, told: float, cost: float) -> None:
    """Early and late increments add up to what late feedback alone would have counted."""
    early, late, use = Quality(guess, weight, {}), Quality(told, 1.0, {}), Use(True, cost)
    first, second = example_increments(["a"], None, early, use)[0], example_increments(["a"], early, late, use)[0]
    alone = example_increments(["a"], None, late, use)[0]

    for name in ("uses", "gain", "offloads", "regret"):
        assert getattr(first, name) + getattr(second, name) == pytest.approx(getattr(alone, name), abs=1e-9)


def test_what_an_answer_says_of_its_examples() -> None:
    """A teacher's answer is no offload; an answer that costs nothing loses quality all the same."""
    rules = policy(reward={"cost_scale_usd": 0.02}, upkeep={"replay": {"free_cost": 0.2}})

    assert use_of("small+2", True, 0.01, rules) == Use(True, 0.5)
    assert use_of("small+2", True, 0.0, rules) == Use(True, 0.2)
    assert use_of("large+0", True, 1.0, rules) == Use(False, 1.0)
    assert use_of("small+2", False, 0.0, rules) == Use(False, 0.2)
