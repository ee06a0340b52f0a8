"""What do load bias, deadlines and the learned best-effort policy gain when deployments are busy?

Simulated: arrivals and token counts of the Azure conversation trace (the later half; best effort learns on the first),
right or wrong answers of Llama 3.1 8B and 70B in ZeroEval, service times and prices of `_FLEET`, which are made up.
The trace carries no text: which prompt comes when is drawn.
"""

import argparse
import csv
import gzip
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from echo_proxy.learning.best_effort import to_json
from echo_proxy.offline.simulate import routers
from echo_proxy.offline.simulate_arrivals import ARTIFICIAL, Arrivals, draw_traffic, read_trace
from echo_proxy.offline.simulate_core import simulate
from echo_proxy.offline.simulate_fleet import Fleet, FleetFile, make_fleet
from echo_proxy.offline.simulate_outcomes import Outcomes, make_outcomes
from echo_proxy.offline.simulate_report import Figures, figures
from echo_proxy.offline.simulate_train import Training, train
from echo_proxy.policy import Policy

_DEADLINE_S = 20.0
_LOADS = {"low": 0.25, "medium": 0.6, "high": 0.95}
"""Shares of what both deployments together can answer; large alone can answer 0.27."""
_SEEDS = (1, 2, 3)
_N = 2500
"""Requests of each simulation: another part of the later half for each seed."""
_MODELS = {"small": "Meta-Llama-3.1-8B-Instruct", "large": "Meta-Llama-3.1-70B-Instruct"}
_SLOTS = {"small": 16, "large": 12}
_FLEET = {
    "deployments": {
        "small": {
            "slots": _SLOTS["small"],
            "prefill_tokens_per_s": 8000.0,
            "decode_tokens_per_s": 80.0,
            "overhead_s": 0.1,
            "usd_per_1m_prompt_tokens": 0.05,
            "usd_per_1m_completion_tokens": 0.08,
        },
        "large": {
            "slots": _SLOTS["large"],
            "prefill_tokens_per_s": 3000.0,
            "decode_tokens_per_s": 40.0,
            "overhead_s": 0.2,
            "usd_per_1m_prompt_tokens": 0.6,
            "usd_per_1m_completion_tokens": 0.8,
        },
    },
    "arms": {f"{name}+0": {"deployment": name, "quality": {"all": 0.5}} for name in _SLOTS},
}
_COLUMNS = ("goodput", "gain", "attainment", "quality", "cost_usd", "p50_s", "p99_s", "share_small")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of azure_llm_2023, zeroeval")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    started = time.perf_counter()
    results = measure(options.data)
    if options.json:
        print(json.dumps({"note": ARTIFICIAL, "seconds": time.perf_counter() - started, "loads": results}, indent=2))
        return
    console = Console()
    for load, rows in results.items():
        _show(f"{load} load: {_LOADS[load]:.0%} of capacity, deadline {_DEADLINE_S:g} s", rows, console)
    console.print(f"{ARTIFICIAL}; {len(_SEEDS)} seeds, 95 % intervals; {time.perf_counter() - started:.0f} s")


def measure(folder: Path) -> Mapping[str, Mapping[str, Mapping[str, tuple[float, float]]]]:
    """Load > router > figure > mean and half width of its 95 % interval over the seeds."""
    trace = read_trace(folder / "azure_llm_2023" / "AzureLLMInferenceTrace_conv.csv")
    fleet, outcomes = make_fleet(FleetFile.model_validate(_FLEET)), zeroeval(folder / "zeroeval" / "outcomes.csv.gz")
    learning, held_out = outcomes
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "best_effort.json"
        values = train(trace.part(0.0, 0.5), fleet, learning, Training(_DEADLINE_S), seed=0)
        file.write_text(json.dumps(to_json(values)), encoding="utf-8")
        policies = _policies(file)
        return {load: _one_load(share, trace, fleet, held_out, policies) for load, share in _LOADS.items()}


