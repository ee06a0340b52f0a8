"""In which order is everything measured? Warm-up, callers who never pause, then three levels of arrivals."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.claim.front import Front, model_states, n_at_work, pin, write_policy
from bench.claim.load import Reply, Run, Send, Tell, arrival_times, closed_loop, open_loop
from bench.claim.pipeline import running_pipeline
from bench.claim.proxy import running_proxy
from bench.claim.ways import ECHO, LARGE_ONLY, NEAREST, SMALL_ONLY, WAYS, Models, Way, echo_policy, nearest_policy
from echo_proxy.demo.traffic import Ask, Mix, stream
from echo_proxy.demo.world import make_world
from echo_proxy.offline.simulate_arrivals import read_trace

_GRACE_S = 5.0
"""After the last arrival, before what has no answer is cut."""
_RELOAD_S = 3.0
"""A changed policy file is taken over within a second or two."""
_IDLE_S = 120.0
_ROUNDS = 2
"""Each level is played in so many parts, the ways in turn, so that a busy machine is unfair to nobody."""
_MOST_REQUESTS_PER_S = 1500
"""More than either model answers here."""
_HOPELESS = 2.0
"""Where more arrives than so many times what a way can answer, its queue would only grow: its callers wait instead."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What is measured and how."""

    through: str
    """pipeline or proxy."""
    models: Models
    echo_policy: Path
    trace: Path
    cores: str
    """shared: both models on one core, all else on another; apart: a core each; free: wherever they like."""
    n_warm_up: int
    n_topics: int
    """Rare facts that are asked for."""
    level_s: float
    """Of each way at each level."""
    feedback: float
    """Share of answers that callers judge."""
    n_clients: int
    seed: int


Runs = Mapping[str, Sequence[Run]]
"""Way > its runs at one level."""


@dataclass(slots=True)
class Result:
    """Everything that was measured."""

    warm_up: dict[str, Run] = field(default_factory=dict)
    """By way."""
    saturated: dict[str, list[Run]] = field(default_factory=dict)
    levels: dict[str, dict[str, list[Run]]] = field(default_factory=dict)


async def measure(setup: Setup, folder: Path) -> Result:
    """All runs of all ways."""
    cores = sorted(os.sched_getaffinity(0))
    if setup.cores == "shared":
        os.sched_setaffinity(0, cores[1:] or cores)  # all that is started from here inherits it
    async with _front(setup, folder) as front:
        bench = _Bench(setup, folder, front)
        await bench.load_models(cores)
        return await bench.everything()


@asynccontextmanager
async def _front(setup: Setup, folder: Path) -> AsyncIterator[Front]:
    policies = {"nearest": nearest_policy(is_teaching=True), "echo": echo_policy(setup.echo_policy)}
    if setup.through == "proxy":
        async with running_proxy(folder, policies, setup.models) as proxy:
            yield proxy
        return
    for policy in policies.values():
        write_policy(folder / "policies", policy)
    async with running_pipeline(folder / "state", folder / "policies", setup.models) as pipeline:
        yield pipeline


