"""Does replay by regret repair a spoiled store with fewer calls than replay at random?

    python -m bench.keeping.replay --seeds 31 32 33 --plot bench/keeping/replay.png

The store holds the large model's answers to the first requests of the demo's stream; a third of them are spoiled: they
are given one another's answers. Then traffic comes in rounds. The small model answers with two examples through the
proxy's own steps, callers judge a share of the answers (30 % unless said otherwise), and whatever follows from it is
learned as in the proxy. After each round of traffic comes a round of upkeep with a budget of calls, of the teacher and
of the judge together. Measured is the share of correct answers to requests that are in no round, with two examples
chosen by distance and names alone, so that it speaks of the stored answers and of nothing that was learned beside;
"served" is the same with all that was learned of the examples, which avoids bad ones without repairing them.

- **ours**: the round as it is: most regret first, with its cut-off.
- **random**: the same round with the same budget, the same new answers and the same judge; but the examples come in
  random order, each once, without cut-off or any knowledge of regret.
- **majority**: no judge; the teacher's new answers against the stored one. **judge**: knows the truth, and gives a
  wrong verdict one time in ten.

The large model is asked without temperature, so it says the same each time and is asked twice for an example. Real
models in this process, their answers kept in the temporary folder; everything is judged by the world's own truth.
Needs the extra `local`, and `plots` for the plot.
"""

import argparse
import asyncio
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.utility import Answers
from echo_proxy.demo.traffic import Ask as Asked
from echo_proxy.demo.traffic import stream
from echo_proxy.demo.world import Item, correct, make_world
from echo_proxy.embedders.local import LocalEmbedder
from echo_proxy.learning.knowledge import Knowledge
from echo_proxy.learning.utility import BetaUtility
from echo_proxy.online.measure import Answer
from echo_proxy.online.receive import receive
from echo_proxy.online.sample import Ask, Reply
from echo_proxy.pipeline import Parts, plan, revise, settle
from echo_proxy.policy import Policy
from echo_proxy.types import (
    Attempt,
    Call,
    Caller,
    Candidate,
    Embedding,
    Example,
    Feedback,
    HoldingsPage,
    Load,
    Message,
    PassThrough,
    Plan,
    Query,
    Request,
)
from echo_proxy.upkeep.run import RoundOptions, Tools, run_round
from tests.fakes import FrozenClock, MemoryStore

