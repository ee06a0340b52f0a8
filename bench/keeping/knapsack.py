"""How long does it take to choose what a million examples' store keeps, and how good is the choice?

    python -m bench.keeping.knapsack [--data ../shared/data] [--n 1000000] [--share 0.25] [--seed 7]

Weights are lengths of real texts (request and answer of GSM8K's training set and of nl2bash, drawn with replacement)
with 2 x 4 x 384 bytes of vectors and 2560 of the rest. Values are offloads: `mixed` lets 70 % of the examples have none
and gives the others Pareto(1.2) distributed ones; `gamma` draws all from Gamma(0.3); `flat` gives all the same, so that
only lengths differ; `by length` makes the value proportional to the weight, where the order by value per weight says
nothing; `strongly bound` adds a constant to that, the classical hard case. Time and memory are those of `choose` alone;
memory is what Python and numpy have allocated at most beyond the columns.
"""

import argparse
import gzip
import json
import time
import tracemalloc
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from echo_proxy.types import EXAMPLE_OVERHEAD_BYTES, Vector
from echo_proxy.upkeep.knapsack import choose

_VECTOR_BYTES = 2 * 4 * 384
Weights = NDArray[np.int64]


def real_lengths(folder: Path) -> Weights:
    """Bytes of request and answer together, of two data sets."""
    with gzip.open(folder / "gsm8k" / "train.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    asked, given = ((folder / "nl2bash" / name).read_text().splitlines() for name in ("all.nl", "all.cm"))
    texts = [f"{row['question']}{row['answer']}" for row in rows]
    texts += [f"{one}{other}" for one, other in zip(asked, given, strict=True)]
    return np.array([len(text.encode()) for text in texts], dtype=np.int64)


def values_of(kind: str, weights: Weights, rng: np.random.Generator) -> Vector:
    """Offloads of each example, as the module says."""
    n = len(weights)
    match kind:
        case "mixed":
            return np.where(rng.random(n) < 0.7, 0.0, rng.pareto(1.2, n))
        case "gamma":
            return rng.gamma(0.3, 1.0, n)
        case "flat":
            return np.ones(n)
        case "by length":
            return weights / 1000.0
        case _:
            return weights / 1000.0 + 1.0


def greedy(values: Vector, weights: Weights, budget: int) -> float:
    """What the first by value per weight are worth together, up to the first that does not fit."""
    order = np.argsort(-values / weights, kind="stable")
    fits = int(np.searchsorted(np.cumsum(weights[order]), budget, side="right"))
    return float(values[order[:fits]].sum())


def exact(values: Vector, weights: Weights, budget: int) -> float:
    """The best there is, by dynamic programming over all budgets."""
    best = np.zeros(budget + 1)
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        if weight <= budget:
            best[weight:] = np.maximum(best[weight:], best[: budget + 1 - weight] + value)
    return float(best[-1])


def large(lengths: Weights, n: int, share: float, seed: int) -> Table:
    """Seconds, memory and gap by kind of value."""
    made = Table(
        "values", "seconds", "peak MB", "kept", "gap to the bound", "of greedy", title=f"{n:,} examples, {share:.0%}"
    )
    for kind in ("mixed", "gamma", "flat", "by length", "strongly bound"):
        rng = np.random.default_rng(seed)
        weights = rng.choice(lengths, n) + _VECTOR_BYTES + EXAMPLE_OVERHEAD_BYTES
        values, budget = values_of(kind, weights, rng), int(share * weights.sum())
        started = time.perf_counter()
        choice = choose(values, weights, budget)
        seconds = time.perf_counter() - started
        tracemalloc.start()  # a run of its own: it makes everything slower
        choose(values, weights, budget)
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        plain = 1 - greedy(values, weights, budget) / choice.bound
        row = (f"{seconds:.2f}", f"{peak:.0f}", f"{choice.is_kept.sum():,}", f"{choice.gap:.1e}", f"{plain:.1e}")
        made.add_row(kind, *row)
    return made


def small(lengths: Weights, n: int, share: float, seed: int, rounds: int = 20) -> Table:
    """Value that is missing against the exact solution, on small stores."""
    made = Table(
        "values", "missing: ours", "greedy", "ours exact", title=f"{rounds} stores of {n} examples, {share:.0%}"
    )
    for kind in ("mixed", "gamma", "flat", "by length", "strongly bound"):
        missing: list[tuple[float, float]] = []
        for place in range(rounds):
            rng = np.random.default_rng(seed + place)
            weights = rng.choice(lengths, n) + _VECTOR_BYTES + EXAMPLE_OVERHEAD_BYTES
            values, budget = values_of(kind, weights, rng), int(share * weights.sum())
            best = exact(values, weights, budget)
            missing.append(
                (1 - choose(values, weights, budget).value / best, 1 - greedy(values, weights, budget) / best)
            )
        ours, plain = np.array(missing).T
        made.add_row(kind, f"{ours.mean():.1e}", f"{plain.mean():.1e}", f"{(ours < 1e-8).sum()} of {rounds}")
    return made


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="e.g. --n 100000 --share 0.1"
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--small", type=int, default=100, help="examples of the stores that are solved exactly")
    parser.add_argument("--share", type=float, default=0.25, help="of the bytes that may stay")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    lengths, console = real_lengths(given.data), Console(width=120)
    console.print(large(lengths, given.n, given.share, given.seed))
    console.print(small(lengths, given.small, given.share, given.seed))


if __name__ == "__main__":
    main()