class _Bench:
    def __init__(self, setup: Setup, folder: Path, front: Front) -> None:
        self._setup = setup
        self._folder = folder
        self._front = front
        self._trace = read_trace(setup.trace)
        self._asks = _Asks(setup)
        self._result = Result()

    async def load_models(self, cores: Sequence[int]) -> None:
        """One question to each, then every model to its core."""
        for way in (SMALL_ONLY, LARGE_ONLY):
            reply = await self._front.ask(way.group, "What number comes after 1?")
            if reply.error:
                raise RuntimeError(f"{way.name}: expected an answer to the first question, got {reply.error}")
        if self._setup.cores == "free":
            return
        for index, state in enumerate(model_states(self._state)):
            assert state.pid is not None
            pin(state.pid, {cores[0] if self._setup.cores == "shared" else cores[index % len(cores)]})

    async def everything(self) -> Result:
        """See Result."""
        await self._warm_up()
        for turn in range(_ROUNDS):
            await self._saturated(turn)
        limits = {name: _answers_per_s(runs) for name, runs in self._result.saturated.items()}
        for name, rate in _rates(limits).items():
            self._result.levels[name] = await self._level(rate, limits)
        return self._result

    async def _saturated(self, turn: int) -> None:
        asks = self._asks.take(round(self._setup.level_s / _ROUNDS * _MOST_REQUESTS_PER_S))
        for way in _in_turn(turn):
            run = await self._closed(way, asks)
            self._note("saturated", way, run)
            self._result.saturated.setdefault(way.name, []).append(run)
        # What Echo never saw was not asked before.
        self._asks.give_back(len(asks) - len(self._result.saturated[ECHO.name][turn].samples))

    async def _warm_up(self) -> None:
        asks = self._asks.take(self._setup.n_warm_up)
        for way in WAYS:
            send, tell = self._ends(way)
            run = await closed_loop(asks, self._setup.n_clients, float("inf"), send, tell)
            self._note("warm-up", way, run)
            self._result.warm_up[way.name] = run
            await self._until_idle()
        write_policy(self._folder / "policies", nearest_policy(is_teaching=False))
        await asyncio.sleep(_RELOAD_S)

    async def _level(self, rate: float, limits: Mapping[str, float]) -> dict[str, list[Run]]:
        runs: dict[str, list[Run]] = {way.name: [] for way in WAYS}
        for turn in range(_ROUNDS):
            at = arrival_times(self._trace, rate, self._setup.level_s / _ROUNDS, start=(turn + 0.5) / _ROUNDS)
            asks = self._asks.take(len(at))
            for way in _in_turn(turn):
                is_hopeless = rate > _HOPELESS * limits[way.name]
                send, tell = self._ends(way)
                run = self._closed(way, asks) if is_hopeless else open_loop(asks, at, _GRACE_S, send, tell)
                runs[way.name].append(await run)
                self._note(f"{rate:.0f} requests/s", way, runs[way.name][-1])
                await self._until_idle()
        return runs

    def _note(self, what: str, way: Way, run: Run) -> None:
        """Minutes without a word look like a hang."""
        n_answered = sum(not sample.reply.error for sample in run.samples)
        print(f"{what}, {way.name}: {n_answered} of {len(run.samples)} in {run.duration_s:.1f} s", file=sys.stderr)

    async def _closed(self, way: Way, asks: Sequence[Ask]) -> Run:
        send, tell = self._ends(way)
        run = await closed_loop(asks, self._setup.n_clients, self._setup.level_s / _ROUNDS, send, tell)
        await self._until_idle()
        return run

    def _ends(self, way: Way) -> tuple[Send, Tell]:
        async def send(question: str) -> Reply:
            return await self._front.ask(way.group, question)

        async def tell(reply: Reply, quality: float) -> None:
            if reply.decision_id and way is not NEAREST and self._asks.is_judged():
                await self._front.tell(reply, quality)

        return send, tell

    async def _until_idle(self) -> None:
        """What was cut may still be at work: the next way must not wait for it."""
        try:
            async with asyncio.timeout(_IDLE_S):
                while await n_at_work(self._state):
                    await asyncio.sleep(0.1)
        except TimeoutError:
            print(f"the models are still at work after {_IDLE_S:.0f} s; what comes next is slowed", file=sys.stderr)

    @property
    def _state(self) -> Path:
        return self._folder / "state"


class _Asks:
    """The stream of questions, part by part."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._taken = 0
        self._n_told = 0

    def take(self, n: int) -> list[Ask]:
        """The next n."""
        self._taken += n
        mix = Mix(n_topics=self._setup.n_topics, n_countries=max(60, min(180, self._setup.n_topics // 3)))
        return stream(make_world(), self._taken, self._setup.seed, mix)[-n:]

    def give_back(self, n: int) -> None:
        """The last n were not used."""
        self._taken -= n

    def is_judged(self) -> bool:
        """Whether the next answer is, so that the share comes out evenly."""
        self._n_told += 1
        share = self._setup.feedback
        return int(self._n_told * share) > int((self._n_told - 1) * share)


def _in_turn(turn: int) -> Sequence[Way]:
    """Who comes later may profit from what the models keep of prompts that came before: so each is first once."""
    return WAYS if turn % 2 == 0 else WAYS[::-1]


def _rates(limits: Mapping[str, float]) -> dict[str, float]:
    """Arrivals per second of each level: half of what large only can answer, more than that, and little less than
    what small only can."""
    large, small = limits[LARGE_ONLY.name], limits[SMALL_ONLY.name]
    return {"low": 0.5 * large, "large only saturated": 1.3 * large, "near the limit": 0.85 * small}


def _answers_per_s(runs: Sequence[Run]) -> float:
    answered = sum(not sample.reply.error for run in runs for sample in run.samples)
    return answered / sum(run.duration_s for run in runs)
