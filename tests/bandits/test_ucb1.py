"""Rules of UCB1."""

from math import log, sqrt

import numpy as np
import pytest

from echo_proxy.bandits.ucb1 import Ucb1, upper_bounds
from echo_proxy.types import Estimates


def test_bounds_are_the_papers() -> None:
    """The bound is the mean plus the square root of 2 ln N / n."""
    bounds = upper_bounds(np.array([4.0, 12.0]), np.array([0.5, 0.6]), width=1.0)

    assert bounds == pytest.approx([0.5 + sqrt(2 * log(16) / 4), 0.6 + sqrt(2 * log(16) / 12)])


def test_untried_arms_come_first_and_share() -> None:
    """Arms without evidence are tried before any other, with equal chances."""
    seen = Estimates(np.array([100.0, 0.0, 1e-12]), np.array([1.0, 0.0, 0.0]), np.zeros(3))
    pmf = Ucb1().pmf(seen)

    assert pmf.tolist() == [0.0, 0.5, 0.5]


def test_a_little_known_arm_beats_a_slightly_better_one() -> None:
    """Uncertainty is worth a try: the arm seen rarely wins over one that is known to be a little better."""
    seen = Estimates(np.array([1_000.0, 5.0]), np.array([0.6, 0.55]), np.zeros(2))

    assert Ucb1(1.0).pmf(seen).tolist() == [0.0, 1.0]
    assert Ucb1(0.0).pmf(seen).tolist() == [1.0, 0.0]


def test_less_than_one_observation_is_no_error() -> None:
    """Fractions of observations that add up to less than one leave the means to decide."""
    bounds = upper_bounds(np.array([0.1, 0.2]), np.array([0.5, 0.6]), width=1.0)

    assert bounds.tolist() == [0.5, 0.6]


@pytest.mark.parametrize("width", [-1.0, float("nan"), float("inf")])
def test_a_width_out_of_range_is_refused(width: float) -> None:
    """A negative width would avoid what is uncertain; that is not what is asked for."""
    with pytest.raises(ValueError, match="width must be finite and at least 0"):
        Ucb1(width)
