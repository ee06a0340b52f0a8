"""How soon does traffic leave an arm that fails, find one that is better, and come back?

    python -m bench.router.drift [--data ../shared/data] [--seeds N] [--json]

ZeroEval's models by the real path. Counted are requests from the change until the probabilities of 20 requests in a row
put 90 % on the arms that they should. Epsilon and the floor give the other arms their share for good: of a bandit whose
best arm can have 0.88 at most, 90 % of that are asked for.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from bench.router.options import parser_for
from bench.router.replay import Pace, Replay, policy_for, situations_of
from bench.router.streams import Array, Stream, zeroeval
from echo_proxy.policy import BanditBase, BanditPolicy, EpsilonGreedyPolicy
from echo_proxy.types import Situation

_CHANGE, _END = 600, 1000
_WINDOW = 20
_SHARE = 0.9
_FIRST_SEED = 200
_WEAK = ("Meta-Llama-3.1-8B-Instruct", "claude-3-haiku-20240307", "gpt-3.5-turbo-0125")
_STRONG = "claude-3-5-sonnet-20241022"

POLICIES: Mapping[str, Mapping[str, Any]] = {
    "linear Thompson": {"kind": "linear_thompson"},
    "linear Thompson, drift: null": {"kind": "linear_thompson", "drift": None},
    "Beta Thompson, segments": {"kind": "beta_thompson"},
    "Beta Thompson, segments, drift: null": {"kind": "beta_thompson", "drift": None},
    "epsilon-greedy 0.05, segments": {"kind": "epsilon_greedy"},
    "epsilon-greedy 0.05, segments, drift: null": {"kind": "epsilon_greedy", "drift": None},
}


@dataclass(frozen=True)
class Found:
    """One policy in one kind of change: a number per seed; None = not within the run."""

    policy: str
    change: str
    requests: list[int | None]


def fails(base: Stream, seen: Sequence[Situation], bandit: Mapping[str, Any], seed: int) -> int | None:
    """The favourite is right only once in ten from the change on; until the others have 90 %."""
    rng = np.random.default_rng(seed)
    play = _Play(base, seen, bandit, seed)
    play.until(_CHANGE)
    favourite = int(play.pmf[_CHANGE - 100 : _CHANGE].mean(axis=0).argmax())
    play.until(_END, lambda t, i: float(rng.random() < 0.1) if i == favourite else None)
    return first_settled(1.0 - play.pmf[_CHANGE:_END, favourite])


def better_comes(base: Stream, seen: Sequence[Situation], bandit: Mapping[str, Any], seed: int) -> int | None:
    """An arm that is right in 97 of 100 joins the eight."""
    rng = np.random.default_rng(seed)
    play = _Play(base, seen, bandit, seed, new=base.models.index(_WEAK[0]))
    play.until(_END, lambda t, i: float(rng.random() < 0.97) if i == play.new else None)
    return first_settled(play.pmf[_CHANGE:_END, play.new], _SHARE * most_for_one(bandit, len(base.models)))


def strong_comes(base: Stream, seen: Sequence[Situation], bandit: Mapping[str, Any], seed: int) -> int | None:
    """Sonnet joins three weak models, with its real answers."""
    weak = base.only((*_WEAK, _STRONG))
    play = _Play(weak, seen, bandit, seed, new=len(_WEAK))
    play.until(_END)
    return first_settled(play.pmf[_CHANGE:_END, play.new], _SHARE * most_for_one(bandit, len(base.models)))


def comes_back(base: Stream, seen: Sequence[Situation], bandit: Mapping[str, Any], seed: int) -> int | None:
    """As in `fails`, for 200 requests, 9 s apart (a half-life is 200 requests); until it has half of its traffic."""
    rng = np.random.default_rng(seed)
    play = _Play(base, seen, bandit, seed, pace=Pace(seconds_apart=9.0))
    play.until(_CHANGE)
    before = play.pmf[_CHANGE - 100 : _CHANGE].mean(axis=0)
    favourite = int(before.argmax())
    play.until(_CHANGE + 200, lambda t, i: float(rng.random() < 0.1) if i == favourite else None)
    play.until(_CHANGE + 1400)
    return first_settled(play.pmf[_CHANGE + 200 : _CHANGE + 1400, favourite], float(before.max()) / 2)


CHANGES: Mapping[str, Callable[[Stream, Sequence[Situation], Mapping[str, Any], int], int | None]] = {
    "the favourite fails": fails,
    "a better arm (0.97) comes": better_comes,
    "sonnet joins three weak ones": strong_comes,
    "the favourite recovers": comes_back,
}


class _Play:
    """One policy on one order of the stream, up to any request."""

    def __init__(
        self,
        base: Stream,
        seen: Sequence[Situation],
        bandit: Mapping[str, Any],
        seed: int,
        new: int = -1,
        pace: Pace | None = None,
    ) -> None:
        order = np.random.default_rng(seed).permutation(len(base))[:2000]
        self.new = new
        """Index of the arm that is added at the change."""
        policy = policy_for(base, bandit=bandit)
        self._arms = policy.to_arms()
        self._replay = Replay(base.take(order), policy, seed, [seen[i] for i in order], pace)
        self.pmf: Array = np.zeros((len(order), len(self._arms)))
        self._t = 0

    def until(self, end: int, outcome: Callable[[int, int], float | None] = lambda t, i: None) -> None:
        """Serve up to a request; `outcome` says how good an arm's answer is, None = as it really was."""
        for t in range(self._t, end):
            open_ = [i for i in range(len(self._arms)) if i != self.new or t >= _CHANGE]
            arms = [self._arms[i] for i in open_]
            made = self._replay.decide(t, arms)
            self.pmf[t, open_] = made[1].pmf
            index = open_[made[2]]
            quality = outcome(t, index)
            stream = self._replay.stream
            real = float(stream.quality[t, index])
            self._replay.learn(t, arms, made, real if quality is None else quality, float(stream.cost_usd[t, index]))
        self._t = end


