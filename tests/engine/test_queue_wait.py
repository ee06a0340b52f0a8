import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.engine.queue_wait import Leaving, fill_s, retry_after_s, room_in_s

LANES = st.lists(st.floats(0, 100), min_size=1, max_size=16)


def test_without_work_the_first_free_lane_counts() -> None:
    """Nobody before: the wait lasts until somebody leaves."""
    actual = fill_s([5.0, 2.0, 9.0], 0.0)

    assert actual == 2.0


def test_work_is_spread_over_lanes_as_they_become_free() -> None:
    """Two lanes free at 1 s and 3 s do 6 s of work by 5 s."""
    actual = fill_s([1.0, 3.0], 6.0)

    assert actual == pytest.approx(5.0)


@given(LANES, st.floats(0, 1000))
def test_lanes_do_exactly_the_work(lanes: list[float], work_s: float) -> None:
    """Until the answer, the lanes have done the work, no less and no more."""
    until_s = fill_s(lanes, work_s)

    assert sum(max(until_s - one, 0.0) for one in lanes) == pytest.approx(work_s, abs=1e-6)


def test_room_needs_slot_and_cells() -> None:
    """A slot alone is no room when cells are short."""
    leaving = [Leaving(1.0, 100), Leaving(4.0, 500)]

    assert room_in_s(leaving, 0, 0.0) == 1.0
    assert room_in_s(leaving, 0, 300.0) == 4.0


@pytest.mark.parametrize(("until_s", "expected"), [(0.0, 1), (1.2, 2), (59.5, 60), (500.0, 60), (math.inf, 60)])
def test_retry_is_a_whole_number_of_seconds(until_s: float, expected: int) -> None:
    """Rounded up, at least one second, at most sixty."""
    actual = retry_after_s(until_s)

    assert actual == expected
