"""How do the figures look in a terminal? Tables for the live view and for the end."""

from collections.abc import Sequence

from rich.table import Table

from echo_proxy.demo.phases import LARGE_ONLY, Answer, Phase
from echo_proxy.demo.report import arm_shares, by_kind, saved_share, summarize
from echo_proxy.demo.traffic import Label

_MEANINGS = {
    Label.NEW: "new rare fact",
    Label.REPEATED: "rare fact, asked again",
    Label.PLURAL: "plural, hard language",
    Label.FAMOUS: "famous fact",
    Label.EASY: "easy skill",
}


def _table(title: str, first: Sequence[str], figures: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in first:
        table.add_column(name)
    for name in figures:
        table.add_column(name, justify="right")
    return table


def summary_table(phases: Sequence[Phase], answers: Sequence[Answer], title: str) -> Table:
    """Quality, latency, share and cost of every phase."""
    figures = ("requests", "correct", "mean", "p50", "p99", "by small", "with example", "tokens", "cost", "saved")
    table = _table(title, ("served by",), figures)
    baseline = summarize(LARGE_ONLY, answers)
    for phase in phases:
        one = summarize(phase, answers)
        table.add_row(
            phase.name,
            str(one.n),
            percent(one.correctness),
            milliseconds(one.mean_s),
            milliseconds(one.p50_s),
            milliseconds(one.p99_s),
            percent(one.share_small),
            percent(one.share_with_examples),
            f"{one.prompt_tokens + one.completion_tokens:,}",
            f"${one.cost_usd:.4f}",
            percent(saved_share(one, baseline)),
        )
    return table


def arm_table(phases: Sequence[Phase], answers: Sequence[Answer]) -> Table:
    """How often each arm was drawn, and how well it did."""
    table = _table("Arms", ("policy", "arm"), ("share", "correct"))
    for phase in phases:
        if phase.is_echo:
            for one in arm_shares(phase, answers):
                table.add_row(phase.name, one.arm, percent(one.share), percent(one.correctness))
    return table


def kind_table(phases: Sequence[Phase], answers: Sequence[Answer], n_requests: int) -> Table:
    """What Echo learned: every kind of request in the first and the second half of the stream."""
    figures = ("requests", "correct 1st half", "2nd half", "by small 1st half", "2nd half")
    table = _table("What Echo learned", ("policy", "kind"), figures)
    for phase in phases:
        if not phase.is_echo:
            continue
        rows = by_kind(phase, answers, n_requests)
        for first, second in zip(rows[::2], rows[1::2], strict=True):
            table.add_row(
                phase.name,
                _MEANINGS[first.label],
                f"{first.n} + {second.n}",
                percent(first.correctness) if first.n else "-",
                percent(second.correctness) if second.n else "-",
                percent(first.share_small) if first.n else "-",
                percent(second.share_small) if second.n else "-",
            )
        table.add_section()
    return table


def percent(share: float) -> str:
    """A share as a whole number of percent."""
    return f"{share:.0%}"


def milliseconds(seconds: float) -> str:
    """A time in milliseconds."""
    return f"{1000 * seconds:.0f} ms"
