"""Rules of discounted UCB."""

from math import log, sqrt

import numpy as np
import pytest

from echo_proxy.bandits.discounted_ucb import DiscountedUcb, discounted_bounds
from echo_proxy.bandits.ucb1 import upper_bounds
from echo_proxy.types import Estimates


def test_bounds_are_the_papers() -> None:
    """The bound is the mean plus 2 B sqrt(xi ln n / N)."""
    bounds = discounted_bounds(np.array([4.0, 12.0]), np.array([0.5, 0.6]), xi=0.6, bound=1.0)

    assert bounds == pytest.approx([0.5 + 2 * sqrt(0.6 * log(16) / 4), 0.6 + 2 * sqrt(0.6 * log(16) / 12)])


def test_a_half_is_ucb1() -> None:
    """With xi of a half and rewards up to 1, the bound is that of UCB1."""
    weights, means = np.array([4.0, 0.0, 30.0]), np.array([0.5, 0.2, 0.6])

    assert discounted_bounds(weights, means, xi=0.5, bound=1.0) == pytest.approx(upper_bounds(weights, means, 1.0))


def test_an_arm_left_alone_is_tried_again() -> None:
    """As the evidence of an arm fades, its bound grows until it is drawn."""
    means, bandit = np.array([0.6, 0.5]), DiscountedUcb()
    fresh = Estimates(np.array([125.0, 125.0]), means, np.zeros(2))
    faded = Estimates(np.array([245.0, 5.0]), means, np.zeros(2))

    assert bandit.pmf(fresh).tolist() == [1.0, 0.0]
    assert bandit.pmf(faded).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("xi", "bound", "message"),
    [(-0.1, 1.0, "xi must"), (float("nan"), 1.0, "xi must"), (0.6, 0.0, "bound must"), (0.6, float("inf"), "bound")],
)
def test_settings_out_of_range_are_refused(xi: float, bound: float, message: str) -> None:
    """A bound of zero or a negative exploration is a mistake."""
    with pytest.raises(ValueError, match=message):
        DiscountedUcb(xi, bound)
