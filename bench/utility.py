"""Does a learned utility choose better examples than the distance alone?

    python -m bench.utility [--json FILE] [--seeds 20 21 22] [--requests 900] [--examples 2]

The small model of the bundled pair answers every request of the demo's traffic, each time with examples that another
way of choosing has picked among the same candidates. The large model's answers fill the store as the stream goes on.
Real inference, the proxy's own steps, no proxy: answers are kept in a temporary folder, so that ways of choosing share
what is the same. Every answer is judged by the world's own truth. Needs the extra `local`.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.pair.evaluate import PAIR
from echo_proxy.demo.traffic import Ask, Label, stream
from echo_proxy.demo.world import correct, make_world
from echo_proxy.embedders.local import LocalEmbedder
from echo_proxy.learning.fit_utility import fit_utility
from echo_proxy.learning.learned_utility import Learned
from echo_proxy.learning.utility import BetaUtility
from echo_proxy.online.assemble import assemble
from echo_proxy.online.receive import receive
from echo_proxy.online.retrieve import retrieve
from echo_proxy.online.select import select
from echo_proxy.policy import Policy
from echo_proxy.types import (
    Call,
    Caller,
    Candidate,
    Context,
    Embedding,
    Example,
    Lesson,
    Message,
    PassThrough,
    Prompt,
    Query,
    Request,
    Selection,
    Situation,
)

ANSWERS = Path(tempfile.gettempdir()) / "echo-bench-utility" / "answers.db"
REFIT = 25
"""Requests between two fits; a proxy fits every refresh_s, which is oftener."""
_START = 1_700_000_000.0
_SECONDS = 10.0
"""Between two requests."""
_NO_CONTEXT = Context("none", ())


# ------------------------------------------------------------------ models


class Answers:
    """Greedy answers of a model, each computed once per machine."""

    def __init__(self, name: str, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        file = PAIR / f"{name}-q8_0.gguf"
        self._model: Any = None
        self._file = file
        self._name = f"{name}:{file.stat().st_size}:{file.stat().st_mtime_ns}"
        self._kept = sqlite3.connect(path, isolation_level=None, timeout=60)
        self._kept.execute("pragma journal_mode=wal")
        self._kept.execute("pragma synchronous=off")
        self._kept.execute("create table if not exists answers (prompt blob primary key, text text)")

    def ask(self, messages: Sequence[dict[str, str]]) -> str:
        """The answer to a chat."""
        key = sha256(f"{self._name}\x00{json.dumps(messages)}".encode()).digest()
        row = self._kept.execute("select text from answers where prompt = ?", (key,)).fetchone()
        if row:
            return str(row[0])
        self._model = self._model or _loaded(self._file)
        reply = self._model.create_chat_completion(messages=list(messages), temperature=0.0, max_tokens=96)
        text = str(reply["choices"][0]["message"]["content"])
        self._kept.execute("insert or replace into answers values (?, ?)", (key, text))
        return text


def _loaded(file: Path) -> Any:
    from llama_cpp import Llama  # an extra; importing this module must not need it

    # Two threads that wait for each other take minutes where one takes seconds, once the cores are shared.
    return Llama(str(file), n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False)


class Store:
    """Exact search over one scope, in memory."""

    def __init__(self) -> None:
        self._examples: list[Example] = []
        self._rows: dict[str, int] = {}
        self._vectors = np.zeros((2048, 384), dtype=np.float32)

    async def nearest(self, query: Query) -> tuple[Candidate, ...]:
        distances = 1 - self._vectors[: len(self._examples)] @ query.vector
        order = np.argsort(distances, kind="stable")[: query.k]
        near = [(self._examples[i], float(np.clip(distances[i], 0, 2))) for i in order]
        return tuple(Candidate(one, distance) for one, distance in near if distance <= query.max_distance)

    def add(self, example: Example, duplicate_distance: float) -> None:
        """As the proxy does: an older twin with the same answer stays, one with another answer goes."""
        distances = 1 - self._vectors[: len(self._examples)] @ example.vector
        twins = [int(i) for i in np.flatnonzero(distances <= duplicate_distance)]
        if any(self._examples[i].response == example.response for i in twins):
            return
        row = twins[0] if twins else len(self._examples)
        self._vectors[row] = example.vector
        self._examples[row : row + 1] = [example]
        self._rows[example.id] = row

    def credit(self, example_id: str, quality: float) -> None:
        """An answer was given with it."""
        row = self._rows[example_id]
        old = self._examples[row]
        self._examples[row] = replace(old, uses=old.uses + 1, gain=old.gain + quality)


# ------------------------------------------------------------------ ways to choose


@dataclass(frozen=True)
class Way:
    """A way to choose examples, and how many at most."""

    name: str
    n_examples: int
    choose: Callable[[Request, Sequence[Candidate], Policy, Learned, int], Selection]
    is_learned: bool = False
    selection: Mapping[str, Any] | None = None
    """Changes of the policy's section."""
    order: str = "best_last"


