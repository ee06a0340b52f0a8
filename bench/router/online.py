"""How much is lost while learning which model is good at what?

    python -m bench.router.online [--data ../shared/data] [--seeds N] [--json]

Cumulative regret against the best model of each request, and the quality of the last quarter, on data sets where every
model's answer is known. Seeds 200 and up: orders and arrangements of models that no constant was tuned on.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.router.options import parser_for
from bench.router.replay import Run, policy_for, situations_of
from bench.router.rivals import OURS, competitors, policy_of, rewards_of
from bench.router.streams import Array, Stream, llmrouter, zeroeval
from echo_proxy.types import Situation

_SETS = {"zeroeval": zeroeval, "llmrouter": llmrouter}
_COST_WEIGHTS = (0.0, 0.1, 0.2)
_FIRST_SEED = 200
_BEST_FIXED = "best single model, known beforehand"


@dataclass(frozen=True)
class Cell:
    """One algorithm on one data set at one weight of cost: a number per seed."""

    algorithm: str
    stream: str
    cost_weight: float
    regret: list[float]
    """Against the best model of each request, summed, in rewards."""
    quality: list[float]
    """Mean of the last quarter."""
    cost_usd: list[float]
    """Mean per request of the last quarter."""


def play_cell(
    name: str, stream_name: str, cost_weight: float, seeds: Sequence[int], options: Path, cache_: Path
) -> Cell:
    """All seeds of a cell, in a process of its own."""
    base, seen = _loaded(stream_name, options, cache_)
    regret, quality, cost = [], [], []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(base))
        models = [base.models[i] for i in np.random.default_rng(5000 + seed).permutation(len(base.models))]
        stream = base.take(order).only(models)
        rewards = rewards_of(stream, policy_of(stream, {"kind": "uniform"}, cost_weight))
        pmf = _shares(name, stream, rewards, cost_weight, seed, [seen[i] for i in order])
        last = slice(len(stream) * 3 // 4, None)
        # what was drawn is chance: the expectation under the probabilities says the same with less of it
        regret.append(float((rewards.max(axis=1) - (pmf * rewards).sum(axis=1)).sum()))
        quality.append(float((pmf * stream.quality)[last].sum(axis=1).mean()))
        cost.append(float((pmf * stream.cost_usd)[last].sum(axis=1).mean()))
    return Cell(name, stream_name, cost_weight, regret, quality, cost)


def _shares(
    name: str, stream: Stream, rewards: Array, cost_weight: float, seed: int, seen: Sequence[Situation]
) -> Array:
    """Probability of each model on each request, shape (n, n_models)."""
    if name == _BEST_FIXED:
        return np.tile(np.eye(len(stream.models))[rewards.sum(axis=0).argmax()], (len(stream), 1))
    run: Run = competitors()[name](stream, cost_weight, seed, seen)
    return run.pmf


@cache
def _loaded(name: str, data: Path, cache_: Path) -> tuple[Stream, tuple[Situation, ...]]:
    stream = _SETS[name](data, cache_)
    return stream, situations_of(stream, policy_for(stream))


def at_cost_of_ours(cells: Sequence[Cell], ours: Cell) -> float | None:
    """Quality of an algorithm's last quarter where it costs as much as ours does, between its weights of cost along a
    straight line, a mean over seeds; None outside its range."""
    points = sorted((float(np.mean(cell.cost_usd)), float(np.mean(cell.quality))) for cell in cells)
    wanted = float(np.mean(ours.cost_usd))
    if not points[0][0] <= wanted <= points[-1][0]:
        return None
    return float(np.interp(wanted, [cost for cost, _ in points], [quality for _, quality in points]))


def tables(cells: Sequence[Cell]) -> list[Table]:
    """One per data set and weight of cost."""
    found = []
    for stream in _SETS:
        for weight in _COST_WEIGHTS:
            here = {cell.algorithm: cell for cell in cells if (cell.stream, cell.cost_weight) == (stream, weight)}
            if OURS in here:
                found.append(_table(f"{stream}, cost weight {weight:g}", here, cells))
    return found


def _table(title: str, here: Mapping[str, Cell], cells: Sequence[Cell]) -> Table:
    ours = here[OURS]
    table = Table(title=f"{title}, {len(ours.regret)} seeds")
    for heading in ("algorithm", "regret", "more than ours", "quality", "mUSD", "quality at ours' cost"):
        table.add_column(heading, justify="left" if heading == "algorithm" else "right")
    for name, cell in sorted(here.items(), key=lambda item: float(np.mean(item[1].regret))):
        of_name = [one for one in cells if (one.algorithm, one.stream) == (name, cell.stream)]
        equal = at_cost_of_ours(of_name, ours)
        table.add_row(
            name,
            _with_error(cell.regret, 1),
            "" if name == OURS else _with_error(np.subtract(cell.regret, ours.regret), 1),
            f"{np.mean(cell.quality):.3f}",
            f"{1000 * np.mean(cell.cost_usd):.3f}",
            "-" if equal is None else f"{equal:.3f}",
        )
    return table


def _with_error(values: Sequence[float] | Array, digits: int) -> str:
    """Mean ± standard error."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"


def play_all(options: argparse.Namespace) -> list[Cell]:
    """Every cell, in two processes."""
    seeds = range(_FIRST_SEED, _FIRST_SEED + options.seeds)
    for name in options.streams:
        _loaded(name, options.data, options.cache)  # vectors are made once, and inherited
    cells: list[Cell] = []
    with ProcessPoolExecutor(options.processes) as pool:
        asked = [
            pool.submit(play_cell, name, stream, weight, seeds, options.data, options.cache)
            for stream in options.streams
            for weight in options.cost_weights
            for name in (*competitors(), _BEST_FIXED)
            if options.only is None or any(part in name for part in options.only)
        ]
        for done in as_completed(asked):
            cells.append(done.result())
            cell = cells[-1]
            what = f"{cell.stream}, cost weight {cell.cost_weight:g}, {cell.algorithm}"
            Console(stderr=True).print(f"{len(cells)}/{len(asked)} {what}: {_with_error(cell.regret, 1)}")
    return cells


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="orders of requests")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--streams", nargs="+", choices=list(_SETS), default=list(_SETS))
    parser.add_argument("--cost-weights", nargs="+", type=float, choices=_COST_WEIGHTS, default=list(_COST_WEIGHTS))
    parser.add_argument("--only", nargs="+", help="algorithms whose name holds one of these")
    options = parser.parse_args()
    cells = play_all(options)
    if options.json:
        print(json.dumps([asdict(cell) for cell in cells]))
        return
    console = Console()
    for table in tables(cells):
        console.print(table)
    for name in ("LiteLLM adaptive router", "mabwiser LinUCB, alpha 0.3"):
        if name not in competitors():
            console.print(f"{name}: not installed")


if __name__ == "__main__":
    main()
