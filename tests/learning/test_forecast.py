import pytest

from echo_proxy.learning.forecast import Forecaster
from echo_proxy.types import Arm, Conditions, Context, Lesson, Load, Situation

ARM = Arm("large+0", "large", 0)


def lesson(latency_s: float, n: float = 0.0, first_s: float | None = None, tokens: int = 10, **more: object) -> Lesson:
    conditions = Conditions({"large": Load(n)})
    fields = {
        "decision_id": "d", "at": 0.0, "arms": ("large+0",), "pmf": (1.0,), "arm": "large+0", "is_acted": True,
        "means": (0.5,), "situation": Situation("all", Context("c", ()), None, 0.0, 0, conditions), "evidence": (),
        "trials": (), "quality": 1.0, "quality_weight": 1.0, "reward": 1.0, "cost_usd": 0.01, "latency_s": latency_s,
        "time_to_first_token_s": first_s, "prompt_tokens": 100, "completion_tokens": tokens,
    }  # fmt: skip
    return Lesson(**{**fields, **more})  # type: ignore[arg-type]


def taught(*lessons: Lesson) -> Forecaster:
    forecaster = Forecaster((ARM,))
    for one in lessons:
        forecaster.learn(one)
    return forecaster


def latency_at(forecaster: Forecaster, n: float) -> float:
    return forecaster.forecasts({"large": Load(n)})["large+0"].latency_s


def test_an_arm_that_never_answered_is_missing() -> None:
    """Nothing is made up, and an answer that was not the arm's teaches nothing."""
    assert taught().forecasts({}) == {}
    assert taught(lesson(1.0, is_acted=False)).forecasts({}) == {}


def test_steady_answers_are_forecast_as_they_are() -> None:
    """Cost and latency are the averages; the spread falls towards what is seen."""
    found = taught(*[lesson(2.0)] * 200).forecasts({})["large+0"]

    assert (found.cost_usd, found.latency_s, found.service_s) == pytest.approx((0.01, 2.0, 2.0))
    assert found.weight == 200
    assert 0 < found.spread < 0.2


def test_long_answers_raise_the_forecast_by_their_tokens() -> None:
    """Time to the first token and time per token are learned apart, so one long answer does not pass for a slow one."""
    steady = taught(*[lesson(1.0 + 0.1 * 10, first_s=1.0)] * 50)
    before = latency_at(steady, 0)
    steady.learn(lesson(1.0 + 0.1 * 110, first_s=1.0, tokens=110))

    assert before == pytest.approx(2.0)
    assert latency_at(steady, 0) == pytest.approx(1.0 + 0.1 * (10 + 0.05 * 100))


def test_forecast_follows_the_load() -> None:
    """It grows with the requests in flight as it did in the past, between and beyond what was seen."""
    seen = [lesson(2.0 + n / 2, n) for n in (0, 4, 8) for _ in range(10)]
    forecaster = taught(*seen)

    assert latency_at(forecaster, 0) == pytest.approx(2.0)
    assert latency_at(forecaster, 6) == pytest.approx(5.0)
    assert latency_at(forecaster, 12) == pytest.approx(8.0)
    assert forecaster.forecasts({"large": Load(4, 4)})["large+0"].latency_s == pytest.approx(6.0)


def test_an_idle_past_promises_nothing_worse_and_nothing_better() -> None:
    """Seen at one load only, the same is expected at every other."""
    forecaster = taught(*[lesson(2.0, 3.0)] * 5)

    assert [latency_at(forecaster, n) for n in (0, 3, 50)] == pytest.approx([2.0] * 3)


def test_wide_answers_have_a_wide_spread() -> None:
    """Latencies that vary by a factor of e either way have a log deviation of about one."""
    found = taught(*[lesson(2.718**sign, tokens=1) for _ in range(100) for sign in (1, -1)]).forecasts({})["large+0"]

    assert found.spread == pytest.approx(1.0, abs=0.15)
