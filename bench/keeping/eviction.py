"""How many answers get worse when the store may keep a tenth, a quarter or half of its bytes?

    python -m bench.keeping.eviction [--data ../shared/data] [--scenario crowded|sparse] [--seeds 20 21 22] [--seed 20]

A day of drifting traffic fills a store (see eviction_traffic). Each way to evict cuts it down; then the next 800
requests of the same stream are answered by the small model with at most two examples from what is left, and judged by
the world's own truth. There is no bandit and no large model behind it, so that nothing but the store matters. An
example takes the bytes of its texts, its vector and the length of a real answer beside: lengths are drawn per topic
from the answers of ZeroEval's models, as those of the world are all alike. The constants of `upkeep` were chosen on
seeds 1 and 2, by whether the examples shown were about what was asked; seeds from 20 on were new to them. Answers are
kept in a temporary folder. Needs the extra `local`.
"""

import argparse
import asyncio
import csv
import gzip
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import stats

from bench.keeping.eviction_traffic import (
    CROWDED,
    POLICY,
    SECONDS,
    SPARSE,
    START,
    Grown,
    Scenario,
    Shelf,
    Traffic,
    ask_small,
    grow,
    traffic,
)
from bench.utility import ANSWERS, Answers
from echo_proxy.demo.world import correct
from echo_proxy.types import Example
from echo_proxy.upkeep.evict import plan_eviction
from echo_proxy.upkeep.unaided import Unaided
from tests.fakes import MemoryStore

WARM, TESTED = 2_900, 800
NOW = START + SECONDS * WARM
SHARES = (0.1, 0.25, 0.5)
Kept = list[Example]
Evict = Callable[[Traffic, Grown, int], Kept]


# ------------------------------------------------------------------ ways to evict


def by_key(key: Callable[[Grown, Example], object]) -> Evict:
    """The last by a key go, one after the other, until the rest fits."""

    def kept(given: Traffic, grown: Grown, budget: int) -> Kept:
        ordered = sorted(grown.examples, key=lambda one: key(grown, one), reverse=True)  # type: ignore[arg-type,return-value]
        total = np.cumsum([one.n_bytes for one in ordered])
        return ordered[: int(np.searchsorted(total, budget, side="right"))]

    return kept


def at_random(given: Traffic, grown: Grown, budget: int) -> Kept:
    """As above, in an order of chance."""
    order = {one.id: place for place, one in enumerate(Random(given.seed).sample(grown.examples, len(grown.examples)))}
    return by_key(lambda _, one: order[one.id])(given, grown, budget)


def ours(given: Traffic, grown: Grown, budget: int) -> Kept:
    """The project's plan, with what unaided answers say."""
    return _planned(grown, budget, grown.unaided)


def blind(given: Traffic, grown: Grown, budget: int) -> Kept:
    """The project's plan where no arm ever leaves examples out."""
    return _planned(grown, budget, {})


def probed(given: Traffic, grown: Grown, budget: int) -> Kept:
    """The project's plan if the small model were asked for every stored request once, without examples."""
    small = Answers("small", ANSWERS)
    found: dict[str, Unaided] = {}
    for one in grown.examples:
        item = given.items[int(one.id.split("-")[1])]
        found[one.id] = Unaided(100.0, 100.0 * correct(item, small.ask([{"role": "user", "content": item.question}])))
    return _planned(grown, budget, found)


def plain(given: Traffic, grown: Grown, budget: int) -> Kept:
    """Offloads per byte, each example for itself: the knapsack of IC-Cache."""
    return by_key(lambda _, one: (_faded(one) / one.n_bytes, one.id))(given, grown, budget)


def _planned(grown: Grown, budget: int, unaided: Mapping[str, Unaided]) -> Kept:
    store = MemoryStore()
    for one in grown.examples:
        store.examples[one.id] = replace(one, offloads=_faded(one))
    rules = POLICY.upkeep.model_copy(update={"max_bytes": budget, "keep_new_s": 1.0})
    plan = asyncio.run(plan_eviction(store, rules, NOW, None, POLICY.selection.utility, unaided))
    gone = set(plan.ids)
    return [one for one in grown.examples if one.id not in gone]


def _faded(one: Example) -> float:
    return float(one.offloads * POLICY.upkeep.offload_decay ** ((NOW - one.counted_at) / 3600))