def by_utility(
    request: Request, candidates: Sequence[Candidate], policy: Policy, learned: Learned, seed: int
) -> Selection:
    """The proxy's own step."""
    model = BetaUtility(policy.selection.utility)
    return select(request, candidates, policy.arms[0].n_examples, policy.selection, model, learned, seed)


def by_distance(
    request: Request, candidates: Sequence[Candidate], policy: Policy, learned: Learned, seed: int
) -> Selection:
    """The nearest ones within retrieval's distance, without names, outcomes or threshold."""
    return _first(candidates, policy)


def by_chance(
    request: Request, candidates: Sequence[Candidate], policy: Policy, learned: Learned, seed: int
) -> Selection:
    """Any of the candidates."""
    order = np.random.default_rng(seed).permutation(len(candidates))
    return _first([candidates[i] for i in order], policy)


def nothing(
    request: Request, candidates: Sequence[Candidate], policy: Policy, learned: Learned, seed: int
) -> Selection:
    """No examples."""
    return Selection()


def _first(candidates: Sequence[Candidate], policy: Policy) -> Selection:
    chosen: list[Candidate] = []
    for one in candidates:
        tokens = sum(other.example.n_tokens for other in chosen) + one.example.n_tokens
        if len(chosen) < policy.arms[0].n_examples and tokens <= policy.selection.max_tokens:
            chosen.append(one)
    return Selection(tuple(chosen))


def ways(n_examples: int) -> tuple[Way, ...]:
    """All rows of the table."""
    fixed = {"learned": None}
    return (
        Way("learned utility", n_examples, by_utility, is_learned=True),
        Way("hand-made utility", n_examples, by_utility, selection=fixed),
        Way("distance only", n_examples, by_distance),
        Way("at random", n_examples, by_chance),
        Way("no examples", 0, nothing),
        Way("distance only, one example", 1, by_distance),
        Way("hand-made utility, one example", 1, by_utility, selection=fixed),
        Way("learned utility, one example", 1, by_utility, is_learned=True),
        Way("learned utility, best first", n_examples, by_utility, is_learned=True, order="best_first"),
    )


def policy_of(way: Way) -> Policy:
    """The small model alone answers, with at most so many examples."""
    return Policy.model_validate(
        {
            "name": "bench",
            "match": {"model_groups": ["bench"]},
            "arms": [{"deployment": "small", "n_examples": way.n_examples}],
            "bandit": {"kind": "uniform"},
            "prompt": {"notice": "", "order": way.order},
            "selection": dict(way.selection or {}),
        }
    )


# ------------------------------------------------------------------ one stream


@dataclass(frozen=True)
class Served:
    """One answer."""

    label: Label
    quality: float
    n_tokens: int
    """Of the examples in its prompt."""
    n_examples: int


@dataclass(frozen=True)
class Stream:
    """The requests of one seed, with the large model's answers and the vectors of the questions."""

    seed: int
    asks: Sequence[Ask]
    taught: Sequence[str]
    vectors: Sequence[Embedding]


def prepare(seed: int, n: int) -> Stream:
    """The stream of a seed."""
    asks = stream(make_world(), n, seed)
    teacher = Answers("large", ANSWERS)
    taught = [teacher.ask([{"role": "user", "content": ask.item.question}]) for ask in asks]
    return Stream(seed, asks, taught, asyncio.run(_embedded([ask.item.question for ask in asks])))


async def _embedded(texts: Sequence[str]) -> list[Embedding]:
    embedder = LocalEmbedder()
    distinct = list(dict.fromkeys(texts))
    found = dict(zip(distinct, await embedder.embed(distinct), strict=True))
    await embedder.close()
    return [found[text] for text in texts]


def play(way: Way, given: Stream, policy: Policy) -> list[Served]:
    """All answers of one way to choose, in the stream's order."""
    student, store, learned = Answers("small", ANSWERS), Store(), Learned()
    served: list[Served] = []
    lessons: list[Lesson] = []
    for index, ask in enumerate(given.asks):
        if way.is_learned and index % REFIT == 0:
            learned = fit_utility(policy, lessons, learned)
        request = _request(ask.item.question, given.seed, index, policy)
        vector = given.vectors[index]
        candidates = asyncio.run(retrieve(request, vector, policy.retrieval, store))  # type: ignore[arg-type]
        made = way.choose(request, candidates, policy, learned, given.seed * 100_000 + index)
        prompt = assemble(made, policy.to_arms()[0], policy.prompt)
        quality = correct(ask.item, student.ask(_messages(prompt, request)))
        for example_id in prompt.example_ids:
            store.credit(example_id, quality)
        lessons.append(_lesson(request, made, policy, quality))
        served.append(_served(ask, made, quality))
        store.add(_example(request, vector, given.taught[index]), policy.admission.duplicate_distance)
    return served


def _request(text: str, seed: int, index: int, policy: Policy) -> Request:
    call = Call(f"{seed}-{index}", "bench", "chat", (Message("user", text),), Caller())
    request = receive(call, policy, _START + _SECONDS * index)
    assert not isinstance(request, PassThrough)  # questions of the demo are never blank
    return replace(request, decision_id=f"{seed:04d}-{index:06d}")


