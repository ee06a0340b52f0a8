import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.engine.forecast import Forecast, Moving, StepTime
from echo_proxy.engine.queue_records import Running, Served, Waiter

WAITER = Waiter(0, "a", 0, 0.0, math.inf, 100, 500)


def _served(n_written: int, waiter: Waiter = WAITER, n_beside: int = 1, step_s: float = 0.01) -> Served:
    return Served(waiter, waiter.n_prompt_tokens, n_written, 0.1, step_s * (n_written - 1), n_beside)


def _heard(*served: Served) -> Forecast:
    forecast = Forecast()
    for one in served:
        forecast.hear(one)
    return forecast


def test_nothing_heard_is_called_a_guess() -> None:
    """Before the first answer there is a prediction, marked as a guess."""
    forecast = Forecast()

    assert forecast.is_guess
    assert forecast.answer_tokens(WAITER) > 1
    assert forecast.service_s(WAITER, 1) > 0


def test_each_scope_has_its_own_length() -> None:
    """Scopes that write short and long answers are told apart, and a stranger gets the mean of all."""
    short, long = WAITER, replace(WAITER, scope="b")
    forecast = _heard(*[_served(20, short)] * 10, *[_served(200, long)] * 10)

    assert forecast.answer_tokens(short) == pytest.approx(20)
    assert forecast.answer_tokens(long) == pytest.approx(200)
    assert 20 < forecast.answer_tokens(replace(WAITER, scope="c")) < 200


def test_sizes_are_told_apart_within_a_scope() -> None:
    """Requests that allow long answers are predicted from their like."""
    small, large = replace(WAITER, most_tokens=60), WAITER
    forecast = _heard(*[_served(20, small)] * 10, *[_served(200, large)] * 10)

    assert forecast.answer_tokens(small) == pytest.approx(20)
    assert forecast.answer_tokens(large) == pytest.approx(200)


def test_few_answers_of_a_kind_are_not_believed_alone() -> None:
    """Below eight answers of its kind, a request is predicted from a broader average."""
    forecast = _heard(*[_served(20)] * 20, *[_served(200, replace(WAITER, scope="b"))] * 2)

    assert forecast.answer_tokens(replace(WAITER, scope="b")) < 100


def test_cancelled_answers_do_not_count() -> None:
    """An answer that was cut off says nothing about length or time."""
    forecast = _heard(*[_served(200)] * 9, *[replace(_served(2), is_whole=False)] * 50)

    assert forecast.answer_tokens(WAITER) == pytest.approx(200)


def test_answer_longer_than_usual_goes_on_for_a_while() -> None:
    """One that has passed the mean is not expected to end at once when lengths differ."""
    forecast = _heard(*[_served(n) for n in (50, 150)] * 20)

    assert forecast.remaining_tokens(Running(WAITER, 140, 0.0, 0)) > 10


def test_paused_one_continues_where_it_was() -> None:
    """What a paused request has written is not predicted again."""
    forecast = _heard(*[_served(100)] * 10)
    paused = replace(WAITER, n_prompt_tokens=160, most_tokens=440, n_done=60)

    assert forecast.answer_tokens(paused) == pytest.approx(40)


def test_service_time_grows_with_the_batch() -> None:
    """Seconds per token follow the batch size as a line, also to sizes that were not seen."""
    forecast = _heard(*[_served(101, n_beside=n, step_s=0.01 + 0.002 * n) for n in (1, 2, 4)] * 10)

    assert forecast.service_s(WAITER, 8) == pytest.approx(0.1 + 101 * 0.026, rel=0.02)


def test_one_batch_size_says_nothing_about_others() -> None:
    """Without a second batch size every size takes as long."""
    steps = StepTime()
    for _ in range(20):
        steps.hear(4, 0.02)

    assert steps.at(1) == pytest.approx(steps.at(16)) == pytest.approx(0.02)


def test_reading_under_way_shortens_what_is_left() -> None:
    """While the prompt is read, the time since the start is taken off its reading."""
    forecast = _heard(*[_served(100)] * 10)
    fresh, later = (forecast.remaining_s(Running(WAITER, 0, 0.0, 0), 1, now) for now in (0.0, 0.06))

    assert fresh - later == pytest.approx(0.06)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60))
def test_moving_mean_is_the_plain_mean_at_first(values: list[float]) -> None:
    """Up to the window nothing is forgotten, the first value included; the deviation is the plain one."""
    moving = Moving()
    for value in values:
        moving.hear(value)
    mean = sum(values) / len(values)

    assert moving.mean == pytest.approx(mean, rel=1e-6, abs=1e-6)
    assert moving.deviation**2 == pytest.approx(sum((v - mean) ** 2 for v in values) / len(values), rel=1e-4, abs=1e-2)


@given(
    st.lists(st.tuples(st.integers(1, 2000), st.integers(1, 64), st.floats(1e-6, 10)), max_size=30),
    st.integers(0, 3000),
    st.integers(0, 500),
    st.integers(1, 64),
)
def test_predictions_are_possible(
    history: list[tuple[int, int, float]], most: int, n_done: int, n_running: int
) -> None:
    """Whatever was heard: no more tokens than allowed, at least one if any, times finite and never negative."""
    forecast = _heard(*[_served(n, n_beside=size, step_s=step_s) for n, size, step_s in history])
    waiter = replace(WAITER, n_prompt_tokens=100 + n_done, most_tokens=most, n_done=n_done)

    assert min(1, most) <= forecast.answer_tokens(waiter) <= most
    assert 0 <= forecast.service_s(waiter, n_running) < math.inf
    assert 0 <= forecast.least_service_s(waiter, n_running) < math.inf
    assert 0 <= forecast.remaining_s(Running(waiter, n_done, 0.0, 0), n_running, 5.0) < math.inf


def test_memory_is_bounded() -> None:
    """Ever new scopes do not fill the memory."""
    forecast = Forecast()
    for number in range(3000):
        forecast.hear(_served(10, replace(WAITER, scope=str(number))))

    assert len(forecast._lengths) <= 2048
