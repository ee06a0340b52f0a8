"""Does the interval of `echo-proxy evaluate` hold the truth as often as it says?

    python -m bench.off_policy [--data ../shared/data] [--policies 200] [--decisions 3000] [--seed 7000] [--json]

Real prompts and real outcomes of 8 models (ZeroEval: right or wrong, 2,840 prompts), so the true value of every policy
is known. Per trial: a model of the outcomes is fitted to a few prompts, a softmax or epsilon-greedy policy over it with
a floor of 0.01 to 0.05 draws the log, and a random softmax-linear policy is evaluated on that log. Contexts are the
bundled embedding of the question, reduced to 12 dimensions. The interval's method was chosen on seeds below 1000;
`used` is the wider of normal and bootstrap-t on either side.
"""

import argparse
import asyncio
import csv
import gzip
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import norm

from echo_proxy.embedders.local import LocalEmbedder
from echo_proxy.offline.off_policy import (
    Draws,
    Estimate,
    Interval,
    Matrix,
    Outcomes,
    doubly_robust,
    interval,
    ips,
    snips,
)
from echo_proxy.offline.outcome_model import expected_outcomes
from echo_proxy.offline.support import support_of
from echo_proxy.types import Vector

MODELS = (
    "claude-3-5-sonnet-20241022",
    "gpt-4o-2024-08-06",
    "gpt-4o-mini-2024-07-18",
    "Meta-Llama-3.1-70B-Instruct",
    "gemini-1.5-flash",
    "claude-3-haiku-20240307",
    "Meta-Llama-3.1-8B-Instruct",
    "gpt-3.5-turbo-0125",
)
_DIMENSIONS = 12
_TRAIN = 300
"""Prompts that the logging policy's model has seen."""


@dataclass(frozen=True)
class World:
    """Prompts and what each model makes of each."""

    contexts: Matrix
    """Shape (n_prompts, 12)."""
    correct: Matrix
    """Shape (n_prompts, 8), 0 or 1."""


@dataclass(frozen=True)
class Trial:
    """One log, one policy, and what the estimators say of it."""

    truth: float
    estimates: Mapping[str, Estimate]
    is_supported: bool


# ------------------------------------------------------------------ the world


def read_world(data: Path) -> World:
    """ZeroEval's outcomes of the 8 models, and the embedded questions."""
    outcomes: dict[tuple[str, str], dict[str, float]] = {}
    with gzip.open(data / "zeroeval" / "outcomes.csv.gz", "rt") as lines:
        for row in csv.DictReader(lines):
            outcomes.setdefault((row["task"], row["id"]), {})[row["model"]] = float(row["correct"])
    texts = _questions(data / "zeroeval")
    ids = [one for one in sorted(outcomes) if one in texts and set(MODELS) <= set(outcomes[one])]
    correct = np.array([[outcomes[one][model] for model in MODELS] for one in ids])
    vectors = asyncio.run(LocalEmbedder().embed([texts[one] for one in ids])).astype(float)
    left, sizes, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    reduced = left[:, :_DIMENSIONS] * sizes[:_DIMENSIONS]
    return World(reduced / reduced.std(axis=0) / 2, correct)


def _questions(folder: Path) -> dict[tuple[str, str], str]:
    found = {}
    for task in ("gsm", "crux", "math-l5"):
        with gzip.open(folder / task / f"{MODELS[0]}.json.gz", "rt") as file:
            for item in json.load(file):
                text = item["chat_history"][0].split("## Instruction")[0].split("## Question:")[-1]
                found[task, item["session_id"]] = text.strip()[:2000]
    return found


# ------------------------------------------------------------------ one trial


