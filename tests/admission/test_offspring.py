"""What goes with an example."""

import pytest

from echo_proxy.admission.forget import forget_answer
from echo_proxy.admission.offspring import with_offspring
from echo_proxy.admission.purge import find_to_purge, purge
from echo_proxy.online.promote import promoted_id
from echo_proxy.types import Caller, Example, Which
from tests.builders import NOW, example, policy, record, request
from tests.fakes import FrozenClock, MemoryStore


def promoted(original: Example, key: str = "b") -> Example:
    """The answer of an example under another key's words."""
    asked = request("Which town is the capital of France?", caller=Caller(key=key), answer_key="k")
    changes = {"scope": original.scope, "request": asked.text, "writer": key, "origin": "promoted"}
    return example(promoted_id(original, asked), **changes)


FIRST, COPY, OTHER = example("e1"), example("e1-team", scope="team:t", origin="shared"), example("e2", writer="c")


@pytest.fixture
async def store() -> MemoryStore:
    """Two originals, a copy, and what was promoted from all three."""
    made = MemoryStore()
    await made.add_many([FIRST, COPY, OTHER, *(promoted(one) for one in (FIRST, COPY, OTHER))])
    return made


def of_other() -> set[str]:
    return {"e2", promoted(OTHER).id}


async def test_copies_and_what_was_promoted_go_with_it(store: MemoryStore) -> None:
    """From the example and from its copies; nothing of others."""
    ids = await with_offspring(store, ["e1"])

    assert {one for one in ids if one in store.examples} == store.examples.keys() - of_other()
    assert await with_offspring(store, []) == []


async def test_none_is_missed_on_many_pages() -> None:
    """However many keys have asked."""
    many = MemoryStore()
    await many.add_many([FIRST, *(promoted(FIRST, f"k{index}") for index in range(1200))])

    assert await purge(many, Which(writer="a")) == 1201


async def test_a_writer_s_answers_are_purged_under_others_words(store: MemoryStore) -> None:
    """They are what his key was answered."""
    await purge(store, Which(writer="a"))

    assert store.examples.keys() == of_other()


async def test_they_are_found_when_the_original_is_gone(store: MemoryStore) -> None:
    """Evicted, say."""
    await store.remove(["e1", "e1-team"])

    found = await find_to_purge(store, Which(writer="a"))

    assert set(found) == {promoted(FIRST).id, promoted(COPY).id}
    assert await find_to_purge(store, Which(writer="a", created_after=NOW)) == []


async def test_who_asked_may_purge_his_own(store: MemoryStore) -> None:
    """The original stays."""
    await purge(store, Which(writer="b"))

    assert store.examples.keys() == {"e1", "e1-team", "e2"}


async def test_an_answer_that_its_reader_finds_bad_is_forgotten_everywhere(store: MemoryStore) -> None:
    """It is his own: nobody shall go on getting it."""
    await forget_answer(record("e1", admitted_id="e1"), policy(), store, FrozenClock(NOW))

    assert store.examples.keys() == of_other()
