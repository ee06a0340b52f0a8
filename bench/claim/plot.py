"""How do the ways compare at a glance? Quality over throughput, and latency over load. Needs the extra `plots`."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.claim.figures import Level
from bench.claim.ways import ECHO, WAYS

_COLOURS = dict(zip([way.name for way in WAYS], ("#4c566a", "#88a0b9", "#d08770", "#2e7d32"), strict=True))


def draw(path: Path, levels: Mapping[str, Level], saturated: Level) -> None:
    """Write the picture; its ending decides the format."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    quality, p50, p99 = figure.subplots(1, 3)
    for name, row in saturated.items():
        quality.plot(row["answers_per_s"], row["correct_pct"], "o", color=_COLOURS[name], label=name, markersize=9)
    quality.set(title="callers who never pause", xlabel="answers per second", ylabel="correct, %", ylim=(0, 102))
    quality.legend(loc="lower center", fontsize=8)
    for axes, figure_name, title in ((p50, "p50_s", "P50"), (p99, "p99_s", "P99")):
        for name in saturated:
            rows = [level[name] for level in levels.values() if _is_comparable(level, name)]
            points = [(row["requests_per_s"], 1000 * row[figure_name]) for row in rows]
            axes.plot(*zip(*points, strict=True), "o-", color=_COLOURS[name], label=name)
        axes.set(title=f"{title}, arrivals of the Azure trace", xlabel="arrivals per second", ylabel="ms", yscale="log")
    figure.savefig(path, dpi=150)


def _is_comparable(level: Level, name: str) -> bool:
    """Callers of a way that could never keep up have waited for one another instead: fewer came."""
    return level[name]["requests_per_s"] > 0.9 * level[ECHO.name]["requests_per_s"]
