"""What do the demo's users ask? A stream of questions in which many come back in other words.

In real request logs more than 70% of the requests have a similar earlier one (IC-Cache, arXiv 2501.12689). Here the
share follows from the mix: by default about half ask again for a rare fact that was asked before, in another wording,
and a tenth asks for another word of a language that was asked about before.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from echo_proxy.demo.world import (
    FACT_PHRASES,
    PLURAL_PHRASES,
    Item,
    Relation,
    World,
    easy_item,
    invent_word,
)


class Label(StrEnum):
    """What kind of request it is, for the report; the proxy never sees it."""

    NEW = "new"
    """A rare fact, asked for the first time."""
    REPEATED = "repeated"
    """A rare fact that was asked for before."""
    PLURAL = "plural"
    """A plural in a language that the small model was not taught."""
    FAMOUS = "famous"
    """A fact that the small model was taught."""
    EASY = "easy"
    """A skill that needs no knowledge."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of the stream."""

    item: Item
    label: Label


@dataclass(frozen=True, slots=True)
class Mix:
    """What a stream is made of. The four shares are relative weights."""

    facts: float = 0.6
    """Share of rare facts."""
    plurals: float = 0.1
    """Share of plurals in hard languages."""
    famous: float = 0.1
    """Share of famous facts."""
    easy: float = 0.2
    """Share of easy skills."""
    n_topics: int = 80
    """Country-relation pairs from which rare facts are drawn."""
    n_countries: int = 60
    """Countries that the topics spread over: the fewer, the more examples there are that look right and mislead."""
    zipf_exponent: float = 1.0
    """Topic of rank i is drawn with a weight of i ** -zipf_exponent; 0 makes all equal."""
    n_languages: int = 8
    """Hard languages that plurals are drawn from."""


Topic = tuple[str, Relation]
"""A country and what is asked of it."""


class _Wordings:
    """Chooses how a topic is asked: every wording once, in random order, before any stands a second time."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._unused: dict[Topic, list[int]] = defaultdict(list)
        self._last: dict[Topic, int] = {}

    def has_seen(self, topic: Topic) -> bool:
        """Whether the topic was asked before."""
        return topic in self._last

    def next(self, topic: Topic) -> int:
        """An index into the relation's questions, never that of the request for this topic just before."""
        unused = self._unused[topic]
        if not unused:
            unused += range(len(FACT_PHRASES[topic[1]].questions))
            self._rng.shuffle(unused)
            if unused[-1] == self._last.get(topic):
                unused.reverse()
        self._last[topic] = unused.pop()
        return self._last[topic]


def stream(world: World, n: int, seed: int, mix: Mix | None = None) -> list[Ask]:
    """The n requests of a seed; the first m of them are the stream of length m."""
    mix = mix or Mix()
    rng = Random(seed)
    topics = draw_topics(world, rng, mix)
    popularity = [rank**-mix.zipf_exponent for rank in range(1, len(topics) + 1)]  # (n_topics,)
    languages = rng.sample(world.hard_languages, mix.n_languages)
    wordings = _Wordings(rng)
    asks = []
    for _ in range(n):
        match rng.choices(("fact", "plural", "famous", "easy"), (mix.facts, mix.plurals, mix.famous, mix.easy))[0]:
            case "fact":
                asks.append(_ask_rare(world, rng.choices(topics, popularity)[0], wordings))
            case "plural":
                asks.append(_ask_plural(world, rng, languages))
            case "famous":
                asks.append(_ask_famous(world, rng))
            case _:
                asks.append(Ask(easy_item(rng), Label.EASY))
    return asks


def draw_topics(world: World, rng: Random, mix: Mix) -> list[Topic]:
    """The topics of a stream, most popular first.

    Raises:
        ValueError: the mix wants more topics than its countries have.
    """
    countries = rng.sample(world.rare, mix.n_countries)
    pool = [(country, relation) for country in countries for relation in Relation]
    if mix.n_topics > len(pool):
        raise ValueError(f"n_topics must be at most {len(pool)} for {mix.n_countries} countries, got {mix.n_topics}")
    return rng.sample(pool, mix.n_topics)


def _ask_rare(world: World, topic: Topic, wordings: _Wordings) -> Ask:
    label = Label.REPEATED if wordings.has_seen(topic) else Label.NEW
    return Ask(world.fact(*topic, wordings.next(topic)), label)


def _ask_famous(world: World, rng: Random) -> Ask:
    relation = rng.choice(list(Relation))
    wording = rng.randrange(len(FACT_PHRASES[relation].questions))
    return Ask(world.fact(rng.choice(world.famous), relation, wording), Label.FAMOUS)


def _ask_plural(world: World, rng: Random, languages: Sequence[str]) -> Ask:
    wording = rng.randrange(len(PLURAL_PHRASES.questions))
    return Ask(world.plural(invent_word(rng), rng.choice(languages), wording), Label.PLURAL)