WAYS: Mapping[str, Evict] = {
    "ours": ours,
    "LRU": by_key(lambda grown, one: grown.used_at[one.id]),
    "LFU": by_key(lambda grown, one: (grown.n_uses[one.id], grown.used_at[one.id])),
    "LFU per byte": by_key(lambda grown, one: (grown.n_uses[one.id] / one.n_bytes, grown.used_at[one.id])),
    "random": at_random,
    "ours, no unaided answers": blind,
    "ours, every example probed": probed,
    "offloads per byte": plain,
}


# ------------------------------------------------------------------ figures


@dataclass(frozen=True)
class Outcome:
    """Of one seed."""

    seed: int
    n_examples: int
    n_bytes: int
    full: float
    """Correctness with everything kept, [0, 1]."""
    none: float
    """With nothing kept."""
    kept: Mapping[str, Sequence[float]]
    """By way, for each of SHARES."""


def real_lengths(folder: Path) -> NDArray[np.int64]:
    """Characters of real models' answers, one by one."""
    with gzip.open(folder / "zeroeval" / "outcomes.csv.gz", "rt") as file:
        return np.array([int(row["output_chars"]) for row in csv.DictReader(file)], dtype=np.int64)


def measure(seed: int, scenario: Scenario, chars: NDArray[np.int64], say: Callable[[str], None]) -> Outcome:
    """All ways on one stream."""
    given = traffic(seed, WARM + TESTED, scenario)
    grown = grow(given, WARM, chars)
    total = sum(one.n_bytes for one in grown.examples)
    full, none = answered(given, grown.examples), answered(given, [])
    say(f"{scenario.name} {seed}: {len(grown.examples)} examples, full {full:.3f}, none {none:.3f}")
    kept: dict[str, list[float]] = {}
    for name, way in WAYS.items():
        kept[name] = [answered(given, way(given, grown, int(share * total))) for share in SHARES]
        say(f"{scenario.name} {seed}: {name} {[round(one, 3) for one in kept[name]]}")
    return Outcome(seed, len(grown.examples), total, full, none, kept)


def answered(given: Traffic, kept: Sequence[Example]) -> float:
    """Correctness of the requests after the day."""
    small, shelf = Answers("small", ANSWERS), Shelf(kept)
    indices = range(WARM, WARM + TESTED)
    return float(
        np.mean([ask_small(given.items[i], given.request(i), given.vectors[i], shelf, small)[1] for i in indices])
    )


def interval(differences: Sequence[float]) -> str:
    """Mean in points, and the 95 % interval of a t-test over seeds."""
    points = 100 * np.array(differences)
    if len(points) < 2:
        return f"{points.mean():+.1f}"
    half = float(stats.t.ppf(0.975, len(points) - 1) * points.std(ddof=1) / np.sqrt(len(points)))
    return f"{points.mean():+.1f} ± {half:.1f}"


def table(scenario: Scenario, found: Sequence[Outcome]) -> Table:
    """Points lost against keeping everything, and what ours is better by."""
    full, none = (100 * float(np.mean([getattr(one, name) for one in found])) for name in ("full", "none"))
    size, megabytes = (np.mean([getattr(one, name) for one in found]) for name in ("n_examples", "n_bytes"))
    title = (
        f"{scenario.name}: {size:.0f} examples, {megabytes / 1e6:.1f} MB; everything kept "
        f"{full:.1f} % correct, nothing {none:.1f} %; mean of {len(found)} seeds ± 95 %"
    )
    columns = [f"{what} at {share:.0%}" for share in SHARES for what in ("lost", "ours better by")]
    made = Table("kept by", *columns, title=title)
    for name in WAYS:
        row: list[str] = []
        for place in range(len(SHARES)):
            row.append(interval([one.kept[name][place] - one.full for one in found]))
            gain = interval([one.kept["ours"][place] - one.kept[name][place] for one in found])
            row.append("" if name == "ours" else gain)
        made.add_row(name, *row)
    return made


def main() -> None:
    """Print a table per scenario."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="e.g. --scenario sparse --seed 20",
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--scenario", choices=("crowded", "sparse"), help="both when omitted")
    parser.add_argument("--seeds", type=int, nargs="+", default=[20, 21, 22, 23, 24])
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    chars, console, started = real_lengths(given.data), Console(width=170), time.monotonic()
    say = Console(stderr=True, width=170).print
    seeds = [given.seed] if given.seed is not None else given.seeds
    told = {}
    for scenario in (CROWDED, SPARSE):
        if given.scenario in (None, scenario.name):
            found = [measure(seed, scenario, chars, say) for seed in seeds]
            told[scenario.name] = [one.__dict__ for one in found]
            console.print(table(scenario, found))
    console.print(f"{time.monotonic() - started:.0f} s")
    if given.json:
        given.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
