"""Rules of fading by count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.bandits.evidence import evidence
from echo_proxy.bandits.fading import DISCOUNT, faded, learned, remaining
from echo_proxy.types import ArmSums


def test_one_observation_leaves_the_discount() -> None:
    """After one observation of weight 1, the discount is what old evidence is worth."""
    assert remaining(1.0) == DISCOUNT
    assert remaining(0.0) == 1.0
    assert remaining(250.0) == pytest.approx(0.367, abs=1e-3)


@given(first=st.floats(0.0, 50.0), second=st.floats(0.0, 50.0), discount=st.floats(0.5, 1.0))
def test_fading_in_two_steps_equals_one(first: float, second: float, discount: float) -> None:
    """It does not matter in what portions evidence arrives."""
    steps = remaining(first, discount) * remaining(second, discount)

    assert steps == pytest.approx(remaining(first + second, discount))


def test_all_arms_fade_and_the_new_observation_counts_in_full() -> None:
    """An observation of one arm makes all old evidence count for less, and itself counts whole."""
    sums = learned([evidence(10.0, 1.0), evidence(10.0, 0.0)], arm=0, weight=1.0, reward=0.5, discount=0.9)

    assert sums == (ArmSums(10.0, 9.5, 9.25), ArmSums(9.0, 0.0, 0.0))


def test_weights_end_at_the_memory() -> None:
    """However long it goes on, all evidence together weighs 1 / (1 - discount)."""
    sums: tuple[ArmSums, ...] = (ArmSums(), ArmSums())
    for step in range(5_000):
        sums = learned(sums, step % 2, 1.0, 1.0)

    assert sum(arm.weight for arm in sums) == pytest.approx(250.0)


@pytest.mark.parametrize(
    ("weight", "discount", "message"),
    [(-1.0, 0.9, "weight"), (float("nan"), 0.9, "weight"), (1.0, 0.0, "discount"), (1.0, 1.1, "discount")],
)
def test_numbers_out_of_range_are_refused(weight: float, discount: float, message: str) -> None:
    """Fading never adds evidence."""
    with pytest.raises(ValueError, match=f"{message} must"):
        faded([ArmSums()], weight, discount)


@pytest.mark.parametrize("arm", [-1, 1])
def test_an_arm_that_does_not_exist_is_refused(arm: int) -> None:
    """An index outside the arms is an error; -1 does not mean the last one."""
    with pytest.raises(ValueError, match=rf"arm must be in \[0, 1\), got {arm}"):
        learned([ArmSums()], arm, 1.0, 0.5)
