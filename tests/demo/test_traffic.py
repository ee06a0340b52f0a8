"""The stream is deterministic, keeps its mix, and asks again in other words."""

from collections import Counter, defaultdict
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_proxy.demo.traffic import Ask, Label, Mix, draw_topics, stream
from echo_proxy.demo.world import FACT_PHRASES, Kind, make_world

WORLD = make_world()
RARE = frozenset({Label.NEW, Label.REPEATED})
seeds = st.integers(0, 2**32)
sizes = st.integers(0, 300)


def _questions_by_topic(asks: list[Ask]) -> dict[tuple[str, ...], list[Ask]]:
    by_topic: dict[tuple[str, ...], list[Ask]] = defaultdict(list)
    for ask in asks:
        if ask.label in RARE:
            by_topic[ask.item.key].append(ask)
    return by_topic


@given(seeds, sizes)
@settings(max_examples=25, deadline=None)
def test_same_seed_same_stream(seed: int, n: int) -> None:
    """A stream depends on its seed only, and a shorter one is the beginning of a longer one."""
    asks = stream(WORLD, n, seed)

    assert len(asks) == n
    assert stream(WORLD, n, seed) == asks
    assert stream(WORLD, n // 2, seed) == asks[: n // 2]


@given(seeds, sizes)
@settings(max_examples=25, deadline=None)
def test_first_is_new_and_every_later_one_repeated(seed: int, n: int) -> None:
    """Exactly the first question for a rare fact is new."""
    for asks in _questions_by_topic(stream(WORLD, n, seed)).values():
        assert [ask.label for ask in asks] == [Label.NEW] + [Label.REPEATED] * (len(asks) - 1)


@given(seeds, sizes)
@settings(max_examples=25, deadline=None)
def test_a_fact_comes_back_in_other_words(seed: int, n: int) -> None:
    """No wording stands twice before all stood once, and never twice in a row."""
    for (_, relation), asks in _questions_by_topic(stream(WORLD, n, seed)).items():
        questions = [ask.item.question for ask in asks]
        first = questions[: len(FACT_PHRASES[relation].questions)]  # type: ignore[index]

        assert len(set(first)) == len(first)
        assert all(earlier != later for earlier, later in pairwise(questions))


@given(seeds, st.integers(1, 200))
@settings(max_examples=25, deadline=None)
def test_labels_tell_the_truth(seed: int, n: int) -> None:
    """A label says which knowledge the request needs."""
    for ask in stream(WORLD, n, seed):
        match ask.label:
            case Label.EASY:
                assert ask.item.kind in (Kind.COUNT, Kind.REPEAT)
            case Label.PLURAL:
                assert ask.item.key[0] in WORLD.hard_languages
            case Label.FAMOUS:
                assert ask.item.key[0] in WORLD.famous
            case _:
                assert ask.item.key[0] in WORLD.rare


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_shares_follow_the_mix(seed: int) -> None:
    """The default mix: 60% rare facts, 20% easy, 10% plurals, 10% famous, within a few points over 600 requests."""
    counts = Counter(ask.label for ask in stream(WORLD, 600, seed))
    shares = {label: counts[label] / 600 for label in Label}

    assert shares[Label.NEW] + shares[Label.REPEATED] == pytest.approx(0.6, abs=0.1)
    assert shares[Label.EASY] == pytest.approx(0.2, abs=0.1)
    assert shares[Label.PLURAL] == pytest.approx(0.1, abs=0.06)
    assert shares[Label.FAMOUS] == pytest.approx(0.1, abs=0.06)
    assert shares[Label.REPEATED] > 0.35


def test_popular_topics_stand_first() -> None:
    """With a steep Zipf exponent the most popular topic outnumbers all others together."""
    asks = stream(WORLD, 200, 3, Mix(facts=1, plurals=0, famous=0, easy=0, zipf_exponent=3.0))
    counts = sorted((len(asks) for asks in _questions_by_topic(asks).values()), reverse=True)

    assert counts[0] > sum(counts[1:])


def test_too_many_topics_are_refused() -> None:
    """Two countries have twelve facts."""
    with pytest.raises(ValueError, match="n_topics must be at most 12 for 2 countries, got 13"):
        stream(WORLD, 1, 0, Mix(n_topics=13, n_countries=2))


def test_topics_are_distinct() -> None:
    """A topic stands once in the order of popularity."""
    topics = draw_topics(WORLD, Random(0), Mix())

    assert len(set(topics)) == len(topics) == Mix().n_topics