KEPT = Path(tempfile.gettempdir()) / "echo-bench-replay" / "answers.db"
_START = 1_700_000_000.0
_SECONDS = 10.0
"""Between two requests."""
_USD = 1e-6
"""Of a call, so that a budget of calls is one of USD; too little to change anything else."""
_GOALS = (0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Setup:
    """What is played."""

    n_fill: int
    """Requests whose answers fill the store."""
    n_rounds: int
    n_traffic: int
    """Requests of a round."""
    n_held_out: int
    n_calls: int
    """Budget of a round of upkeep."""
    feedback: float
    """Share of answers that callers judge."""
    spoiled: float = 1 / 3
    wrong_verdicts: float = 0.1


@dataclass(frozen=True)
class Way:
    """A row of the table."""

    name: str
    has_judge: bool
    is_random: bool = False
    has_upkeep: bool = True


WAYS = (
    Way("ours, majority", has_judge=False),
    Way("random, majority", has_judge=False, is_random=True),
    Way("ours, judge", has_judge=True),
    Way("random, judge", has_judge=True, is_random=True),
    Way("no upkeep", has_judge=False, has_upkeep=False),
)


def policy_of(way: Way) -> Policy:
    """The small model answers with two examples; the large one is the teacher."""
    judge = {"sampled": {"model_group": "judge", "rate": 0.0}} if way.has_judge else {}
    chance = {"min_regret": 0.0, "min_gain": 0.0, "max_times": 1} if way.is_random else {}
    return Policy.model_validate(
        {
            "name": "bench",
            "match": {"model_groups": ["bench"]},
            "arms": [{"deployment": "small", "n_examples": 2}, {"deployment": "large", "teacher": True}],
            "bandit": {"kind": "fixed", "probabilities": {"small+2": 1.0}, "floor": 1e-9},
            "prompt": {"notice": ""},
            "selection": {"learned": None, "explore": 0.0},
            "judge": judge,
            "upkeep": {"replay": chance},
        }
    )


# ------------------------------------------------------------------ models and store


class BenchModels:
    """The teacher is the large model; the judge knows the truth, and is wrong now and then."""

    def __init__(self, teacher: Answers, items: Mapping[str, Item], wrong: float, seed: int) -> None:
        self._teacher = teacher
        self._items = items
        self._wrong = wrong
        self._rng = Random(seed)
        self.n_calls = 0

    async def ask(self, ask: Ask) -> Reply:
        self.n_calls += 1
        text = self._verdict(ask) if ask.model_group == "judge" else self._teacher.ask(_plain(ask.messages))
        return Reply(text, "stop", "large", 10, len(text) // 4, _USD, 0.1)

    def _verdict(self, ask: Ask) -> str:
        said = ask.messages[1].content
        token = re.search(r"request begins (\w+) ---\nuser ?: (.*?)\n---", said, re.DOTALL)
        assert token  # the question has this form
        shown = re.findall(r"answer K\d+ begins \w+ ---\n(.*?)\n--- answer", said, re.DOTALL)
        first, second = (correct(self._items[token[2]], text) for text in shown)
        right = 2 * int(np.sign(first - second))
        is_wrong = self._rng.random() < self._wrong
        verdict = self._rng.choice([one for one in (-2, 0, 2) if one != right]) if is_wrong else right
        return json.dumps({"token": token[1], "verdict": verdict})


class BenchStore(MemoryStore):
    """Exact search by one product; `is_shuffled` tells random numbers in place of regret."""

    def __init__(self, clock: FrozenClock, examples: Sequence[Example], shuffle: Random | None) -> None:
        super().__init__(clock)
        self.examples = {one.id: one for one in examples}
        self._ids = [one.id for one in examples]
        self._matrix = np.stack([one.vector for one in examples])  # (n, 384)
        self._shuffle = shuffle

    async def nearest(self, query: Query) -> tuple[Candidate, ...]:
        distances = np.clip(1 - self._matrix @ query.vector, 0, 2)  # (n,)
        order = np.argsort(distances, kind="stable")[: query.k]
        return tuple(
            Candidate(self.examples[self._ids[i]], float(distances[i]))
            for i in order
            if distances[i] <= query.max_distance
        )

    async def holdings(self, cursor: str, limit: int) -> HoldingsPage:
        page = await super().holdings(cursor, limit)
        if self._shuffle is None:
            return page
        chance = np.array([1 + self._shuffle.random() for _ in page.holdings.ids])
        return replace(page, holdings=replace(page.holdings, regret=chance))

    def fade(self, factor: float) -> None:
        """As real stores do by the hour."""
        for key, one in self.examples.items():
            self.examples[key] = replace(one, regret=one.regret * factor, offloads=one.offloads * factor)


class KnownVectors:
    """Vectors that were computed before."""

    model = "known"
    dimensions = 384

    def __init__(self, vectors: Mapping[str, Embedding]) -> None:
        self._vectors = vectors

    async def embed(self, texts: Sequence[str]) -> Any:
        return np.stack([self._vectors[text] for text in texts])


class Quiet:
    """Nobody watches."""

    def begin(self, work: str, total: int) -> None:
        pass

    def step(self, work: str, n: int = 1) -> None:
        pass

    def tell(self, text: str) -> None:
        pass


# ------------------------------------------------------------------ one seed


@dataclass
class Scene:
    """The requests of a seed, and the store that they begin with."""

    seed: int
    setup: Setup
    fill: Sequence[Asked]
    rounds: Sequence[Sequence[Asked]]
    held_out: Sequence[Asked]
    vectors: Mapping[str, Embedding]
    clean: Sequence[Example]
    spoiled: Sequence[Example]
    n_spoiled: int


def make_scene(seed: int, setup: Setup, teacher: Answers) -> Scene:
    """Fill, rounds of traffic, held-out requests: consecutive parts of one stream, so that topics are the same."""
    n_train = setup.n_fill + setup.n_rounds * setup.n_traffic
    asks = stream(make_world(), n_train + setup.n_held_out, seed)
    questions = list(dict.fromkeys(ask.item.question for ask in asks))
    vectors = asyncio.run(_vectors(questions))
    fill = list({ask.item.question: ask for ask in asks[: setup.n_fill]}.values())
    clean = [_example(index, ask, teacher, vectors) for index, ask in enumerate(fill)]
    rng = Random(seed)
    chosen = rng.sample(range(len(clean)), round(setup.spoiled * len(clean)))
    spoiled = list(clean)
    for index, other in zip(chosen, chosen[1:] + chosen[:1], strict=True):
        spoiled[index] = replace(clean[index], response=clean[other].response)
    traffic = asks[setup.n_fill : n_train]
    rounds = [traffic[i : i + setup.n_traffic] for i in range(0, len(traffic), setup.n_traffic)]
    return Scene(seed, setup, fill, rounds, asks[n_train:], vectors, clean, spoiled, len(chosen))


async def _vectors(texts: Sequence[str]) -> Mapping[str, Embedding]:
    embedder = LocalEmbedder()
    found = dict(zip(texts, await embedder.embed(texts), strict=True))
    await embedder.close()
    return found


def _example(index: int, ask: Asked, teacher: Answers, vectors: Mapping[str, Embedding]) -> Example:
    question = ask.item.question
    answer = teacher.ask([{"role": "user", "content": question}])
    request = _request(question, 0)
    return Example(
        id=f"e{index:05}",
        scope=request.scope,
        partition=request.partition,
        request=question,
        response=answer,
        vector=vectors[question],
        teacher="large",
        decision_id=f"e{index:05}",
        writer=request.caller.key,
        quality=0.9,
        n_tokens=(len(question) + len(answer)) // 4,
        created_at=_START,
        expires_at=_START + 1e9,
    )


def _request(text: str, index: int, rules: Policy | None = None) -> Request:
    call = Call(f"call-{index}", "bench", "chat", (Message("user", text),), Caller())
    request = receive(call, rules or policy_of(WAYS[0]), _START + _SECONDS * index)
    assert not isinstance(request, PassThrough)  # questions of the demo are never blank
    return replace(request, decision_id=f"d{index:08}")


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": one.role, "content": one.content} for one in messages]


# ------------------------------------------------------------------ one way


@dataclass(frozen=True)
class Point:
    """The store after so many calls."""

    n_calls: int
    correct: float
    """Share of the held-out requests, examples chosen by distance and names alone."""
    n_wrong: int
    """Stored answers that are not correct."""
    n_replayed: int
    n_improved: int


@dataclass
class Played:
    """One way on one seed."""

    way: Way
    seed: int
    clean: float
    """Share correct with the store as it was before it was spoiled."""
    points: list[Point] = field(default_factory=list)
    """Before traffic, then after each round."""
    served: float = 0.0
    """Share correct at the end with examples chosen as in the traffic, by all that was learned of them."""


class Play:
    """One way on one scene."""

    def __init__(self, way: Way, scene: Scene, student: Answers, teacher: Answers) -> None:
        self._way = way
        self._scene = scene
        self._student = student
        self._rules = policy_of(way)
        self._clock = FrozenClock(_START)
        shuffle = Random(scene.seed + 7) if way.is_random else None
        self._store = BenchStore(self._clock, scene.spoiled, shuffle)
        asks = [*scene.fill, *(ask for part in scene.rounds for ask in part)]
        self._items = {ask.item.question: ask.item for ask in asks}
        self._models = BenchModels(teacher, self._items, scene.setup.wrong_verdicts, scene.seed)
        self._judged = Random(scene.seed + 1)
        self._index = 0

    def run(self) -> Played:
        """All rounds."""
        clean = BenchStore(self._clock, self._scene.clean, None)
        played = Played(self._way, self._scene.seed, self._measure(clean))
        played.points.append(self._point(0, 0, None))
        for asks in self._scene.rounds:
            asyncio.run(self._traffic(asks))
            report = asyncio.run(self._upkeep()) if self._way.has_upkeep else {"n_replayed": 0, "n_improved": 0}
            before = played.points[-1].correct
            played.points.append(self._point(int(report["n_replayed"]), int(report["n_improved"]), before))
            self._say(played)
            if self._way.is_random and report["n_replayed"] == 0:  # every example has had its turn
                break
        played.served = asyncio.run(self._correct(self._store))
        return played

    def _say(self, played: Played) -> None:
        last = played.points[-1]
        print(
            f"{time.strftime('%H:%M:%S')} seed {self._scene.seed}, {self._way.name}: round {len(played.points) - 1}, "
            f"{last.n_calls} calls, {100 * last.correct:.1f} % (clean {100 * played.clean:.1f}), {last.n_wrong} wrong, "
            f"replayed {last.n_replayed}, improved {last.n_improved}",
            file=sys.stderr,
            flush=True,
        )

    async def _traffic(self, asks: Sequence[Asked]) -> None:
        for ask in asks:
            self._index += 1
            self._clock.time = _START + _SECONDS * self._index
            request = _request(ask.item.question, self._index, self._rules)
            made = await self._plan(request, self._store)
            text = self._answer(made)
            quality = correct(ask.item, text)
            await self._settle(made, text, quality if self._judged.random() < self._scene.setup.feedback else None)
        self._store.fade(self._rules.upkeep.offload_decay ** (_SECONDS * len(asks) / 3600))

    async def _plan(self, request: Request, store: BenchStore) -> Plan:
        parts = Parts(
            policy=self._rules,
            embedder=KnownVectors(self._scene.vectors),
            store=store,
            knowledge=Knowledge(self._rules),
            utility=BetaUtility(self._rules.selection.utility),
            clock=self._clock,
            new_seed=lambda: self._index,
        )
        made = await plan(request, ["small"], parts)
        assert made is not None  # its only arm is there
        return made

    def _answer(self, made: Plan) -> str:
        return self._student.ask(_plain([*made.prompt.turns, *made.request.dialogue]))

    async def _settle(self, made: Plan, text: str, feedback: float | None) -> None:
        now = self._clock.now()
        said = Answer("small", text, "stop", True, 50, len(text) // 4, 0.0, now, now + 0.05, now + 0.1)
        settled = settle(made, said, [Attempt("small", "small", made.decision)], self._rules)
        await self._store.settle(settled.settlement)
        if feedback is not None:
            record = settled.settlement.record
            await self._store.settle(revise(record, Feedback(feedback, "", now), self._rules))

    async def _upkeep(self) -> Mapping[str, Any]:
        tools = Tools(
            policy=self._rules,
            store=self._store,
            embedder=KnownVectors(self._scene.vectors),
            clock=self._clock,
            models=self._models,
            loads=_nothing_to_do,
            progress=Quiet(),
        )
        usd = self._scene.setup.n_calls * _USD
        run = await run_round(tools, RoundOptions(frozenset(("replay",)), usd=usd), "bench")
        if run.ending not in ("done", "budget"):
            raise RuntimeError(f"expected a round that was done, got {run.ending}: {run.report}")
        report = run.report["replay"]
        assert isinstance(report, dict)
        return report

    def _point(self, n_replayed: int, n_improved: int, before: float | None) -> Point:
        """The store as it is now; one that did not change need not be measured again."""
        stored = self._store.examples.values()
        n_wrong = sum(correct(self._items[one.request], one.response) < 1 for one in stored)
        share = self._measure(self._store) if before is None or n_improved else before
        return Point(self._models.n_calls, share, n_wrong, n_replayed, n_improved)

    def _measure(self, store: BenchStore) -> float:
        """Share of the held-out requests that are answered correctly; nothing is learned."""
        bare = BenchStore(self._clock, [replace(one, uses=0.0, gain=0.0) for one in store.examples.values()], None)
        return asyncio.run(self._correct(bare))

    async def _correct(self, store: BenchStore) -> float:
        total = 0.0
        for index, ask in enumerate(self._scene.held_out):
            request = _request(ask.item.question, 10_000_000 + index, self._rules)
            total += correct(ask.item, self._answer(await self._plan(request, store)))
        return total / len(self._scene.held_out)


async def _nothing_to_do() -> Mapping[str, Load]:
    return {}


# ------------------------------------------------------------------ figures


def recovered(played: Played) -> list[float]:
    """Share of the loss that is made good, per point."""
    lost = played.clean - played.points[0].correct
    return [(point.correct - played.points[0].correct) / lost for point in played.points]


def calls_until(played: Played, share: float) -> float:
    """Calls until that much of the loss is made good, between two rounds in proportion; inf = never."""
    shares = recovered(played)
    for index, after in enumerate(shares):
        if after >= share:
            if index == 0:
                return 0.0
            before, first, last = shares[index - 1], played.points[index - 1].n_calls, played.points[index].n_calls
            return first + (share - before) / (after - before) * (last - first)
    return float("inf")


def row(played: Sequence[Played]) -> dict[str, Any]:
    """One way over all seeds."""
    last = [one.points[-1] for one in played]
    found = {f"calls_to_{round(100 * goal)}": [calls_until(one, goal) for one in played] for goal in _GOALS}
    return {
        "way": played[0].way.name,
        "clean_pct": [100 * one.clean for one in played],
        "spoiled_pct": [100 * one.points[0].correct for one in played],
        "end_pct": [100 * one.correct for one in last],
        "served_pct": [100 * one.served for one in played],
        "recovered_pct": [100 * recovered(one)[-1] for one in played],
        "calls": [one.n_calls for one in last],
        "wrong_at_first": [one.points[0].n_wrong for one in played],
        "wrong_at_end": [one.n_wrong for one in last],
        **found,
        "curve": [
            [[p.n_calls, 100 * share] for p, share in zip(one.points, recovered(one), strict=True)] for one in played
        ],
    }


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows for a reader: means over the seeds, with the seeds' own figures for the calls."""
    made = Table("replay", "spoiled > end % (clean)", "recovered %", "served at end %", "calls", title=title)
    for goal in _GOALS:
        made.add_column(f"calls to {goal:.0%}")
    made.add_column("wrong examples")
    for one in rows:
        made.add_row(
            one["way"],
            f"{np.mean(one['spoiled_pct']):.1f} > {np.mean(one['end_pct']):.1f} ({np.mean(one['clean_pct']):.1f})",
            f"{np.mean(one['recovered_pct']):.0f}",
            f"{np.mean(one['served_pct']):.1f}",
            f"{np.mean(one['calls']):.0f}",
            *(_calls(one[f"calls_to_{round(100 * goal)}"]) for goal in _GOALS),
            f"{np.mean(one['wrong_at_first']):.0f} > {np.mean(one['wrong_at_end']):.0f}",
        )
    return made


def _calls(found: Sequence[float]) -> str:
    each = ", ".join("never" if np.isinf(one) else f"{one:.0f}" for one in found)
    return f"{np.mean(found):.0f} ({each})" if np.isfinite(found).all() else each


def draw(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Share of the loss recovered over the calls spent; thin lines are seeds."""
    import matplotlib.pyplot as plt  # an extra

    figure, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
    for axis, kind in zip(axes, ("majority", "judge"), strict=True):
        for one in rows:
            if kind not in one["way"]:
                continue
            colour = "tab:blue" if one["way"].startswith("ours") else "tab:orange"
            for number, curve in enumerate(one["curve"]):
                xs, ys = zip(*curve, strict=True)
                axis.plot(xs, ys, color=colour, alpha=0.6, label=one["way"] if number == 0 else None)
        axis.axhline(90, color="grey", linewidth=0.8, linestyle="--")
        axis.set_xlabel("calls of teacher and judge")
        axis.set_title("no judge" if kind == "majority" else "judge, 10 % wrong verdicts")
        axis.legend()
    axes[0].set_ylabel("loss recovered, %")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print the table."""
    options = _options()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    setup = Setup(options.fill, options.rounds, options.requests, options.held_out, options.calls, options.feedback)
    student, teacher = Answers("small", KEPT), Answers("large", KEPT)
    started = time.monotonic()
    played: dict[str, list[Played]] = {way.name: [] for way in WAYS}
    for seed in options.seeds:
        scene = make_scene(seed, setup, teacher)
        for way in WAYS:
            played[way.name].append(Play(way, scene, student, teacher).run())
    rows = [row(found) for found in played.values()]
    Console(width=170).print(table(f"seeds {options.seeds}, {time.monotonic() - started:.0f} s", rows))
    if options.json:
        options.json.write_text(json.dumps({"setup": vars(setup), "rows": rows}, indent=1), encoding="utf-8")
    if options.plot:
        draw(options.plot, rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[31, 32, 33])
    parser.add_argument("--fill", type=int, default=600, help="requests whose answers fill the store")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=300, help="of traffic in a round")
    parser.add_argument("--held-out", type=int, default=400, help="requests that correctness is measured on")
    parser.add_argument("--calls", type=int, default=60, help="of a round of upkeep")
    parser.add_argument("--feedback", type=float, default=0.3, help="share of answers that callers judge")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
