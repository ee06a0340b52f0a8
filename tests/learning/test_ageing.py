import numpy as np
import pytest

from echo_proxy.learning.ageing import remaining
from echo_proxy.policy import EpsilonGreedyPolicy, SegmentEstimate
from echo_proxy.types import ArmKey, Evidence, Lesson
from tests.builders import NOW
from tests.learning.lessons import lesson

PLAIN = EpsilonGreedyPolicy(kind="epsilon_greedy", half_life_s=100.0)
FADING = EpsilonGreedyPolicy(kind="epsilon_greedy", half_life_s=1e12, estimate=SegmentEstimate(discount=0.99))


def heard(index: int, weight: float = 1.0) -> Lesson:
    return lesson(f"d{index:02d}", at=NOW + index, evidence=(Evidence(ArmKey("a", "all"), weight, 1.0),))


def test_lessons_lose_by_time() -> None:
    """Half within the half-life, the newest nothing."""
    assert remaining([heard(0), heard(100)], PLAIN) == pytest.approx([0.5, 1.0])


def test_lessons_lose_by_what_was_heard_after_them() -> None:
    """As much as it weighs, in whatever order they stand."""
    told = [heard(2, 0.5), heard(0), heard(1, 0.05)]

    assert remaining(told, FADING) == pytest.approx([1.0, 0.99**0.55, 0.99**0.5])
    assert remaining([], FADING).shape == (0,)
    assert np.array_equal(remaining(told[::-1], FADING), remaining(told, FADING)[::-1])
