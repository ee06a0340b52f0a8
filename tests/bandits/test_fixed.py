"""Rules of fixed odds."""

import numpy as np
import pytest

from echo_proxy.bandits.fixed import Fixed
from echo_proxy.types import Estimates


def test_evidence_changes_nothing() -> None:
    """Fixed odds stay, whatever was learned."""
    fixed = Fixed((0.25, 0.75))

    assert fixed.pmf(Estimates(np.array([9.0, 9.0]), np.array([1.0, 0.0]), np.zeros(2))).tolist() == [0.25, 0.75]


def test_one_arm_may_be_chosen_by_index() -> None:
    """`on` puts everything on one arm."""
    assert Fixed.on(2, 3).probabilities == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("arm", [-1, 3])
def test_an_arm_that_does_not_exist_is_refused(arm: int) -> None:
    """An index outside the arms is an error; -1 does not mean the last one."""
    with pytest.raises(ValueError, match=rf"arm must be in \[0, 3\), got {arm}"):
        Fixed.on(arm, 3)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ((0.5, 0.6), "must sum to 1"),
        ((), "must sum to 1"),
        ((1.5, -0.5), r"must be in \[0, 1\]"),
        ((float("nan"), 1.0), r"must be in \[0, 1\]"),
    ],
)
def test_probabilities_must_be_a_distribution(probabilities: tuple[float, ...], message: str) -> None:
    """Odds that are no distribution are refused when written down, not when drawn from."""
    with pytest.raises(ValueError, match=message):
        Fixed(probabilities)


def test_another_number_of_arms_is_refused() -> None:
    """Odds for two arms say nothing about three."""
    with pytest.raises(ValueError, match="expected estimates of 2 arms, got 3"):
        Fixed((0.5, 0.5)).pmf(Estimates(np.ones(3), np.ones(3), np.zeros(3)))
