"""Rules of LinUCB."""

import numpy as np
import pytest

from echo_proxy.bandits.linucb import LinUcb
from echo_proxy.types import Estimates

SEEN = Estimates(np.array([100.0, 4.0]), np.array([0.6, 0.5]), np.array([0.05, 0.25]))


def test_the_highest_bound_wins() -> None:
    """An uncertain arm is tried when its mean plus alpha deviations is the highest."""
    assert LinUcb(1.0).pmf(SEEN).tolist() == [0.0, 1.0]


def test_no_width_is_greedy() -> None:
    """With alpha 0 only the means count."""
    assert LinUcb(0.0).pmf(SEEN).tolist() == [1.0, 0.0]


def test_ties_share() -> None:
    """Arms with the same bound are equally likely, wherever they stand."""
    seen = Estimates(np.ones(3), np.array([0.5, 0.5, 0.25]), np.array([0.25, 0.25, 0.5]))

    assert LinUcb(1.0).pmf(seen) == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("alpha", [-1.0, float("nan"), float("inf")])
def test_an_alpha_out_of_range_is_refused(alpha: float) -> None:
    """A negative width would avoid what is uncertain."""
    with pytest.raises(ValueError, match="alpha must be finite and at least 0"):
        LinUcb(alpha)
