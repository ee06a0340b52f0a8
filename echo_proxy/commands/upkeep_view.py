"""How does a round of upkeep, done or foreseen, look on a terminal?

Requests, ids and errors may be strangers' words: all of them reach the terminal through `visible`, as plain text.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from echo_proxy.browse.visible import visible
from echo_proxy.types import UpkeepRun
from echo_proxy.upkeep.preview import Preview

_SHOWN_TEXT = 60


def show_run(run: UpkeepRun, policy: str, texts: Mapping[str, str], console: Console) -> None:
    """What it did; `texts` are those of the clusters' representatives, by decision id."""
    seconds = run.ended_at - run.started_at
    console.print(_plain(f"{policy}: {run.ending} after {seconds:.1f} s, {run.cost_usd:.4f} USD"), soft_wrap=True)
    report: Mapping[str, Any] = run.report
    for work, told in report.items():
        if isinstance(told, Mapping):
            _show_figures(work, told, console)
            clusters = [{**one, "request": texts.get(one["decision_id"], "")} for one in told.get("clusters", ())]
            _show_clusters(clusters, console)
        else:
            console.print(_plain(f"{work}: {told}"), soft_wrap=True)


def show_preview(found: Preview, policy: str, console: Console) -> None:
    """What it would do."""
    console.print(f"{policy}: nothing was asked and nothing written; a round would do this", soft_wrap=True)
    told: Mapping[str, Any] = found.to_json()
    for work, figures in told.items():
        _show_figures(work, figures, console)
        _show_clusters(figures.get("clusters"), console)
    if found.replay is not None and found.replay.candidates:
        _show_candidates(told["replay"]["candidates"], console)


def _show_figures(work: str, told: Mapping[str, Any], console: Console) -> None:
    table = Table(work, "")
    for name, value in told.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {n}" for key, n in value.items()) or "-"
        if not isinstance(value, list) and name != "made_at":
            text = f"{value:.6g}" if isinstance(value, float) else str(value)
            table.add_row(_plain(name.replace("_", " ")), _plain(text))
    if table.row_count:
        console.print(table)


def _show_candidates(candidates: Sequence[Mapping[str, Any]], console: Console) -> None:
    table = Table("example", "regret", "chance to improve", "expected gain", title="replay, most regret first")
    for one in candidates:
        table.add_row(_plain(one["id"]), f"{one['regret']:.3f}", f"{one['chance']:.0%}", f"{one['expected_gain']:.3f}")
    console.print(table)


def _show_clusters(clusters: Sequence[Mapping[str, Any]] | None, console: Console) -> None:
    if not clusters:
        return
    table = Table("requests", "quality", "USD each", "with examples", "lost reward", "such as", title="clusters")
    for one in clusters:
        text = " ".join(str(one["request"]).split())
        table.add_row(
            str(one["n_requests"]),
            f"{one['quality']:.2f}",
            f"{one['cost_usd']:.5f}",
            f"{one['with_examples']:.0%}",
            f"{one['lost']:.2f}",
            _plain(text[:_SHOWN_TEXT] + ("..." if len(text) > _SHOWN_TEXT else "")),
        )
    console.print(table)


def _plain(text: str) -> Text:
    """As it is, without markup, and with all that could steer a terminal written out."""
    return Text(visible(text))