def most_for_one(bandit: Mapping[str, Any], n_arms: int) -> float:
    """The largest probability that exploration leaves to a single arm."""
    policy = policy_for_bandit(bandit)
    greedy = 1.0 - policy.epsilon * (n_arms - 1) / n_arms if isinstance(policy, EpsilonGreedyPolicy) else 1.0
    return policy.floor + (1.0 - n_arms * policy.floor) * greedy


def policy_for_bandit(bandit: Mapping[str, Any]) -> BanditBase:
    """The bandit with its defaults filled in."""
    made: BanditBase = TypeAdapter(BanditPolicy).validate_python(dict(bandit))
    return made


def first_settled(mass: Array, share: float = _SHARE) -> int | None:
    """Requests until the mean of a window reaches the share, the window included."""
    means = np.convolve(mass, np.ones(_WINDOW) / _WINDOW, "valid")
    found = np.flatnonzero(means >= share)
    return int(found[0]) + _WINDOW if found.size else None


def play_cell(policy: str, change: str, seeds: Sequence[int], data: Path, cache_: Path) -> Found:
    """All seeds of one policy in one kind of change."""
    base, seen = _loaded(data, cache_)
    return Found(policy, change, [CHANGES[change](base, seen, POLICIES[policy], seed) for seed in seeds])


@cache
def _loaded(data: Path, cache_: Path) -> tuple[Stream, tuple[Situation, ...]]:
    stream = zeroeval(data, cache_)
    return stream, situations_of(stream, policy_for(stream))


def table(found: Sequence[Found]) -> Table:
    """Median and 90th percentile per policy and change."""
    out = Table(title=f"requests until settled, {len(found[0].requests)} seeds: median (90th percentile)")
    out.add_column("policy")
    for change in CHANGES:
        out.add_column(change, justify="right")
    for policy in dict.fromkeys(one.policy for one in found):
        cells = {one.change: _cell(one.requests) for one in found if one.policy == policy}
        out.add_row(policy, *(cells.get(change, "") for change in CHANGES))
    return out


def _cell(requests: Sequence[int | None]) -> str:
    known = np.array([np.inf if one is None else one for one in requests])
    median, late = np.quantile(known, [0.5, 0.9], method="higher")
    never = f", never {np.isinf(known).mean():.0%}" if np.isinf(known).any() else ""
    return f"{median:.0f} ({late:.0f}){never}"


def play_all(options: argparse.Namespace) -> list[Found]:
    """Every cell, in two processes."""
    seeds = range(_FIRST_SEED, _FIRST_SEED + options.seeds)
    _loaded(options.data, options.cache)
    with ProcessPoolExecutor(options.processes) as pool:
        asked = [
            pool.submit(play_cell, policy, change, seeds, options.data, options.cache)
            for policy in POLICIES
            for change in CHANGES
        ]
        return [one.result() for one in asked]


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    found = play_all(options)
    if options.json:
        print(json.dumps([asdict(one) for one in found]))
    else:
        Console(width=160).print(table(found))


if __name__ == "__main__":
    main()
