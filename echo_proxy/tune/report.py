"""How are the figures of a search shown, and what is written for LiteLLM?"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from echo_proxy.local.options import LocalModelOptions, parse_model
from echo_proxy.tune.records import Goal, Load, Round, Row, differing
from echo_proxy.tune.search import Found
from echo_proxy.tune.units import shown_bytes

_OUTCOMES = {"start": "start", "better": "[bold green]better[/]", "failed": "[red]failed[/]"}
_PROVIDER = "llama_cpp"
_LEAST_DRAFTED = 16
"""Tokens of which a share can be told."""


def model_name(path: Path) -> str:
    """A name for the model of this file, as `llama_cpp/<name>` takes it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-")[:100] or "model"


def config(options: LocalModelOptions) -> dict[str, Any]:
    """A `model_list` for LiteLLM with the model, of which only what differs from the defaults is told.

    Raises LocalModelError if it could not be read back.
    """
    name = model_name(Path(options.path))
    told = {"path": options.path} | differing(options, LocalModelOptions(path=options.path))
    item = {
        "model_name": name,
        "litellm_params": {"model": f"{_PROVIDER}/{name}"},
        "model_info": {_PROVIDER: told},
    }
    read = yaml.safe_load(yaml.safe_dump({"model_list": [item]}, sort_keys=False))
    parse_model(name, read["model_list"][0]["model_info"][_PROVIDER])
    return dict(read)


def as_yaml(options: LocalModelOptions) -> str:
    """The same as text."""
    return yaml.safe_dump(config(options), sort_keys=False)


def table(rows: Iterable[Row], goal: Goal) -> Table:
    """One line for each candidate, in the order in which they were tried."""
    shows_agreement = any(row.agreement is not None for row in rows)
    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    made.add_column("candidate", overflow="fold")
    for heading in ("answer" if goal == "latency" else "tokens/s", "first token", "x incumbent", "memory"):
        made.add_column(heading, justify="right", no_wrap=True)
    if shows_agreement:
        made.add_column("same text", justify="right", no_wrap=True)
    made.add_column("")
    made.add_column("note", overflow="fold")
    for row in rows:
        cells = [escape(row.changed), *_figures(row.figures, goal), _ratio(row)]
        cells.append("" if row.n_bytes is None else shown_bytes(row.n_bytes))
        if shows_agreement:
            cells.append("" if row.agreement is None else f"{row.agreement:.0%}")
        made.add_row(*cells, _OUTCOMES.get(row.outcome, row.outcome), escape(_note(row)))
    return made


def as_json(found: Found, goal: Goal, load: Load) -> str:
    """Everything, for programs."""
    return json.dumps(
        {
            "goal": goal,
            "ended": found.ended,
            "gain": found.gain,
            "load": {name: getattr(load, name) for name in load.__slots__},
            "config": config(found.winner),
            "candidates": [_row(row) for row in found.rows],
        },
        indent=2,
    )


def _row(row: Row) -> dict[str, Any]:
    figures = row.figures
    return {
        "changed": row.changed,
        "outcome": row.outcome,
        "ratio": row.ratio,
        "n_bytes": row.n_bytes,
        "agreement": row.agreement,
        "note": row.note,
        "figures": None if figures is None else {name: getattr(figures, name) for name in figures.__slots__},
    }


def _figures(figures: Round | None, goal: Goal) -> list[str]:
    if figures is None:
        return ["", ""]
    return [
        _milliseconds(figures.latency_s) if goal == "latency" else f"{figures.tokens_per_s:.1f}",
        _milliseconds(figures.first_s),
    ]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"


def _ratio(row: Row) -> str:
    return "" if row.ratio is None or row.outcome == "start" else f"{row.ratio:.2f}"


def _note(row: Row) -> str:
    figures = row.figures
    if row.note or figures is None or figures.n_drafted < _LEAST_DRAFTED:
        return row.note
    return f"{figures.n_accepted / figures.n_drafted:.0%} of drafts accepted"
