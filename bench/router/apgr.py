"""Does the router know which prompts need the large model? Area under the recovered performance gap, on real outcomes.

    python -m bench.router.apgr [--data ../shared/data] [--cache DIR] [--seeds 1 2] [--json] [--plot out.png]

Five folds; every prompt is scored by models that were fitted to the other four. `echo` and `linear` are the real
estimators, fitted to lessons that tell the outcome of every model; `knn` is the plain router that is to be beaten,
`logistic` scikit-learn's regression on the vectors. Scores of all folds are pooled. The folds of seed 0 served to
choose constants and are not reported; the prompts are the same, so the figures are not those of unseen data. GSM8K's
test prompts stand in several data sets, so each is trained on its own folds only.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from bench.router.curve import Pair, apgr, ranked, recovered, resampled_apgr
from bench.router.methods import METHODS, N_FOLDS, STREAMS, Job, Scores, lessons, work
from bench.router.replay import policy_for, situations_of
from bench.router.streams import Array, Stream
from echo_proxy.learning.fit import fit_outcomes

N_SAMPLES = 1000
"""Of the bootstrap."""


@dataclass(frozen=True)
class Row:
    """A small and a large model of a data set, and the APGR that is aimed at."""

    title: str
    stream: str
    small: str
    large: str
    goal: float | None


ROWS = (
    Row("RouteLLM MMLU: Mixtral > GPT-4", "mmlu", "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview", 0.72),
    Row("RouteLLM GSM8K: Mixtral > GPT-4", "gsm8k", "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview", 0.62),
    Row(
        "ZeroEval: haiku-3 > sonnet-3.5",
        "zeroeval",
        "claude-3-haiku-20240307",
        "claude-3-5-sonnet-20241022",
        0.70,
    ),
    Row("ZeroEval: Llama-8B > 70B", "zeroeval", "Meta-Llama-3.1-8B-Instruct", "Meta-Llama-3.1-70B-Instruct", None),
    Row("ZeroEval: 4o-mini > 4o", "zeroeval", "gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06", None),
    Row(
        "LLMRouter: llama-8b > nemotron-51b",
        "llmrouter",
        "llama-3.1-8b-instruct",
        "llama-3.1-nemotron-51b-instruct",
        None,
    ),
    Row(
        "LLMRouter: mistral-7b > nemotron-51b",
        "llmrouter",
        "mistral-7b-instruct-v0.3",
        "llama-3.1-nemotron-51b-instruct",
        0.74,
    ),
)


# ------------------------------------------------------------------ figures


@dataclass(frozen=True)
class Figure:
    """A method's APGR on a row, averaged over the seeds."""

    apgr: float
    """Over all prompts."""
    fold_error: float
    """Standard error of the mean over the folds of one seed."""
    lead: float
    """APGR less that of kNN on the same prompts."""
    lead_low: float
    """95 % interval of the lead, by bootstrap over prompts."""
    lead_high: float


@dataclass(frozen=True)
class Line:
    """A row of the table."""

    row: Row
    small: float
    """Mean quality."""
    large: float
    oracle_quality: float
    oracle: float
    """APGR of the ranking by the true uplift."""
    figures: Mapping[str, Figure]


def line_of(row: Row, stream: Stream, scored: Sequence[Scores]) -> Line:
    i, j = stream.models.index(row.small), stream.models.index(row.large)
    pair = Pair(stream.quality[:, i], stream.quality[:, j])
    uplift = {name: [one.by_method[name][:, j] - one.by_method[name][:, i] for one in scored] for name in METHODS}
    counts = np.random.default_rng(0).multinomial(len(stream), np.full(len(stream), 1 / len(stream)), N_SAMPLES)
    samples = {
        name: np.mean(
            [_sampled(pair, ranks, one.seed, counts) for ranks, one in zip(all_ranks, scored, strict=True)], 0
        )
        for name, all_ranks in uplift.items()
    }
    wholes = {
        name: float(np.mean([apgr(pair, ranks, one.seed) for ranks, one in zip(all_ranks, scored, strict=True)]))
        for name, all_ranks in uplift.items()
    }
    figures = {
        name: Figure(
            wholes[name],
            float(np.mean([_fold_error(pair, ranks, one) for ranks, one in zip(uplift[name], scored, strict=True)])),
            wholes[name] - wholes["knn"],
            *map(float, np.quantile(samples[name] - samples["knn"], [0.025, 0.975])),
        )
        for name in METHODS
    }
    return Line(
        row,
        float(pair.small.mean()),
        float(pair.large.mean()),
        float(np.maximum(pair.small, pair.large).mean()),
        apgr(pair, pair.large - pair.small, 0),
        figures,
    )


def _sampled(pair: Pair, scores: Array, seed: int, counts: np.ndarray) -> Array:
    """In parts, as all samples at once would not fit in memory."""
    parts = [resampled_apgr(pair, scores, seed, part) for part in np.array_split(counts, 20)]
    return np.concatenate(parts)


