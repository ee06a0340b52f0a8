"""What do the runs say? Quality, throughput and latency of each way, and the goals that they are held against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.claim.load import Run, Sample
from bench.claim.measure import Result, Runs
from bench.claim.ways import ECHO, LARGE_ONLY, SMALL_ONLY
from echo_proxy.demo.traffic import Label

Figures = dict[str, float]
Level = Mapping[str, Figures]
"""Way > figures."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What was asked for and what was measured."""

    measured: float
    asked: str
    error: float | None = None
    """Standard error of a difference in quality."""


def level_figures(runs: Runs, warm_up: Mapping[str, Run]) -> dict[str, Figures]:
    """Of every way at one level."""
    return {name: _figures(own, warm_up[name], runs[LARGE_ONLY.name]) for name, own in runs.items()}


def _figures(runs: Sequence[Run], warm_up: Run, reference: Sequence[Run]) -> Figures:
    samples = [sample for run in runs for sample in run.samples]
    answered, before = _answered(samples), _answered(warm_up.samples)
    duration_s = sum(run.duration_s for run in runs)
    in_time = sum(one.ended_s <= run.duration_s for run in runs for one in _answered(run.samples))
    gap, error = quality_gap(runs, reference)
    p50_s, p99_s = np.percentile([sample.latency_s for sample in samples], (50, 99))
    return {
        "requests": float(len(samples)),
        "seconds": duration_s,
        "requests_per_s": len(samples) / duration_s,
        "answers_per_s": in_time / duration_s,
        "answered_pct": 100 * len(answered) / len(samples),
        "correct_pct": _correct_pct(answered),
        "correct_with_warm_up_pct": _correct_pct([*before, *answered]),
        "correct_vs_large_points": gap,
        "correct_vs_large_error": error,
        "offloaded_pct": _offloaded_pct(answered),
        "offloaded_with_warm_up_pct": _offloaded_pct([*before, *answered]),
        "with_example_pct": 100 * _mean([float(one.reply.n_examples > 0) for one in answered]),
        "asked_before_pct": 100 * _mean([float(one.label is Label.REPEATED) for one in samples]),
        "p50_s": float(p50_s),
        "p99_s": float(p99_s),
    }


def quality_gap(runs: Sequence[Run], reference: Sequence[Run]) -> tuple[float, float]:
    """Points above the reference and their standard error, over the requests that both have answered."""
    gaps = []
    for own, other in zip(runs, reference, strict=True):
        theirs = {sample.index: sample.quality for sample in _answered(other.samples)}
        gaps += [one.quality - theirs[one.index] for one in _answered(own.samples) if one.index in theirs]
    if not gaps:
        return float("nan"), float("nan")
    return 100 * float(np.mean(gaps)), 100 * float(np.std(gaps)) / len(gaps) ** 0.5


def goals(levels: Mapping[str, Level], saturated: Level) -> dict[str, Goal]:
    """Under callers who never pause, then at each level."""
    echo, small, large = (saturated[way.name] for way in (ECHO, SMALL_ONLY, LARGE_ONLY))
    found = {
        "saturated: correct, Echo - large only, points": _gap(echo),
        "saturated: answers/s, Echo / small only": Goal(echo["answers_per_s"] / small["answers_per_s"], ">= 0.85"),
        "saturated: answers/s, Echo / large only": Goal(echo["answers_per_s"] / large["answers_per_s"], ">= 5.9"),
    }
    for name, level in levels.items():
        echo, small, large = (level[way.name] for way in (ECHO, SMALL_ONLY, LARGE_ONLY))
        found[f"{name}: correct, Echo - large only, points"] = _gap(echo)
        found[f"{name}: P50, Echo / large only"] = Goal(echo["p50_s"] / large["p50_s"], "<= 0.29")
        found[f"{name}: P99, Echo / small only"] = Goal(echo["p99_s"] / small["p99_s"], "<= 1.05")
    return found


def _gap(echo: Figures) -> Goal:
    return Goal(echo["correct_vs_large_points"], ">= -0.5", echo["correct_vs_large_error"])


def by_label(runs: Sequence[Run]) -> dict[str, float]:
    """Percent correct of the answers to each kind of request."""
    answered = _answered([sample for run in runs for sample in run.samples])
    labels = sorted({sample.label for sample in answered})
    return {str(label): _correct_pct([one for one in answered if one.label is label]) for label in labels}


def to_json(result: Result) -> dict[str, Any]:
    """All figures, and how each kind of request fared."""
    levels = {"saturated": result.saturated, **result.levels}
    return {
        "warm_up": {
            name: {"requests": len(run.samples), "seconds": run.duration_s, "correct_pct": _correct_pct(run.samples)}
            for name, run in result.warm_up.items()
        },
        "levels": {name: level_figures(runs, result.warm_up) for name, runs in levels.items()},
        "correct_pct_by_label": {
            name: {way: by_label(own) for way, own in runs.items()} for name, runs in levels.items()
        },
    }


def _answered(samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if not sample.reply.error]


def _correct_pct(answered: Sequence[Sample]) -> float:
    return 100 * _mean([one.quality for one in answered])


def _offloaded_pct(answered: Sequence[Sample]) -> float:
    return 100 * _mean([float(one.reply.model == "small") for one in answered])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
