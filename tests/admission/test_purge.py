"""What is forgotten on purpose, and what is not."""

import time

import pytest

from echo_proxy.admission.purge import Wording, find_to_purge, purge
from echo_proxy.errors import InputError
from echo_proxy.types import Which
from tests.builders import NOW, example
from tests.fakes import MemoryStore


@pytest.fixture
async def store() -> MemoryStore:
    made = MemoryStore()
    await made.add_many(
        [
            example("e1", request="Who is Ann?", created_at=NOW),
            example("e1-public", scope="public:all", origin="shared", created_at=NOW),
            example("e2", response="Ask ann.", created_at=NOW + 10, writer="b"),
            example("e3", system="You are ANN.", created_at=NOW + 20, scope="key:b"),
            example("e4", created_at=NOW + 30),
        ]
    )
    return made


@pytest.mark.parametrize(
    ("which", "left"),
    [
        (Which(writer="b"), {"e1", "e1-public", "e3", "e4"}),
        (Which(created_before=NOW + 5), {"e2", "e3", "e4"}),
        (Which(created_after=NOW + 5, created_before=NOW + 25), {"e1", "e1-public", "e4"}),
        (Which(scope="key:b"), {"e1", "e1-public", "e2", "e4"}),
        (Which(), set()),
    ],
    ids=["writer", "before", "between", "scope", "all"],
)
async def test_by_writer_time_and_scope(store: MemoryStore, which: Which, left: set[str]) -> None:
    """All conditions must hold; the number that is gone is told."""
    n_before = len(store.examples)

    assert await purge(store, which) == n_before - len(left)
    assert set(store.examples) == left


async def test_by_text_wherever_it_stands(store: MemoryStore) -> None:
    """In request, answer or system prompt; copies of what is found go with it, though they do not hold it any more."""
    assert await purge(store, Which(), Wording("ann")) == 4
    assert set(store.examples) == {"e4"}


async def test_by_pattern(store: MemoryStore) -> None:
    """As the operator writes it, case and all."""
    assert await find_to_purge(store, Which(), Wording(r"\bAnn\b", is_regex=True)) == ["e1"]


async def test_nothing_is_missed_on_many_pages() -> None:
    """Examples that vanish must not shift those that have not been looked at."""
    many = MemoryStore()
    await many.add_many([example(f"e{index}", writer="ab"[index % 2]) for index in range(2300)])

    assert await purge(many, Which(writer="a")) == 1150
    assert {one.writer for one in many.examples.values()} == {"b"}


async def test_a_text_is_no_pattern_unless_it_is_said(store: MemoryStore) -> None:
    """A dot is a dot."""
    assert await find_to_purge(store, Which(), Wording("Who.is")) == []


async def test_a_wrong_pattern_is_told(store: MemoryStore) -> None:
    """Before anything is looked at."""
    with pytest.raises(InputError, match="text: expected a regular expression, got '\\('"):
        await purge(store, Which(), Wording("(", is_regex=True))


async def test_a_pattern_that_takes_for_ever_ends_the_purge(store: MemoryStore) -> None:
    """Going on without it would leave what was to be forgotten."""
    await store.add(example("slow", request="a" * 5000 + "b"))

    with pytest.raises(InputError, match="expected a pattern that is searched within"):
        await purge(store, Which(), Wording("(a+)+$", is_regex=True))
    assert len(store.examples) == 6


async def test_a_pattern_of_nothing_but_brackets_is_told(store: MemoryStore) -> None:
    """Its parser goes as deep as they do."""
    with pytest.raises(InputError, match="text: expected a regular expression"):
        await purge(store, Which(), Wording("(" * 400, is_regex=True))


async def test_all_texts_together_have_a_time(store: MemoryStore) -> None:
    """A pattern that is slow on each of many texts would keep a worker busy for as long as there are texts."""
    with pytest.raises(InputError, match="in a request's time"):
        await purge(store, Which(), Wording("Ann", is_regex=True, ends_at=time.monotonic() - 1))
    assert len(store.examples) == 5
    assert await find_to_purge(store, Which(), Wording("Ann", is_regex=True, ends_at=time.monotonic() + 60)) == ["e1"]
