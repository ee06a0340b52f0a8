"""Bad feedback forgets what its giver wrote, and nothing that others did."""

from typing import Any

from echo_proxy.admission.forget import forget_answer
from echo_proxy.types import Example
from tests.builders import NOW, example, policy, record
from tests.fakes import FrozenClock, MemoryStore

TEAM = policy(scope="team")


async def left(stored: list[Example], caller: str, admitted_id: str, **changes: Any) -> dict[str, Example]:
    """What is there after the caller of a decision found its answer bad."""
    store = MemoryStore()
    await store.add_many(stored)
    made = record("d1", caller=caller, admitted_id=admitted_id, **changes)
    await forget_answer(made, TEAM, store, FrozenClock(NOW))
    return store.examples


async def test_the_writer_s_own_example_goes_with_its_copies() -> None:
    """Also when an earlier decision of his wrote it."""
    stored = [
        example("e1"),
        example("e1-team", scope="team:t"),
        example("e1-public", scope="public:all"),
        example("e2"),
    ]

    assert set(await left(stored, "a", "e1")) == {"e2"}


async def test_copies_go_though_the_original_went_before() -> None:
    """It may have been evicted."""
    assert await left([example("d1-public", scope="public:all")], "a", "d1") == {}


async def test_a_stranger_s_feedback_deletes_nothing() -> None:
    """He may be given the same answer as often as he likes."""
    stored = [example("e1", scope="team:t"), example("e1-public", scope="public:all")]

    assert set(await left(stored, "b", "e1")) == {"e1", "e1-public"}


async def test_who_finds_it_bad_takes_back_his_word() -> None:
    """For others' examples that say the same and still wait, also when he was the one who kept his own."""
    waits = example("e1", scope="team:t", reader="a", confirmed_by=("b",))
    own = example("d1", scope="team:t", writer="b", reader="b")

    found = await left([waits, own], "b", "d1")

    assert list(found) == ["e1"]
    assert found["e1"].confirmed_by == ()


async def test_an_answer_that_was_not_kept_forgets_nothing() -> None:
    """Not even by accident."""
    assert set(await left([example("e1"), example("d1-public")], "a", "")) == {"e1", "d1-public"}
