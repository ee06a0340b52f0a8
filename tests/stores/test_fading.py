"""Old evidence counts less."""

import pytest

from echo_proxy.stores.fading import added, faded, fading_factor, hourly_factor
from echo_proxy.types import ArmSums


@pytest.mark.parametrize(
    ("elapsed_s", "half_life_s", "expected"),
    [(0, 10, 1.0), (10, 10, 0.5), (20, 10, 0.25), (-5, 10, 1.0), (5, 0, 1.0), (5, -1, 1.0), (1e9, 1, 0.0)],
)
def test_what_is_left(elapsed_s: float, half_life_s: float, expected: float) -> None:
    """Half after each half-life; all when there is none or when the clock went back."""
    assert fading_factor(elapsed_s, half_life_s) == expected


@pytest.mark.parametrize(
    ("elapsed_s", "decay", "expected"),
    [(0, 0.9, 1.0), (3600, 0.9, 0.9), (7200, 0.5, 0.25), (1800, 0.25, 0.5), (-5, 0.9, 1.0), (9999, 1.0, 1.0)],
)
def test_what_is_left_by_the_hour(elapsed_s: float, decay: float, expected: float) -> None:
    """`decay` of it after each hour; all when the clock went back, or when nothing fades."""
    assert hourly_factor(elapsed_s, decay) == expected


def test_sums_stay_at_or_above_zero() -> None:
    """Rounding must not leave evidence of less than nothing."""
    assert faded(ArmSums(4, 2, 1), 0.5) == ArmSums(2, 1, 0.5)
    assert added(ArmSums(0.1, 0.1, 0.1), ArmSums(-0.1 - 1e-12, 0.2, -0.1)) == ArmSums(0.0, 0.1 + 0.2, 0.0)
