"""Rules of evidence kept as sums."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.bandits.evidence import add, combine, difference, evidence, fade, merge
from echo_proxy.types import ArmSums

unit = st.floats(0.0, 1.0)
weight = st.floats(0.0, 10.0)


def fields(sums: ArmSums) -> tuple[float, float, float]:
    """The three sums, to compare with a tolerance."""
    return (sums.weight, sums.reward_sum, sums.reward_sq_sum)


@pytest.mark.parametrize("reward", [float("nan"), -0.01, 1.01, float("inf")])
def test_a_reward_out_of_range_is_refused(reward: float) -> None:
    """A reward that is not a number in [0, 1] never reaches the sums, and the message says what came."""
    with pytest.raises(ValueError, match=rf"reward must be in \[0, 1\], got {reward}"):
        add(ArmSums(), 1.0, reward)


@pytest.mark.parametrize("bad", [float("nan"), -1.0, float("inf")])
def test_a_weight_out_of_range_is_refused(bad: float) -> None:
    """Evidence cannot count for less than nothing, nor for everything."""
    with pytest.raises(ValueError, match=f"weight must be finite and at least 0, got {bad}"):
        evidence(bad, 0.5)


def test_sums_are_weighted() -> None:
    """The three sums are those of weight, weight * reward and weight * reward squared."""
    sums = add(evidence(2.0, 0.5), 1.0, 1.0)

    assert sums == ArmSums(3.0, 2.0, 1.5)


@given(history=st.lists(st.tuples(weight, unit), max_size=10), old=st.tuples(weight, unit), new=st.tuples(weight, unit))
def test_a_correction_equals_having_learned_the_final_evidence(
    history: list[tuple[float, float]], old: tuple[float, float], new: tuple[float, float]
) -> None:
    """Late feedback replaces the early guess as if the guess had never been made."""
    before = ArmSums()
    for event in history:
        before = add(before, *event)
    corrected = merge(add(before, *old), difference(new, old))

    assert fields(corrected) == pytest.approx(fields(add(before, *new)), abs=1e-9)


def test_a_correction_may_be_negative() -> None:
    """The change from good to bad takes reward away and leaves the weight."""
    change = difference((1.0, 0.0), (1.0, 1.0))

    assert change == ArmSums(0.0, -1.0, -1.0)


@given(old=st.tuples(st.floats(0.1, 10.0), unit), factor=unit)
def test_a_faded_guess_is_replaced_at_its_faded_weight(old: tuple[float, float], factor: float) -> None:
    """When sums have faded since the guess, its faded weight is what is taken out again."""
    faded = fade(evidence(*old), factor)
    corrected = merge(faded, difference((1.0, 0.25), (factor * old[0], old[1])))

    assert fields(corrected) == pytest.approx(fields(evidence(1.0, 0.25)), abs=1e-9)


@given(event=st.tuples(st.floats(0.1, 10.0), unit), factor=st.floats(0.01, 1.0))
def test_fading_keeps_the_mean(event: tuple[float, float], factor: float) -> None:
    """Fading makes old evidence count for less without changing what it says."""
    fresh, faded = evidence(*event), fade(evidence(*event), factor)

    assert faded.weight == pytest.approx(factor * fresh.weight)
    assert faded.reward_sum / faded.weight == pytest.approx(event[1])


@pytest.mark.parametrize("factor", [float("nan"), -0.1, 1.1])
def test_a_fading_factor_out_of_range_is_refused(factor: float) -> None:
    """Fading never adds evidence and never turns it round."""
    with pytest.raises(ValueError, match=r"factor must be in \[0, 1\]"):
        fade(evidence(1.0, 1.0), factor)


def test_a_prior_counts_like_observations() -> None:
    """A prior of weight 2 at 0.5 and two rewards of 1 make a mean of 0.75 with weight 4."""
    seen = combine([evidence(2.0, 1.0)], prior_mean=0.5, prior_weight=2.0)

    assert seen.weights.tolist() == [4.0]
    assert seen.means.tolist() == [0.75]


def test_each_arm_may_have_its_own_prior() -> None:
    """Arms without evidence start from what the operator expects of them."""
    seen = combine([ArmSums(), ArmSums()], prior_mean=np.array([0.2, 0.9]), prior_weight=1.0)

    assert seen.means.tolist() == [0.2, 0.9]


def test_without_evidence_and_weight_the_prior_is_the_estimate() -> None:
    """Nothing known and nothing counted leaves the prior's mean with weight zero, not a division by zero."""
    seen = combine([ArmSums()], prior_mean=0.3, prior_weight=0.0)

    assert (seen.weights.tolist(), seen.means.tolist()) == ([0.0], [0.3])


def test_rounding_below_zero_is_no_evidence() -> None:
    """What a correction leaves in the last bits never becomes a negative weight or a mean outside [0, 1]."""
    seen = combine([ArmSums(-1e-17, -3e-17, 0.0), ArmSums(1.0, 1.0 + 1e-15, 1.0)], prior_mean=0.5, prior_weight=0.0)

    assert seen.weights.tolist() == [0.0, 1.0]
    assert seen.means.tolist() == [0.5, 1.0]


@pytest.mark.parametrize(
    ("prior_mean", "prior_weight", "message"),
    [
        (1.5, 1.0, r"prior_mean must be finite and in \[0, 1\]"),
        (float("nan"), 1.0, r"prior_mean must be finite and in \[0, 1\]"),
        (np.array([0.5, 0.5]), 1.0, r"shape \(1,\), got shape \(2,\)"),
        (0.5, -1.0, "prior_weight must be finite and in"),
    ],
)
def test_a_wrong_prior_is_refused(prior_mean: float, prior_weight: float, message: str) -> None:
    """A prior that is no reward, or for other arms, is an error and not a guess."""
    with pytest.raises(ValueError, match=message):
        combine([ArmSums()], prior_mean, prior_weight)


def test_deviations_are_those_of_a_beta_distribution() -> None:
    """A mean of 0.75 from 4 observations is as uncertain as Beta(3, 1)."""
    seen = combine([evidence(2.0, 1.0)], prior_mean=0.5, prior_weight=2.0)

    assert seen.deviations == pytest.approx([np.sqrt(3.0 / 80.0)])
