"""How are the figures shown?"""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Column, Table

from bench.claim.figures import Goal, Level

_COLUMNS = {
    "correct %": "correct_pct",
    "& warm-up": "correct_with_warm_up_pct",
    "offloaded %": "offloaded_pct",
    "& warm-up ": "offloaded_with_warm_up_pct",
    "example %": "with_example_pct",
    "asked/s": "requests_per_s",
    "answers/s": "answers_per_s",
    "answered %": "answered_pct",
}


def show(title: str, level: Level, console: Console) -> None:
    """A row for each way."""
    table = Table(Column("way", no_wrap=True), *_COLUMNS, "P50 ms", "P99 ms", "points vs large", title=title)
    for name, row in level.items():
        gap = f"{row['correct_vs_large_points']:+.2f} ± {row['correct_vs_large_error']:.2f}"
        shares = (f"{row[column]:.1f}" for column in _COLUMNS.values())
        table.add_row(name, *shares, f"{1000 * row['p50_s']:.1f}", f"{1000 * row['p99_s']:.1f}", gap)
    console.print(table)


def show_goals(found: Mapping[str, Goal], console: Console) -> None:
    """Each goal with what was measured."""
    table = Table("goal", "measured", "asked for", title="goals")
    for name, goal in found.items():
        error = "" if goal.error is None else f" ± {goal.error:.2g}"
        table.add_row(name, f"{goal.measured:.3g}{error}", goal.asked)
    console.print(table)
