"""What do users ask, and what does the store hold after a day of it?

A drifting stream of the demo's synthetic world meets the proxy's own steps (retrieve, select, assemble, the outcome
counts of learn) and the bundled pair. There is no bandit: where selection finds a useful example the small model
answers with it, but for a share that the large model answers, as it does all others, and a share that the small model
answers without examples. The large model's answers are kept.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.utility import ANSWERS, Answers
from echo_proxy.demo import world as w
from echo_proxy.embedders.local import LocalEmbedder
from echo_proxy.learning.utility import BetaUtility
from echo_proxy.online.assemble import assemble
from echo_proxy.online.learn import example_increments, use_of
from echo_proxy.online.receive import receive
from echo_proxy.online.retrieve import retrieve
from echo_proxy.online.select import select
from echo_proxy.policy import Policy
from echo_proxy.types import (
    Call,
    Caller,
    Candidate,
    Embedding,
    Example,
    Message,
    PassThrough,
    Prompt,
    Quality,
    Query,
    Request,
)
from echo_proxy.upkeep.unaided import Unaided

T = TypeVar("T")
START = 1_700_000_000.0
SECONDS = 30.0
"""Between two requests: 2,880 a day."""
_PHASE = 250
_MOVED = 0.1
"""Every _PHASE requests so large a share of the topics change their place in the popularity."""
POLICY = Policy.model_validate(
    {
        "name": "bench",
        "match": {"model_groups": ["bench"]},
        "arms": [{"deployment": "small", "n_examples": 2}, {"deployment": "large", "teacher": True}],
        "bandit": {"kind": "uniform"},
        "prompt": {"notice": ""},
        "selection": {"learned": None},
    }
)
_MODEL = BetaUtility(POLICY.selection.utility)


@dataclass(frozen=True)
class Scenario:
    """How much the examples of a store can stand in for one another."""

    name: str
    n_topics: int
    """Country-relation pairs that facts are asked about."""
    n_countries: int
    n_languages: int
    taught: float
    """Share of the requests that could be offloaded which the large model answers all the same."""
    bare: float = 0.1
    """Share of the others that the small model answers without examples, as a router tries now and then."""


CROWDED = Scenario("crowded", 80, 60, 8, 0.5)
"""Topics as in the demo; many stored answers say the same in answer to other wordings."""
SPARSE = Scenario("sparse", 240, 120, 12, 0.1)
"""Most of what is known is stored once."""


# ------------------------------------------------------------------ what is asked


def drifting_stream(world: w.World, n: int, seed: int, scenario: Scenario) -> list[w.Item]:
    """Requests: 45 % rare facts and 15 % descriptions by Zipf's law, 10 % plurals, 10 % famous facts, 20 % skills."""
    rng = Random(seed)
    countries = rng.sample(world.rare, scenario.n_countries)
    topics = rng.sample([(one, relation) for one in countries for relation in w.Relation], scenario.n_topics)
    languages = rng.sample(world.hard_languages, scenario.n_languages)
    items: list[w.Item] = []
    for index in range(n):
        if index % _PHASE == 0 and index:
            for ranked in (topics, countries, languages):
                _move(ranked, rng)
        kind = rng.choices(("fact", "about", "plural", "famous", "easy"), (0.45, 0.15, 0.1, 0.1, 0.2))[0]
        if kind == "fact":
            items.append(world.fact(*_by_rank(topics, rng), rng.randrange(5)))
        elif kind == "about":
            items.append(world.about(_by_rank(countries, rng), rng.randrange(4)))
        elif kind == "plural":
            items.append(world.plural(w.invent_word(rng), _by_rank(languages, rng), rng.randrange(4)))
        elif kind == "famous":
            items.append(world.fact(rng.choice(world.famous), rng.choice(list(w.Relation)), rng.randrange(5)))
        else:
            items.append(w.easy_item(rng))
    return items


def _by_rank(ranked: Sequence[T], rng: Random) -> T:
    return rng.choices(ranked, [1 / rank for rank in range(1, len(ranked) + 1)])[0]


def _move(ranked: list[T], rng: Random) -> None:
    for _ in range(max(round(_MOVED * len(ranked) / 2), 1)):
        one, other = rng.sample(range(len(ranked)), 2)
        ranked[one], ranked[other] = ranked[other], ranked[one]


@dataclass(frozen=True)
class Traffic:
    """The requests of one seed."""

    seed: int
    scenario: Scenario
    items: Sequence[w.Item]
    vectors: Sequence[Embedding]

    def request(self, index: int) -> Request:
        """As the proxy would see it."""
        call = Call(f"{index}", "bench", "chat", (Message("user", self.items[index].question),), Caller())
        made = receive(call, POLICY, START + SECONDS * index)
        assert not isinstance(made, PassThrough)  # questions of the world are never blank
        return replace(made, decision_id=f"{self.seed:04d}-{index:06d}")


def traffic(seed: int, n: int, scenario: Scenario) -> Traffic:
    """The first n requests of a seed."""
    items = drifting_stream(w.make_world(), n, seed, scenario)
    return Traffic(seed, scenario, items, asyncio.run(_embedded([item.question for item in items])))


async def _embedded(texts: Sequence[str]) -> list[Embedding]:
    embedder = LocalEmbedder()
    distinct = list(dict.fromkeys(texts))
    parts = [await embedder.embed(distinct[i : i + 64]) for i in range(0, len(distinct), 64)]
    await embedder.close()
    found = dict(zip(distinct, np.concatenate(parts), strict=True))
    return [found[text] for text in texts]