def _one_load(
    share: float, trace: Arrivals, fleet: Fleet, outcomes: Outcomes, policies: Sequence[Policy]
) -> Mapping[str, Mapping[str, tuple[float, float]]]:
    found: dict[str, list[Figures]] = defaultdict(list)
    for seed in _SEEDS:
        begin = 0.5 + 0.5 * (seed - 1) / len(_SEEDS)
        part = trace.part(begin, min(begin + _N / len(trace), 1.0))
        arrivals = part.faster(share * fleet.capacity(part) / part.rate)
        traffic = draw_traffic(arrivals, outcomes, np.random.default_rng(seed))
        for name, router in routers(traffic, fleet, policies, _DEADLINE_S, seed).items():
            run = simulate(traffic, fleet, router)
            found[name].append(figures(name, run, [arm.name for arm in fleet.arms], _DEADLINE_S))
    return {name: {column: _interval(_values(found, name, column)) for column in _COLUMNS} for name in found}


def zeroeval(path: Path) -> tuple[Outcomes, Outcomes]:
    """Who was right on which prompt, by task: one half to train on, the other to be measured on."""
    right: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            right[row["task"], row["id"]][row["model"]] = float(row["correct"])
    keys = [key for key, models in sorted(right.items()) if all(model in models for model in _MODELS.values())]
    halves = (keys[::2], keys[1::2])
    return tuple(  # type: ignore[return-value]
        make_outcomes([task for task, _ in half], np.array([[right[key][m] for m in _MODELS.values()] for key in half]))
        for half in halves
    )


def _policies(file: Path) -> Sequence[Policy]:
    load = {"load": {"thresholds": {name: float(n) for name, n in _SLOTS.items()}}}
    deadline = {"deadline": {"answer_s": _DEADLINE_S}}
    learned = {"bandit": {"kind": "best_effort", "file": str(file), "otherwise": "epsilon_greedy"}}
    return (
        _policy("bandit"),
        _policy("bandit-load", **load),
        _policy("bandit-deadline", **deadline),
        _policy("bandit-load-deadline", **load, **deadline),
        _policy("best-effort", **load, **deadline, **learned),
    )


def _policy(name: str, **more: Any) -> Policy:
    """Quality alone is rewarded; a late answer earns nothing where there is a deadline."""
    return Policy.model_validate(
        {
            "name": name,
            "match": {"model_groups": ["auto"]},
            "arms": [{"deployment": "small"}, {"deployment": "large"}],
            "bandit": {"kind": "epsilon_greedy", "epsilon": 0.02},
            "reward": {"quality_weight": 1.0, "cost_weight": 0.0, "latency_weight": 0.0},
            **more,
        }
    )


def _values(found: Mapping[str, Sequence[Figures]], name: str, column: str) -> Sequence[float]:
    """Per seed; the gain is in goodput over the bandit that knows of no load, on the same requests."""
    if column == "gain":
        return [one.goodput - plain.goodput for one, plain in zip(found[name], found["bandit"], strict=True)]
    return [_value(one, column) for one in found[name]]


def _value(one: Figures, column: str) -> float:
    return one.shares["small+0"] if column == "share_small" else float(getattr(one, column))


def _interval(values: Sequence[float]) -> tuple[float, float]:
    spread = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return float(np.mean(values)), float(student.ppf(0.975, len(values) - 1)) * spread


def _show(title: str, rows: Mapping[str, Mapping[str, tuple[float, float]]], console: Console) -> None:
    table = Table(
        "router", "goodput", "gain", "in time", "quality", "USD/1000", "p50 s", "p99 s", "share small", title=title
    )
    for name, row in rows.items():
        table.add_row(name, *(f"{mean:.3g} ± {half:.2g}" for mean, half in (row[column] for column in _COLUMNS)))
    console.print(table)


if __name__ == "__main__":
    main()
