import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.limits.deadline import deadline_penalty, expected_timeliness, on_time, time_left, timeliness
from echo_proxy.policy import DeadlinePolicy
from echo_proxy.types import Arm, Conditions, Forecast, Load

SMALL, LARGE = Arm("small+0", "small", 0), Arm("large+0", "large", 0)
MEANS = np.array([0.5, 0.8])
HARD = DeadlinePolicy(answer_s=10.0)


def after(small_s: float, large_s: float, spread: float = 0.2, deadline_s: float | None = 10.0) -> np.ndarray:
    """Expected rewards when the deadline has taken its part."""
    forecasts = {"small+0": Forecast(0, small_s, 9, 1.0, spread), "large+0": Forecast(0, large_s, 9, 1.0, spread)}
    taken = deadline_penalty((SMALL, LARGE), MEANS, Conditions({}, forecasts, deadline_s=deadline_s), HARD)
    return MEANS - (np.array(taken.penalties) if taken else 0.0)


def test_the_callers_deadline_goes_before_the_policys() -> None:
    """Its own, else the policy's, else none."""
    assert time_left(3.0, HARD) == 3.0
    assert time_left(None, HARD) == 10.0
    assert time_left(None, None) is None


def test_without_a_deadline_nothing_is_taken() -> None:
    """However slow an arm is."""
    assert after(1.0, 1000.0, deadline_s=None).tolist() == MEANS.tolist()


def test_the_better_arm_wins_while_it_is_in_time() -> None:
    """Both are quick enough: quality decides."""
    left = after(1.0, 3.0)

    assert left == pytest.approx(MEANS, abs=1e-6)


def test_a_late_arm_loses_its_reward() -> None:
    """The large arm cannot answer in time: the small one wins."""
    left = after(1.0, 60.0)

    assert left == pytest.approx([0.5, 0.0], abs=1e-6)


def test_an_arm_on_the_edge_keeps_the_share_that_is_in_time() -> None:
    """A forecast whose median is the deadline is in time half the time."""
    forecast = Forecast(0, 10.0 * np.exp(0.5**2 / 2), 9, 1.0, 0.5)

    assert expected_timeliness(forecast, 10.0, 0.0) == pytest.approx(0.5)
    assert 0.5 < expected_timeliness(forecast, 10.0, 5.0) < 1.0


@pytest.mark.parametrize(("small_s", "large_s", "winner"), [(100, 60, 1), (60, 100, 0), (3000, 2000, 1)])
def test_when_all_are_late_the_quickest_wins(small_s: float, large_s: float, winner: int) -> None:
    """By a margin, not by the last digit."""
    left = after(small_s, large_s)

    assert left.argmax() == winner
    assert left.max() - left.min() > 0.2


@given(st.floats(0.01, 1e4), st.floats(0, 2), st.floats(0.01, 1e3), st.floats(0, 100))
def test_expected_timeliness_is_a_share(latency_s: float, spread: float, deadline_s: float, slack_s: float) -> None:
    """Whatever is forecast, between 0 and 1, and no less with more time."""
    forecast = Forecast(0, latency_s, 1, 1.0, spread)
    share = expected_timeliness(forecast, deadline_s, slack_s)

    assert 0 <= share <= 1
    assert share <= expected_timeliness(forecast, deadline_s * 2, slack_s) + 1e-12


def test_reward_of_a_late_answer() -> None:
    """Hard: nothing; with slack it falls to nothing over so many seconds; without a deadline it keeps all."""
    soft = DeadlinePolicy(answer_s=10.0, slack_s=4.0)

    assert [on_time(s, 10.0, 0.0) for s in (9.9, 10.0, 10.1)] == [1.0, 1.0, 0.0]
    assert [timeliness(s, 10.0, soft) for s in (10.0, 11.0, 14.0, 99.0)] == [1.0, 0.75, 0.0, 0.0]
    assert timeliness(99.0, None, soft) == 1.0


def queued(forecasts: dict[str, Forecast], load: Load) -> np.ndarray:
    """Expected rewards when the small arm's process has said how long its queue is."""
    taken = deadline_penalty((SMALL, LARGE), MEANS, Conditions({"small": load}, forecasts, deadline_s=10.0), HARD)
    return MEANS - (np.array(taken.penalties) if taken else 0.0)


def test_a_queue_is_foreseen_before_an_answer_comes_out_of_it() -> None:
    """Past answers were quick, but whoever comes now waits beyond the deadline."""
    quick = {"small+0": Forecast(0, 1.0, 9, 1.0, 0.2), "large+0": Forecast(0, 1.0, 9, 1.0, 0.2)}

    assert queued(quick, Load(wait_s=0.0, service_s=1.0)) == pytest.approx(MEANS, abs=1e-6)
    assert queued(quick, Load(wait_s=30.0, service_s=1.0)) == pytest.approx([0.0, 0.8], abs=1e-6)


def test_an_arm_that_never_answered_is_foreseen_by_its_queue() -> None:
    """Its process is taken at its word."""
    assert queued({}, Load(wait_s=8.0, service_s=3.0)).tolist() == [0.0, 0.8]
    assert queued({}, Load(wait_s=6.0, service_s=3.0)).tolist() == MEANS.tolist()
    assert queued({}, Load(in_flight=99)).tolist() == MEANS.tolist()
