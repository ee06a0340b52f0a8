"""Rules of Thompson sampling with normal beliefs."""

from math import hypot

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from echo_proxy.bandits.gaussian_thompson import GaussianThompson, gaussian_chances
from echo_proxy.types import Estimates

mean = st.floats(0.0, 1.0)
deviation = st.floats(-6.0, 0.0).map(lambda power: 10.0**power)


@given(means=st.tuples(mean, mean), deviations=st.tuples(deviation, deviation))
def test_two_arms_are_as_likely_as_the_closed_form_says(
    means: tuple[float, float], deviations: tuple[float, float]
) -> None:
    """P(a > b) is the normal distribution function of their difference, however unequal their widths are."""
    expected = float(ndtr((means[0] - means[1]) / hypot(*deviations)))
    pmf = gaussian_chances(np.array(means), np.array(deviations))

    assert pmf[0] == pytest.approx(expected, abs=1e-5)


def test_many_arms_are_drawn_as_often_as_sampling_draws_them() -> None:
    """The integral is what a million Thompson draws come to."""
    rng = np.random.default_rng(5)
    means, deviations = rng.uniform(0.3, 0.7, size=8), rng.uniform(0.01, 0.3, size=8)
    drawn = rng.normal(means, deviations, size=(1_000_000, 8)).argmax(axis=1)
    shares = np.bincount(drawn, minlength=8) / drawn.size

    assert gaussian_chances(means, deviations) == pytest.approx(shares, abs=2e-3)


def test_arms_known_for_certain_are_greedy_and_share() -> None:
    """Without any deviation the best arms share everything."""
    pmf = gaussian_chances(np.array([0.5, 0.5, 0.4]), np.zeros(3))

    assert pmf == pytest.approx([0.5, 0.5, 0.0])


def test_a_certain_arm_competes_with_an_uncertain_one() -> None:
    """An arm without deviation is the best as often as the other one falls below its mean."""
    pmf = gaussian_chances(np.array([0.6, 0.5]), np.array([0.0, 0.1]))

    assert pmf == pytest.approx([float(ndtr(1.0)), float(ndtr(-1.0))], abs=1e-5)


def test_width_scales_the_deviations() -> None:
    """Twice the width explores like twice the deviation; no width is greedy."""
    narrow = Estimates(np.ones(2), np.array([0.6, 0.5]), np.array([0.1, 0.2]))
    wide = Estimates(np.ones(2), np.array([0.6, 0.5]), np.array([0.2, 0.4]))

    assert GaussianThompson(2.0).pmf(narrow).tolist() == GaussianThompson(1.0).pmf(wide).tolist()
    assert GaussianThompson(0.0).pmf(wide) == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize("width", [-1.0, float("nan"), float("inf")])
def test_a_width_out_of_range_is_refused(width: float) -> None:
    """A width is a factor on deviations."""
    with pytest.raises(ValueError, match="width must be finite and at least 0"):
        GaussianThompson(width)


def test_new_arms_are_tried_in_earnest() -> None:
    """The factor on an arm's deviation falls from one to `width` as its evidence grows; half way at `calm_after`."""
    bandit = GaussianThompson(width=0.3, calm_after=5.0)

    assert bandit.widths(np.array([0.0, 5.0, 1e9])) == pytest.approx([1.0, 0.65, 0.3])
    assert GaussianThompson(width=0.3).widths(np.array([0.0, 5.0])).tolist() == [0.3, 0.3]


def test_a_negative_evidence_to_calm_after_is_refused() -> None:
    """As every other number out of range."""
    with pytest.raises(ValueError, match="calm_after must be finite and at least 0"):
        GaussianThompson(calm_after=-1.0)
