"""Rules of the exploration floor."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.bandits.floor import with_floor


def test_the_rest_is_given_out_in_proportion() -> None:
    """A floor of 0.1 on three arms leaves 0.7 for the bandit to give out."""
    pmf = with_floor(np.array([0.0, 0.5, 0.5]), 0.1)

    assert pmf == pytest.approx([0.1, 0.45, 0.45])


def test_no_floor_changes_nothing() -> None:
    """A floor of zero returns the same probabilities."""
    assert with_floor(np.array([0.2, 0.8]), 0.0).tolist() == [0.2, 0.8]


@given(n_arms=st.integers(1, 50))
def test_the_largest_floor_is_uniform(n_arms: int) -> None:
    """One over n is the most that every arm can have; then all are alike."""
    pmf = with_floor(np.eye(n_arms)[0], 1.0 / n_arms)

    assert pmf == pytest.approx(np.full(n_arms, 1.0 / n_arms))


@pytest.mark.parametrize("floor", [0.51, -0.1, float("nan")])
def test_a_floor_that_cannot_be_kept_is_refused(floor: float) -> None:
    """Two arms cannot both have more than a half; the message says what could be."""
    with pytest.raises(ValueError, match=r"floor must be in \[0, 0.5\] for 2 arms, got"):
        with_floor(np.array([1.0, 0.0]), floor)


@pytest.mark.parametrize("pmf", [[], [[1.0]], [0.5, 0.6], [1.5, -0.5], [float("nan"), 1.0]])
def test_what_is_no_distribution_is_refused(pmf: list[float]) -> None:
    """A floor under something that is no distribution would hide the mistake."""
    with pytest.raises(ValueError, match="pmf must"):
        with_floor(np.array(pmf), 0.1)