def _messages(prompt: Prompt, request: Request) -> list[dict[str, str]]:
    turns = [*prompt.turns, *request.dialogue]
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _example(request: Request, vector: Embedding, answer: str) -> Example:
    return Example(
        id=request.decision_id,
        scope=request.scope,
        partition=request.partition,
        request=request.text,
        response=answer,
        vector=vector,
        teacher="large",
        decision_id=request.decision_id,
        writer=request.caller.key,
        quality=1.0,  # nobody has judged the teacher's answer
        n_tokens=(len(request.text) + len(answer)) // 4,
        created_at=request.received_at,
        expires_at=request.received_at + 1e9,
    )


def _lesson(request: Request, made: Selection, policy: Policy, quality: float) -> Lesson:
    arm = policy.to_arms()[0].name
    n_tokens = sum(one.example.n_tokens for one in made.chosen)
    return Lesson(
        request.decision_id, request.received_at, (arm,), (1.0,), arm, True, (0.5,),
        Situation("all", _NO_CONTEXT, None, 0.0, len(made.chosen)), (), made.trials,
        quality, 1.0, quality, 0.0, 0.1, None, n_tokens + len(request.text) // 4, 10, made.threshold,
    )  # fmt: skip


def _served(ask: Ask, made: Selection, quality: float) -> Served:
    return Served(ask.label, quality, sum(one.example.n_tokens for one in made.chosen), len(made.chosen))


# ------------------------------------------------------------------ figures


def measure(seed: int, n: int, wanted: Sequence[Way]) -> list[list[Served]]:
    """Answers per way, for one seed."""
    given = prepare(seed, n)
    return [play(way, given, policy_of(way)) for way in wanted]


@dataclass(frozen=True)
class Difference:
    """In points of correctness."""

    mean: float
    low: float
    high: float
    """Ends of the 95 % interval."""


def mean_difference(one: Sequence[Served], other: Sequence[Served]) -> Difference:
    """Difference of correctness in points with its 95 % interval; requests are drawn in pairs.

    The bootstrap draws blocks of 25 consecutive requests, because neighbours share what was learned.
    """
    differences = 100 * np.array([a.quality - b.quality for a, b in zip(one, other, strict=True)])
    blocks = differences[: differences.size // 25 * 25].reshape(-1, 25).mean(axis=1)
    drawn = np.random.default_rng(0).choice(blocks, (4000, blocks.size)).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Difference(float(differences.mean()), float(low), float(high))


def figures(way: Way, served: Sequence[Served], baseline: Sequence[Served]) -> dict[str, object]:
    """A row of the table."""
    gain = mean_difference(served, baseline)
    by_label = {label: [one.quality for one in served if one.label is label] for label in Label}
    return {
        "way": way.name,
        "correct_pct": 100 * float(np.mean([one.quality for one in served])),
        "vs_distance_points": gain.mean,
        "interval": [gain.low, gain.high],
        "example_tokens": float(np.mean([one.n_tokens for one in served])),
        "examples": float(np.mean([one.n_examples for one in served])),
        "by_label": {str(label): 100 * float(np.mean(found)) for label, found in by_label.items() if found},
    }


def run(seeds: Sequence[int], n: int, wanted: Sequence[Way], n_workers: int = 2) -> list[dict[str, object]]:
    """All rows, over all seeds."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of the workers: see _loaded
    with ProcessPoolExecutor(n_workers, get_context("spawn")) as pool:
        found = list(pool.map(partial(measure, n=n, wanted=wanted), seeds))
    joined = [[one for per_seed in found for one in per_seed[index]] for index in range(len(wanted))]
    baseline = joined[[way.name for way in wanted].index("distance only")]
    return [figures(way, served, baseline) for way, served in zip(wanted, joined, strict=True)]


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows for a reader."""
    labels = [str(label) for label in Label]
    made = Table("examples chosen by", "correct %", "points vs distance", "tokens", "examples", *labels, title=title)
    for row in rows:
        low, high = row["interval"]
        made.add_row(
            row["way"],
            f"{row['correct_pct']:.1f}",
            f"{row['vs_distance_points']:+.1f} [{low:+.1f}, {high:+.1f}]",
            f"{row['example_tokens']:.1f}",
            f"{row['examples']:.2f}",
            *(f"{row['by_label'].get(label, float('nan')):.1f}" for label in labels),
        )
    return made


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[20, 21, 22])
    parser.add_argument("--requests", type=int, default=900)
    parser.add_argument("--examples", type=int, default=2)
    parser.add_argument("--ways", nargs="+", help="names of rows; all when omitted")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    started = time.monotonic()
    wanted = [way for way in ways(given.examples) if not given.ways or way.name in given.ways]
    rows = run(given.seeds, given.requests, wanted)
    title = f"{given.requests} requests of seeds {given.seeds}, {time.monotonic() - started:.0f} s"
    Console(width=150).print(table(title, rows))
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
