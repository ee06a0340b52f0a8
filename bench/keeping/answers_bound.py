"""Does the answer tier keep its bound for every single example, whatever its truth?

    python -m bench.keeping.answers_bound [--requests 300] [--runs 2000] [--seed 0] [--caution 1.3]

One example is asked about again and again, at distances of chance up to 0.25. Whether its answer is right follows a
true curve: constants, logistic ones, and shapes that no logistic has. What is served is decided as the proxy does, by
the same tables and the same rule, for many runs side by side. Of each curve: share served, and share that was served
wrongly as a multiple of the bound, with its 95 % interval. A curve fails when the whole interval lies above 1.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from echo_proxy.answers.bound import CAUTION, explore_chance
from echo_proxy.answers.curves import curves

Array = NDArray[np.float64]
Truth = Callable[[Array], Array]
BOUNDS = (0.005, 0.01, 0.02, 0.05)
_MAX_DISTANCE = 0.25
_WINDOW = 64
_NEEDED = 6


def constant(share: float) -> Truth:
    """Right with the same chance at every distance."""
    return lambda distance: np.full_like(distance, share)


def logistic(middle: float, slope: float) -> Truth:
    """Right with a chance that falls around a distance."""
    return lambda distance: 1 / (1 + np.exp(-slope * (middle - distance)))


def step(end: float, near: float = 1.0, far: float = 0.0) -> Truth:
    """One chance up to a distance, another beyond."""
    return lambda distance: np.where(distance < end, near, far)


def dent(distance: Array) -> Array:
    """Mostly wrong in a narrow band, where another question lies close by."""
    return np.where((distance > 0.03) & (distance < 0.06), 0.3, 0.98)


TRUTHS: Mapping[str, Truth] = {
    **{f"always {share:g}": constant(share) for share in (0.5, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 1.0)},
    **{
        f"logistic around {middle:g}, slope {slope:g}": logistic(middle, slope)
        for middle, slope in ((0.05, 100), (0.1, 40), (0.1, 100), (0.15, 20), (0.2, 40), (0.3, 20))
    },
    **{f"right up to {end:g}": step(end) for end in (0.05, 0.1, 0.2)},
    "0.97 up to 0.1, then 0.8": step(0.1, 0.97, 0.8),
    "a dent at 0.03 to 0.06": dent,
    "worse when near: 0.6 up to 0.05, then 0.98": step(0.05, 0.6, 0.98),
}


@dataclass(frozen=True, slots=True)
class Result:
    """Of one curve at one bound."""

    served: float
    error: float
    """As a multiple of the bound."""
    half: float
    """Half of the 95 % interval of it."""


def simulate(truth: Truth, bound: float, n: int, n_runs: int, caution: float, seed: int) -> Result:
    """Many examples with the same truth, each asked about n times."""
    rng, known = np.random.default_rng(seed), curves()
    log_weights = np.tile(np.log(known.prior), (n_runs, 1))  # (n_runs, n_curves)
    newest = np.zeros((n_runs, _WINDOW, len(known.prior)), dtype=np.float32)
    n_seen, n_served, n_wrong = (np.zeros(n_runs, dtype=np.int64) for _ in range(3))
    runs = np.arange(n_runs)
    rule = np.vectorize(lambda wrong: explore_chance(wrong, bound))
    for _ in range(n):
        distance = rng.uniform(0, _MAX_DISTANCE, n_runs)
        rows = np.round(distance * (len(known.right) - 1) / 2).astype(np.int64)
        weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
        right = (weights * known.right[rows]).sum(axis=1) / weights.sum(axis=1)
        chance = np.where(n_seen < _NEEDED, 1.0, rule(np.minimum(caution * (1 - right), 1.0)))
        is_right, is_asked = rng.random(n_runs) < truth(distance), rng.random(n_runs) < chance
        n_served += ~is_asked
        n_wrong += ~is_asked & ~is_right
        told = np.where(is_right[:, None], known.log_right[rows], known.log_wrong[rows]) * is_asked[:, None]
        place = n_seen % _WINDOW
        log_weights += told - newest[runs, place] * is_asked[:, None]
        newest[runs[is_asked], place[is_asked]] = told[is_asked]
        n_seen += is_asked
    errors = n_wrong / (n * bound)
    return Result(float(n_served.mean() / n), float(errors.mean()), float(1.96 * errors.std() / np.sqrt(n_runs)))


def main() -> None:
    """Print the table; the exit status is 1 when a curve fails."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.keeping.answers_bound",
        description=(__doc__ or "").split("\n")[0],
        epilog="example: python -m bench.keeping.answers_bound --runs 500 --caution 1",
    )
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--caution", type=float, default=CAUTION)
    args = parser.parse_args()
    table = Table("truth", *(f"{bound:.1%}: served, error / bound" for bound in BOUNDS))
    worst = 0.0
    for name, truth in track(TRUTHS.items(), description="simulating"):
        cells = []
        for bound in BOUNDS:
            one = simulate(truth, bound, args.requests, args.runs, args.caution, args.seed)
            worst = max(worst, one.error - one.half)
            cells.append(f"{one.served:.1%}, {one.error:.2f} ± {one.half:.2f}")
        table.add_row(name, *cells)
    Console(width=150).print(table)
    Console().print(f"worst: {worst:.2f} times the bound, at the lower end of its interval")
    raise SystemExit(int(worst > 1))


if __name__ == "__main__":
    main()
