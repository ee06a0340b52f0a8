"""How did each router do? Figures of a run, as a table, as JSON and as a plot."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from echo_proxy.errors import InputError
from echo_proxy.offline.simulate_arrivals import ARTIFICIAL, Traffic
from echo_proxy.offline.simulate_core import Run
from echo_proxy.types import Json, Vector


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of a run."""

    router: str
    n_requests: int
    goodput: float
    """Mean of quality in time: a late answer counts 0 (with slack a part)."""
    quality: float
    """Mean over all answers, late ones too."""
    attainment: float
    """Share of the requests that were answered within the deadline."""
    cost_usd: float
    """Per 1,000 requests."""
    p50_s: float
    p90_s: float
    p99_s: float
    wait_s: float
    """Mean time before a slot took a request up."""
    shares: Mapping[str, float]
    """Of the requests, by arm."""
    requests_per_s: float
    """Simulated per second of processor time."""
    notes: Mapping[str, int]
    """What was noted of decisions, and how often."""


def figures(
    router: str,
    run: Run,
    arms: Sequence[str],
    deadline_s: float | None,
    slack_s: float = 0.0,
    took_s: float = 0.0,
    notes: Mapping[str, int] | None = None,
) -> Figures:
    """The figures of a run."""
    timely = timely_shares(run.latency_s, deadline_s, slack_s)
    p50, p90, p99 = np.percentile(run.latency_s, [50, 90, 99])
    return Figures(
        router=router,
        n_requests=run.arm.size,
        goodput=float((run.quality * timely).mean()),
        quality=float(run.quality.mean()),
        attainment=float((run.latency_s <= deadline_s).mean()) if deadline_s else 1.0,
        cost_usd=float(run.cost_usd.mean() * 1000),
        p50_s=float(p50),
        p90_s=float(p90),
        p99_s=float(p99),
        wait_s=float(run.wait_s.mean()),
        shares={name: float((run.arm == i).mean()) for i, name in enumerate(arms)},
        requests_per_s=run.arm.size / took_s if took_s else 0.0,
        notes=dict(notes or {}),
    )


def timely_shares(latency_s: Vector, deadline_s: float | None, slack_s: float) -> Vector:
    """Share of its quality that each answer keeps for when it came, as `on_time` has it, shape (n,)."""
    if deadline_s is None:
        return np.ones(latency_s.size)
    if slack_s <= 0:
        return (latency_s <= deadline_s).astype(np.float64)
    return np.clip(1 - (latency_s - deadline_s) / slack_s, 0.0, 1.0)


def show(title: str, rows: Sequence[Figures], console: Console) -> None:
    """Two tables with a row per router: what came of it, and who answered."""
    table = _table("router", "goodput", "in time", "quality", "USD/1k", "p50 s", "p90 s", "p99 s")
    for row in rows:
        parts = [f"{row.goodput:.3f}", f"{row.attainment:.1%}", f"{row.quality:.3f}", f"{row.cost_usd:.3f}"]
        table.add_row(row.router, *parts, *(f"{one:.3g}" for one in (row.p50_s, row.p90_s, row.p99_s)))
    shares = _table("router", *(f"share of {arm}" for arm in rows[0].shares), "requests/s")
    for row in rows:
        shares.add_row(row.router, *(f"{one:.1%}" for one in row.shares.values()), f"{row.requests_per_s:,.0f}")
    console.print(f"[bold]{title}[/bold]", table, shares, sep="\n", soft_wrap=True)
    for row in rows:
        for note, n in row.notes.items():
            console.print(f"{row.router}: {note}: {n} of {row.n_requests} requests", soft_wrap=True)
    console.print(f"[dim]{ARTIFICIAL}[/dim]", soft_wrap=True)


def _table(first: str, *others: str) -> Table:
    """Narrow enough for 80 columns with two or three arms."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), collapse_padding=True)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right")
    return table


def to_json(rows: Sequence[Figures], traffic: Traffic, deadline_s: float | None) -> dict[str, Json]:
    """What `--json` writes."""
    return {
        "note": ARTIFICIAL,
        "n_requests": len(traffic),
        "arrivals_per_s": traffic.arrivals.rate,
        "deadline_s": deadline_s,
        "routers": [asdict(row) for row in rows],
    }


def plot(path: Path, runs: Mapping[str, Run], deadline_s: float | None) -> None:
    """Share of the requests answered within a time, per router. Raises InputError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("--plot expects matplotlib: pip install 'echo-proxy[plots]'") from error
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, run in runs.items():
        ordered = np.sort(run.latency_s)
        points = np.linspace(0, ordered.size - 1, min(ordered.size, 2000)).astype(int)
        axes.plot(ordered[points], (points + 1) / ordered.size, label=name)
    if deadline_s is not None:
        axes.axvline(deadline_s, color="grey", linestyle=":", label="deadline")
    axes.set(xscale="log", xlabel="latency, s", ylabel="share answered within", ylim=(0, 1))
    axes.set_title(ARTIFICIAL, fontsize=6)
    axes.legend(fontsize=8)
    figure.savefig(path)
