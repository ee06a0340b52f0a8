"""The figures are the plain ones: means, percentiles and shares of the answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.demo.phases import LARGE_ONLY, SMALL_ONLY, Answer, Phase, phases_for
from echo_proxy.demo.report import ArmShare, HalfOfKind, arm_shares, by_kind, mean, saved_share, summarize
from echo_proxy.demo.traffic import Ask, Label
from echo_proxy.demo.world import repeat_item

ECHO = phases_for(("ucb1",))[2]


def _answer(
    index: int,
    quality: float = 1.0,
    phase: Phase = ECHO,
    deployment: str = "small-ucb",
    label: Label = Label.EASY,
    latency_s: float = 0.1,
    cost_usd: float = 0.0,
    n_examples: int = 0,
) -> Answer:
    ask = Ask(repeat_item("bon", 0), label)
    return Answer(
        phase, index, ask, "", quality, latency_s, deployment=deployment, cost_usd=cost_usd, n_examples=n_examples
    )


def test_nothing_yet() -> None:
    """Before the first answer every figure is zero, and nothing divides by zero."""
    summary = summarize(ECHO, [])

    assert (summary.n, summary.correctness, summary.p99_s, summary.share_small) == (0, 0.0, 0.0, 0.0)
    assert saved_share(summary, summary) == 0.0
    assert arm_shares(ECHO, []) == []


def test_summary_of_one_phase_ignores_the_others() -> None:
    """Only the phase's own answers count."""
    answers = [
        _answer(0, quality=1.0, latency_s=0.1, n_examples=1),
        _answer(1, quality=0.0, latency_s=0.3, deployment="large-ucb"),
        _answer(0, quality=0.0, latency_s=9.0, phase=SMALL_ONLY),
    ]

    summary = summarize(ECHO, answers)

    assert summary.n == 2
    assert summary.correctness == 0.5
    assert summary.mean_s == pytest.approx(0.2)
    assert summary.p50_s == pytest.approx(0.2)
    assert summary.share_small == 0.5
    assert summary.share_with_examples == 0.5


@given(st.lists(st.floats(0.001, 10.0), min_size=1, max_size=50))
def test_percentiles_lie_within_the_measured(latencies_s: list[float]) -> None:
    """min <= p50 <= p99 <= max."""
    summary = summarize(ECHO, [_answer(index, latency_s=value) for index, value in enumerate(latencies_s)])
    slack = 1e-9

    assert min(latencies_s) - slack <= summary.p50_s <= summary.p99_s + slack <= max(latencies_s) + 2 * slack


def test_saving_is_per_request() -> None:
    """Phases that are not equally far are compared by request."""
    large = [_answer(index, phase=LARGE_ONLY, cost_usd=0.01) for index in range(4)]
    echo = [_answer(index, cost_usd=0.0025) for index in range(2)]

    assert saved_share(summarize(ECHO, echo), summarize(LARGE_ONLY, large)) == pytest.approx(0.75)


def test_arms_are_ordered_by_use() -> None:
    """The most drawn arm stands first, with its own correctness."""
    answers = [
        _answer(0, quality=1.0, n_examples=1),
        _answer(1, quality=0.0, n_examples=1),
        _answer(2, quality=1.0, n_examples=1),
        _answer(3, quality=1.0, deployment="large-ucb"),
    ]

    assert arm_shares(ECHO, answers) == [
        ArmShare("small+1", 0.75, 2 / 3),
        ArmShare("large+0", 0.25, 1.0),
    ]


def test_halves_are_of_the_stream() -> None:
    """The position in the stream decides, not the order in which answers came."""
    answers = [_answer(9, label=Label.NEW, deployment="large-ucb"), _answer(0, quality=0.0, label=Label.NEW)]

    rows = by_kind(ECHO, answers, n_requests=10)

    assert rows[0] == HalfOfKind(Label.NEW, False, 1, 0.0, 1.0)
    assert rows[1] == HalfOfKind(Label.NEW, True, 1, 1.0, 0.0)
    assert len(rows) == 2 * len(Label)
    assert sum(row.n for row in rows) == 2


def test_mean_of_nothing_is_zero() -> None:
    """A table can show a kind that did not occur."""
    assert mean([]) == 0.0
    assert mean([0.0, 1.0]) == 0.5
