"""What lets an example out of quarantine, and what does not."""

from dataclasses import replace
from typing import Any

import pytest

from echo_proxy.admission.quarantine import Quarantine, Witness, quarantined
from echo_proxy.policy_keeping import QuarantinePolicy
from echo_proxy.types import Example, Lease
from tests.builders import NOW, example, policy
from tests.fakes import FrozenClock, MemoryStore

TEAM = policy(scope="team")


def waiting(example_id: str = "e1", **changes: Any) -> Example:
    """Of key a, in its team's scope."""
    return example(example_id, **{"scope": "team:t", "reader": "a", **changes})


async def a_quarantine(*stored: Example) -> tuple[Quarantine, MemoryStore]:
    store = MemoryStore()
    await store.add_many(stored)
    return Quarantine(store, FrozenClock(NOW)), store


@pytest.mark.parametrize(
    ("scope", "reader"), [("key:a", ""), ("user:u", ""), ("team:t", "a"), ("domain:d", "a"), ("public:all", "a")]
)
def test_only_scopes_of_many_have_a_quarantine(scope: str, reader: str) -> None:
    """Nobody needs to be protected from himself."""
    assert quarantined(example(scope=scope), QuarantinePolicy()).reader == reader
    assert quarantined(example(scope=scope), None).reader == ""


async def test_enough_others_release_it() -> None:
    """Each counts once, the writer never."""
    quarantine, store = await a_quarantine(waiting())
    said = [
        await quarantine.confirm(store.examples["e1"], Witness(writer), TEAM) for writer in ("a", "b", "b", "a", "c")
    ]

    assert said == [False, False, False, False, True]
    assert (store.examples["e1"].reader, store.examples["e1"].confirmed_by) == ("", ("b", "c"))


async def test_the_policy_says_how_many() -> None:
    """One may be enough."""
    quarantine, store = await a_quarantine(waiting())
    rules = policy(scope="team", admission={"quarantine": {"confirmations": 1}})

    assert await quarantine.confirm(waiting(), Witness("b"), rules)
    assert store.examples["e1"].reader == ""


class _Contested(MemoryStore):
    """Somebody else changes the example first, a number of times."""

    n_conflicts = 1

    async def change(self, before: Example, after: Example, lease: Lease | None = None) -> bool:
        if self.n_conflicts:
            self.n_conflicts -= 1
            await super().change(before, replace(before, confirmed_by=("b",)))
        return await super().change(before, after, lease)


async def test_confirmations_that_meet_are_both_counted() -> None:
    """The later one is added to what the first has written."""
    store = _Contested()
    await store.add(waiting())

    is_released = await Quarantine(store, FrozenClock(NOW)).confirm(waiting(), Witness("c"), TEAM)

    assert is_released
    assert store.examples["e1"].confirmed_by == ("b", "c")


async def test_an_example_that_is_gone_meanwhile_is_not_released() -> None:
    """Nor does it come back."""
    quarantine, store = await a_quarantine()

    assert not await quarantine.confirm(waiting(), Witness("b"), TEAM)
    assert store.examples == {}


async def test_what_is_released_outdoes_what_was_open_before() -> None:
    """As many vouch for it, and later; what it was good for moves on. A better one stays, and what others wrote."""
    old = waiting("old", reader="", response="Lyon.", quality=0.9, offloads=2.0, counted_at=NOW)
    best = waiting("best", reader="", response="Paris!", quality=1.0)
    new = waiting("new", confirmed_by=("b",), quality=0.95, counted_at=NOW)
    others = (
        waiting("other", writer="d", reader="d"),
        waiting("open", writer="d", reader="", response="Rome.", quality=0.1),
    )
    quarantine, store = await a_quarantine(old, best, new, *others)

    await quarantine.confirm(new, Witness("c"), TEAM)

    assert set(store.examples) == {"best", "new", "other", "open"}
    assert store.examples["new"].offloads == 2.0


async def test_a_judge_s_approval_is_enough() -> None:
    """Beside another writer's request, for the version that was judged."""
    quarantine, store = await a_quarantine(waiting(version=3))
    said = [
        await quarantine.approve("e1", version, witness, TEAM)
        for version, witness in ((2, "b"), (3, "a"), (3, "b"), (4, "c"))
    ]

    assert said == [False, False, True, False]
    assert (store.examples["e1"].reader, store.examples["e1"].confirmed_by) == ("", ("b",))
    assert not await quarantine.approve("gone", 1, "b", TEAM)


async def test_a_confirmation_can_be_taken_back() -> None:
    """By who gave it, while the example waits."""
    quarantine, store = await a_quarantine(
        waiting(confirmed_by=("b",)), waiting("open", reader="", confirmed_by=("b", "c"))
    )
    for one in tuple(store.examples.values()):
        await quarantine.withdraw(one, "c")
        await quarantine.withdraw(one, "b")

    assert store.examples["e1"].confirmed_by == ()
    assert store.examples["open"].confirmed_by == ("b", "c")


@pytest.mark.parametrize(
    ("scope", "witnesses", "is_released"),
    [
        ("team:t", [Witness("b", "ann"), Witness("c", "ann")], False),
        ("team:t", [Witness("b", "mallory"), Witness("c", "ann")], False),
        ("team:t", [Witness("b", "ann", "t"), Witness("c", "bob", "t")], True),
        ("team:t", [Witness("b"), Witness("c")], True),
        ("team:t", [Witness("b", "ann"), Witness("b", "bob")], False),
        ("organization:o", [Witness("b", "ann", "t"), Witness("c", "bob", "t")], False),
        ("public:all", [Witness("b", "", "t"), Witness("c", "", "t")], False),
        ("domain:d", [Witness("b", "ann", "t"), Witness("c", "bob", "u")], True),
        ("organization:o", [Witness("b", "ann"), Witness("c", "bob")], True),
    ],
)
async def test_one_person_is_one_witness(scope: str, witnesses: list[Witness], is_released: bool) -> None:
    """However many keys he has; where many teams share a scope, so is a team. Keys without a user stand for
    themselves, and one key is one witness whatever users it names."""
    quarantine, store = await a_quarantine(waiting(scope=scope, person="mallory"))
    for one in witnesses:
        await quarantine.confirm(store.examples["e1"], one, TEAM)

    assert (store.examples["e1"].reader == "") is is_released


async def test_a_person_takes_back_his_word_by_his_key() -> None:
    """Though it is noted with his user."""
    quarantine, store = await a_quarantine(waiting())
    await quarantine.confirm(store.examples["e1"], Witness("b", "ann"), TEAM)
    await quarantine.withdraw(store.examples["e1"], "b")

    assert store.examples["e1"].confirmed_by == ()