def run_trial(world: World, n: int, rng: np.random.Generator) -> Trial:
    """A log of n decisions under a fresh policy, and a fresh policy to evaluate on it."""
    target = _softmax(_linear(world, rng))
    logging = _logging(world, rng)
    rows = rng.integers(0, len(world.contexts), n)
    drawn = (logging[rows].cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    draws = Draws(drawn, logging[rows, drawn], target[rows])
    outcomes = Outcomes(world.correct[rows, drawn], np.ones(n))
    expected = expected_outcomes(draws, outcomes, world.contexts[rows])
    estimates = {
        "IPS": ips(draws, outcomes),
        "SNIPS": snips(draws, outcomes),
        "DR": doubly_robust(draws, outcomes, expected),
    }
    truth = float((target * world.correct).sum(axis=1).mean())
    return Trial(truth, estimates, not support_of(draws, outcomes, MODELS, {}).problems)


def _linear(world: World, rng: np.random.Generator) -> Matrix:
    """Random scores; from nearly uniform to nearly deterministic."""
    weights = rng.standard_normal((world.contexts.shape[1], len(MODELS)))
    scores = world.contexts @ weights + rng.standard_normal(len(MODELS))
    return np.asarray(scores * np.exp(rng.uniform(np.log(0.3), np.log(5.0))))


def _logging(world: World, rng: np.random.Generator) -> Matrix:
    """Softmax or epsilon-greedy over a ridge fitted to a few prompts, with a floor."""
    seen = rng.choice(len(world.contexts), _TRAIN, replace=False)
    rows = np.hstack([np.ones((len(world.contexts), 1)), world.contexts])
    solved = np.linalg.solve(rows[seen].T @ rows[seen] + 5 * np.eye(rows.shape[1]), rows[seen].T @ world.correct[seen])
    scores = rows @ solved
    greedy = np.eye(len(MODELS))[scores.argmax(axis=1)]
    pmf = greedy if rng.random() < 0.5 else _softmax(scores / rng.uniform(0.02, 0.2))
    floor = rng.uniform(0.01, 0.05)
    return np.asarray(floor + (1 - floor * len(MODELS)) * pmf)


def _softmax(scores: Matrix) -> Matrix:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


# ------------------------------------------------------------------ other methods, to choose between

Method = Callable[[Estimate, int], Interval]


def normal(estimate: Estimate, seed: int) -> Interval:
    """Value and 1.96 standard errors."""
    width = 1.959964 * estimate.standard_error
    return Interval(estimate.value - width, estimate.value + width)


def percentile(estimate: Estimate, seed: int) -> Interval:
    """Quantiles of the resampled values."""
    low, high = np.quantile(_resampled(estimate.influences, seed), [0.025, 0.975])
    return Interval(estimate.value + float(low), estimate.value + float(high))


def bca(estimate: Estimate, seed: int) -> Interval:
    """Bias-corrected and accelerated. Source: Efron 1987."""
    resampled, centred = _resampled(estimate.influences, seed), estimate.influences
    offset = norm.ppf(np.clip((resampled < 0).mean(), 1e-3, 1 - 1e-3))
    acceleration = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)
    z = offset + norm.ppf([0.025, 0.975])
    low, high = np.quantile(resampled, norm.cdf(offset + z / (1 - acceleration * z)))
    return Interval(estimate.value + float(low), estimate.value + float(high))


def _resampled(influences: Vector, seed: int) -> Vector:
    rng, n = np.random.default_rng(seed), len(influences)
    return np.array([influences[rng.integers(0, n, n)].mean() for _ in range(1000)])


METHODS: Mapping[str, Method] = {"normal": normal, "percentile": percentile, "BCa": bca, "used": interval}


# ------------------------------------------------------------------ the table


def measure(world: World, n_trials: int, n: int, seed: int, methods: Mapping[str, Method]) -> list[dict[str, object]]:
    """Coverage, width and error per estimator and method, over the logs that can answer."""
    trials = [run_trial(world, n, np.random.default_rng([seed, i])) for i in range(n_trials)]
    return [
        {"estimator": estimator, "method": name, **_summary(trials, estimator, method, kind), "logs": kind}
        for kind in ("supported", "all")
        for name, method in methods.items()
        for estimator in ("IPS", "SNIPS", "DR")
    ]


def _summary(trials: list[Trial], estimator: str, method: Method, kind: str) -> dict[str, object]:
    kept = [one for one in trials if one.is_supported or kind == "all"]
    intervals = [method(one.estimates[estimator], i) for i, one in enumerate(kept)]
    hits = [got.lower <= one.truth <= got.upper for got, one in zip(intervals, kept, strict=True)]
    widths = np.array([got.upper - got.lower for got in intervals])
    errors = np.array([one.estimates[estimator].value - one.truth for one in kept])
    coverage = float(np.mean(hits))
    return {
        "trials": len(kept),
        "coverage": coverage,
        "coverage_se": float(np.sqrt(coverage * (1 - coverage) / len(kept))),
        "mean_width": float(widths.mean()),
        "width_se": float(widths.std(ddof=1) / np.sqrt(len(kept))),
        "rmse": float(np.sqrt((errors**2).mean())),
        "bias": float(errors.mean()),
    }


def main() -> int:
    """Print the table; status 1 when the recommended estimator's coverage is below 0.93."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder that holds zeroeval/")
    parser.add_argument("--policies", type=int, default=200)
    parser.add_argument("--decisions", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=7000)
    parser.add_argument("--methods", action="store_true", help="all interval methods, not only the one that is used")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    methods = METHODS if options.methods else {"used": interval}
    started = time.monotonic()
    world = read_world(options.data)
    rows = measure(world, options.policies, options.decisions, options.seed, methods)
    if options.json:
        print(json.dumps({"seed": options.seed, "decisions": options.decisions, "rows": rows}, indent=2))
    else:
        _show(rows, options, time.monotonic() - started)
    used = next(row for row in rows if (row["estimator"], row["method"]) == ("DR", "used"))
    return int(float(str(used["coverage"])) < 0.93)


def _show(rows: list[dict[str, object]], options: argparse.Namespace, seconds: float) -> None:
    title = (
        f"{options.policies} policies, {options.decisions} decisions a log, seed {options.seed}, {seconds:.0f} s; "
        "nominal coverage 0.95"
    )
    table = Table("logs", "estimator", "interval", "trials", "coverage", "mean width", "RMSE", "bias", title=title)
    for row in rows:
        table.add_row(
            *(str(row[name]) for name in ("logs", "estimator", "method", "trials")),
            f"{row['coverage']:.3f} +- {row['coverage_se']:.3f}",
            f"{row['mean_width']:.4f} +- {row['width_se']:.4f}",
            f"{row['rmse']:.4f}",
            f"{row['bias']:+.4f}",
        )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
