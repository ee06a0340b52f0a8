"""How much does the answer tier serve within its bound, against a threshold on the distance?

    python -m bench.keeping.answers [--data ../shared/data] [--streams "pair repeats" ...] [--requests 3000] [--seeds 3]

nl2bash (the same command is the same answer), banking77 (the same intent is), and the demo's world. `once`: every text
comes once, in an order of chance. `repeats`: what is asked for has Zipf's popularity, its wordings are equally likely,
so texts come again. The teacher answers with the data's own answer; a judge who is needed knows the truth.

`example` and `pooled` are the two ways of `answers.estimate`, `+ identical` has `answers.identical: deterministic`. The
teacher here is deterministic by construction, all requests are at temperature 0, and its word counts as right: so
requests that come again word for word cannot be answered wrongly, and `repeats` tells of them only how many there are,
never whether a provider keeps its word. Every request goes through the proxy's own steps
(`consider`, `say_the_same`); names are compared as in retrieval, and requests that speak of the asker are served
(`answers.personal`), or little of banking77 were left. The rival serves the nearest stored answer up to a fixed
distance, with the same requests and candidates excluded, and keeps every answer of the teacher. Its threshold is the
largest that keeps the bound on the train fold; "equal" is the one that serves most on the very test stream without
more errors than the tier made there, which nobody could have known.

All requests are one key's. With `--people N` they come from N people of a team, each as likely as the others, one
request a minute: then of each person two observations of an example count, and 20 requests within an hour.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.keeping.answers_data import streams
from bench.keeping.answers_run import Count, Fits, static, tier
from echo_proxy.policy import Policy

STREAMS = ("pair repeats", "banking77 once", "banking77 repeats", "nl2bash once", "nl2bash repeats")
WAYS: Mapping[str, Mapping[str, str]] = {
    "example + identical": {"estimate": "example", "identical": "deterministic"},
    "example": {"estimate": "example", "identical": "off"},
    "pooled + identical": {"estimate": "pooled", "identical": "deterministic"},
    "pooled": {"estimate": "pooled", "identical": "off"},
}
BOUNDS = (0.005, 0.01, 0.02, 0.05)
THRESHOLDS = (1e-6, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.18, 0.21, 0.25)


def wilson(k: int, n: int) -> tuple[float, float]:
    """95 % interval of a share, as if the requests were independent."""
    z = 1.96
    middle, half = (k + z * z / 2) / (n + z * z), z * np.sqrt(k * (n - k) / n + z * z / 4) / (n + z * z)
    return max(float(middle - half), 0.0), float(middle + half)


def _policy(bound: float, way: str, max_distance: float) -> Policy:
    return Policy.model_validate(
        {
            "name": "bench",
            "match": {"model_groups": ["auto"]},
            "arms": [{"deployment": "gold", "teacher": True}],
            "bandit": {"kind": "uniform"},
            "answers": {
                "max_error": bound,
                **WAYS[way],
                "max_distance": max_distance,
                "personal": True,
                "max_age_s": 1e9,
            },
        }
    )


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    data: Path
    n: int
    seeds: Sequence[int]
    max_distance: float
    bounds: Sequence[float]
    is_train: bool
    n_people: int


def report(name: str, options: Options) -> Table:
    """The table of one kind of stream."""
    both = [streams(name, options.data, options.n, seed) for seed in options.seeds]
    first = _policy(0.01, "example", options.max_distance)
    tested = [(train if options.is_train else test) for train, test in both]
    fits = [Fits(what, first) for what in tested]
    train_fits = [Fits(train, first) for train, _ in both]
    fixed = {
        t: [static(what, fit, t) for what, fit in zip(tested, fits, strict=True)]
        for t in track(THRESHOLDS, description=f"{name}: thresholds")
    }
    trained = {t: [static(train, fit, t) for (train, _), fit in zip(both, train_fits, strict=True)] for t in THRESHOLDS}
    open_share = np.mean([fit.is_open[i] for what, fit in zip(tested, fits, strict=True) for i in what.order])
    table = Table(*COLUMNS, title=f"{name}: {tested[0].near.shape[0]} texts, {open_share:.0%} of requests eligible")
    for bound in options.bounds:
        for way in WAYS:
            rules = _policy(bound, way, options.max_distance)
            run = partial(tier, policy=rules, n_people=options.n_people)
            counts = [run(what, fit, seed=seed) for what, fit, seed in zip(tested, fits, options.seeds, strict=True)]
            total = sum(counts, Count())
            equal = _most([sum(each, Count()) for each in fixed.values()], total.error)
            _row(table, bound, way, counts, equal)
        tuned = [_tuned({t: counts[s] for t, counts in trained.items()}, bound) for s in range(len(both))]
        _row(table, bound, "threshold", [fixed[t][s] for s, t in enumerate(tuned)], None)
    return table


COLUMNS = ("bound", "way", "served", "wrong of all", "95 %", "worst seed", "wrong of served", "equal threshold serves")


def _tuned(counts: dict[float, Count], bound: float) -> float:
    """The largest threshold that keeps the bound; the smallest where none does."""
    return max((t for t, one in counts.items() if one.error <= bound), default=min(counts))


def _most(counts: Sequence[Count], error: float) -> Count | None:
    within = [one for one in counts if one.error <= error]
    return max(within, key=lambda one: one.hits, default=None)


def _row(table: Table, bound: float, way: str, counts: Sequence[Count], equal: Count | None) -> None:
    total = sum(counts, Count())
    low, high = wilson(total.n_wrong, total.n)
    of_served = total.n_wrong / max(total.n_served, 1)
    table.add_row(
        f"{bound:.1%}",
        way,
        f"{total.hits:.1%}",
        f"{total.error:.2%}",
        f"{low:.2%}-{high:.2%}",
        f"{max(one.error for one in counts):.2%}",
        f"{of_served:.1%}",
        "" if way == "threshold" else "none" if equal is None else f"{equal.hits:.1%}",
    )


def main() -> None:
    """Print a table per stream."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.keeping.answers",
        description=(__doc__ or "").split("\n")[0],
        epilog='example: python -m bench.keeping.answers --streams "pair repeats" --requests 2000 --seeds 2',
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--streams", nargs="+", choices=STREAMS, default=list(STREAMS))
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--max-distance", type=float, default=0.25)
    parser.add_argument("--bounds", type=float, nargs="+", default=list(BOUNDS))
    parser.add_argument("--people", type=int, default=1, help="who ask; more than one share a team's scope")
    parser.add_argument("--train", action="store_true", help="report on the train folds, to choose constants by")
    args = parser.parse_args()
    seeds = range(args.seed, args.seed + args.seeds)
    options = Options(args.data, args.requests, seeds, args.max_distance, args.bounds, args.train, args.people)
    for name in args.streams:
        Console(width=140).print(report(name, options))


if __name__ == "__main__":
    main()