# ------------------------------------------------------------------ what is kept


@dataclass
class Grown:
    """Examples with their outcomes, and what LRU and LFU want to know."""

    examples: list[Example] = field(default_factory=list)
    used_at: dict[str, float] = field(default_factory=dict)
    """By id; an example that was never used was used when it was written."""
    n_uses: dict[str, int] = field(default_factory=dict)
    unaided: dict[str, Unaided] = field(default_factory=dict)
    """By id of examples that were chosen, but not shown."""
    n_offloads: int = 0
    n_taught: int = 0

    def table(self) -> "Shelf":
        """What retrieval sees."""
        return Shelf(self.examples)


class Shelf:
    """Exact search over one scope, in memory."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = list(examples)
        self._vectors = np.zeros((max(2 * len(examples), 64), 384), dtype=np.float32)
        for row, one in enumerate(examples):
            self._vectors[row] = one.vector

    async def nearest(self, query: Query) -> tuple[Candidate, ...]:
        distances = 1 - self._vectors[: len(self.examples)] @ query.vector
        order = np.argsort(distances, kind="stable")[: query.k]
        near = [(self.examples[i], float(np.clip(distances[i], 0, 2))) for i in order]
        return tuple(Candidate(one, distance) for one, distance in near if distance <= query.max_distance)

    def twin(self, vector: Embedding, within: float) -> Example | None:
        """A stored request that is the same."""
        distances = 1 - self._vectors[: len(self.examples)] @ vector
        near = int(np.argmin(distances)) if len(distances) else -1
        return self.examples[near] if near >= 0 and distances[near] <= within else None

    def put(self, example: Example) -> None:
        """One more."""
        row = len(self.examples)
        if row == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
        self._vectors[row] = example.vector
        self.examples.append(example)


def ask_small(item: w.Item, request: Request, vector: Embedding, shelf: Shelf, small: Answers) -> tuple[Prompt, float]:
    """The small model's prompt with at most two examples, and its answer's quality by the world's truth."""
    chosen = select(request, _candidates(request, vector, shelf), 2, POLICY.selection, _MODEL)
    prompt = assemble(chosen, POLICY.to_arms()[0], POLICY.prompt)
    return prompt, w.correct(item, small.ask(_messages(prompt, request)))


def _candidates(request: Request, vector: Embedding, shelf: Shelf) -> tuple[Candidate, ...]:
    step = retrieve(request, vector, POLICY.retrieval, shelf)  # type: ignore[arg-type]
    try:
        step.send(None)  # a shelf never waits, so no event loop is needed: they are slow to make
    except StopIteration as end:
        found: tuple[Candidate, ...] = end.value
        return found
    raise AssertionError("expected an answer at once, got a coroutine that waits")


def _messages(prompt: Prompt, request: Request) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in (*prompt.turns, *request.dialogue)]


def grow(given: Traffic, n: int, chars: NDArray[np.int64]) -> Grown:
    """The store after the first n requests. `chars` are the lengths that answers have beside the world's own texts."""
    small, large, grown = Answers("small", ANSWERS), Answers("large", ANSWERS), Grown()
    shelf, rng = grown.table(), Random(given.seed + 1)
    for index in range(n):
        item, vector, request = given.items[index], given.vectors[index], given.request(index)
        chosen = select(request, _candidates(request, vector, shelf), 2, POLICY.selection, _MODEL).chosen
        if chosen and rng.random() >= given.scenario.taught:
            if rng.random() < given.scenario.bare:
                quality = w.correct(item, small.ask(_messages(Prompt(), request)))
                for one in chosen:
                    old = grown.unaided.get(one.example.id, Unaided(0.0, 0.0))
                    grown.unaided[one.example.id] = Unaided(old.n + 1, old.good + quality)
                continue
            prompt, quality = ask_small(item, request, vector, shelf, small)
            _credit(grown, shelf, prompt, quality, request)
            continue
        grown.n_taught += 1
        if shelf.twin(vector, POLICY.admission.duplicate_distance) is None:
            answer = large.ask([{"role": "user", "content": item.question}])
            pad = int(chars[Random(f"{given.seed} {item.key}").randrange(len(chars))])
            shelf.put(_example(request, vector, answer, pad))
    grown.examples = shelf.examples
    for one in shelf.examples:
        grown.used_at.setdefault(one.id, one.created_at)
        grown.n_uses.setdefault(one.id, 0)
    return grown


def _credit(grown: Grown, shelf: Shelf, prompt: Prompt, quality: float, request: Request) -> None:
    seen = Quality(quality, 1.0, {})
    use = use_of("small+2", True, 0.0, POLICY)
    changes = {one.example_id: one for one in example_increments(prompt.example_ids, None, seen, use)}
    grown.n_offloads += 1
    for row, old in enumerate(shelf.examples):
        if old.id in changes:
            change = changes[old.id]
            left = POLICY.upkeep.offload_decay ** ((request.received_at - old.counted_at) / 3600)
            shelf.examples[row] = replace(
                old,
                uses=old.uses + change.uses,
                gain=old.gain + change.gain,
                offloads=old.offloads * left + change.offloads,
                regret=old.regret * left + change.regret,
                counted_at=request.received_at,
            )
            grown.used_at[old.id] = request.received_at
            grown.n_uses[old.id] = grown.n_uses.get(old.id, 0) + 1


def _example(request: Request, vector: Embedding, answer: str, pad: int) -> Example:
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
        expires_at=request.received_at + 30 * 86_400,
        system="-" * pad,  # takes room, is never shown
        counted_at=request.received_at,
    )
