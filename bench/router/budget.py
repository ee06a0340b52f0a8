"""Is spending held at its target?

    python -m bench.router.budget [--seeds 100 101 ...] [--requests 2000]

ZeroEval's prompts in an order of chance, eight models with list prices, quality alone as the reward: without a budget
the router spends about 2 USD per 1,000 requests. Each run sees only the outcomes of what it chose.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from bench.router.options import parser_for
from bench.router.replay import play, policy_for
from bench.router.streams import Stream, zeroeval

TARGETS = (0.5, 1.0, 1.5)
"""USD per 1,000 requests."""
BANDITS = ("epsilon_greedy", "beta_thompson")


@dataclass(frozen=True)
class Spent:
    """One run."""

    bandit: str
    target: float
    """USD per 1,000 requests."""
    seed: int
    ratio: float
    """Spent / target."""
    quality: float


def run(stream: Stream, requests: int, seeds: Sequence[int]) -> list[Spent]:
    """Every bandit at every target with every seed."""
    return [
        one_run(stream.shuffled(seed).take(range(requests)), bandit, target, seed)
        for bandit in BANDITS
        for target in TARGETS
        for seed in seeds
    ]


def one_run(stream: Stream, bandit: str, target: float, seed: int) -> Spent:
    """What was spent by the end of the stream."""
    policy = policy_for(stream, bandit={"kind": bandit, "segments": None}, budget={"usd_per_1000_requests": target})
    made = play(stream, policy, seed)
    return Spent(bandit, target, seed, made.cost_usd.sum() / len(stream) * 1000 / target, made.quality.mean())


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102, 103, 104])
    parser.add_argument("--requests", type=int, default=2000)
    args = parser.parse_args()
    runs = run(zeroeval(args.data, args.cache), args.requests, args.seeds)
    if args.json:
        print(json.dumps([asdict(one) for one in runs]))
        return
    heads = ("bandit", "target USD/1,000", "off it, median", "within 0.4 %", "most above", "most below", "quality")
    table = Table(*heads, title="budget pacer")
    for bandit in BANDITS:
        for target in TARGETS:
            off = [one.ratio - 1 for one in runs if (one.bandit, one.target) == (bandit, target)]
            quality = [one.quality for one in runs if (one.bandit, one.target) == (bandit, target)]
            table.add_row(
                *(bandit, f"{target:g}", f"{statistics.median(map(abs, off)):.2%}"),
                *(f"{sum(abs(one) <= 0.004 for one in off)} of {len(off)}", f"{max(max(off), 0.0):.2%}"),
                *(f"{max(-min(off), 0.0):.2%}", f"{statistics.mean(quality):.3f}"),
            )
    Console().print(table)


if __name__ == "__main__":
    main()