def _fold_error(pair: Pair, scores: Array, one: Scores) -> float:
    parts = [apgr(pair.take(one.fold == k), scores[one.fold == k], one.seed) for k in range(N_FOLDS)]
    return float(np.std(parts, ddof=1) / np.sqrt(N_FOLDS))


def table_of(lines: Sequence[Line]) -> Table:
    table = Table(title="APGR; random .500, always small or large 0 by definition")
    for column in ("row", "small", "large", *METHODS, "echo - knn [95 %]", "random", "oracle", "goal"):
        table.add_column(column)
    for line in lines:
        echo = line.figures["echo"]
        table.add_row(
            line.row.title,
            f"{line.small:.3f}",
            f"{line.large:.3f}",
            *(f"{line.figures[name].apgr:.3f}±{line.figures[name].fold_error:.3f}" for name in METHODS),
            f"{echo.lead:+.3f} [{echo.lead_low:+.3f}, {echo.lead_high:+.3f}]",
            ".500",
            f"{line.oracle:.2f}",
            f"{line.row.goal or ''}",
        )
    return table


def plot(path: Path, rows: Sequence[tuple[Row, Stream, Sequence[Scores]]]) -> None:
    """Recovered gap against the share of the large model, one panel a row, first seed."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(14, 7), layout="constrained")
    panels = canvas.subplots(2, 4, sharex=True).ravel()
    for panel, (row, stream, scored) in zip(panels, rows, strict=False):
        i, j = stream.models.index(row.small), stream.models.index(row.large)
        pair, share = Pair(stream.quality[:, i], stream.quality[:, j]), np.linspace(0, 1, len(stream) + 1)
        for name, scores in scored[0].by_method.items():
            panel.plot(share, recovered(pair, ranked(scores[:, j] - scores[:, i], scored[0].seed)), label=name, lw=1.2)
        panel.plot([0, 1], [0, 1], color="grey", lw=0.8, label="random")
        panel.set(title=row.title, xlabel="share of the large model", ylabel="gap recovered")
    panels[0].legend(fontsize=8)
    panels[-1].set_visible(False)
    canvas.savefig(path, dpi=130)


# ------------------------------------------------------------------ speed


def speed(stream: Stream) -> dict[str, float]:
    """Of the estimator on 5,000 lessons and 10 arms, each answered by one arm; CPU time, one thread."""
    arms = tuple(f"arm-{i}" for i in range(10))
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(stream))[:5000]
    part = stream.take(rows)
    wide = replace(part, models=arms, quality=np.repeat(part.quality[:, :1], 10, axis=1))
    known = situations_of(part, policy_for(part))
    policy = policy_for(wide, bandit={"kind": "epsilon_greedy", "estimate": {"kind": "regression"}})
    whole = lessons(wide.quality, known, policy)
    single = [replace(one, evidence=(one.evidence[int(rng.integers(10))],)) for one in whole]
    with threadpool_limits(1):
        started = time.process_time()
        model = fit_outcomes(policy, single)
        fit_s = time.process_time() - started
        assert model is not None
        spent = []
        for situation in known[:1000]:
            started = time.perf_counter()
            model.estimates(policy.to_arms(), situation)
            spent.append(time.perf_counter() - started)
    return {"fit_5000_lessons_10_arms_cpu_s": fit_s, "predict_10_arms_median_ms": float(np.median(spent) * 1e3)}


# ------------------------------------------------------------------ command


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/echo-proxy/bench")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="of the folds; 0 was tuned on")
    parser.add_argument("--only", choices=STREAMS, nargs="+", default=list(STREAMS))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    streams = {name: STREAMS[name](args.data, args.cache) for name in args.only}
    jobs = [Job(name, seed, args.data, args.cache) for seed in args.seeds for name in args.only]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        scored = list(pool.map(work, jobs))
    rows = [
        (r, streams[r.stream], [one for one in scored if one.stream == r.stream]) for r in ROWS if r.stream in streams
    ]
    lines = [line_of(*one) for one in rows]
    times = {f"{one.stream}-{one.seed}": one.seconds for one in scored}
    quick = speed(next(iter(streams.values())))
    if args.plot:
        plot(args.plot, rows)
    if args.json:
        json.dump({"rows": [_plain(line) for line in lines], "cpu_s": times, "speed": quick}, sys.stdout, indent=1)
        return
    console = Console(width=200)
    console.print(table_of(lines))
    console.print("seeds of the folds", args.seeds, "CPU seconds of a fit and its predictions", times)
    console.print(quick)


def _plain(line: Line) -> dict[str, object]:
    shown = {"row": line.row.title, "goal": line.row.goal, "small": line.small, "large": line.large}
    return {
        **shown,
        "oracle_quality": line.oracle_quality,
        "oracle": line.oracle,
        "random": 0.5,
        **{name: vars(one) for name, one in line.figures.items()},
    }


if __name__ == "__main__":
    main()
