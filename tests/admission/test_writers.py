"""No writer fills the store alone."""

import pytest

from echo_proxy.admission.writers import WriterShares
from echo_proxy.errors import StoreUnavailable
from echo_proxy.types import Held
from tests.builders import example, policy
from tests.fakes import FrozenClock, MemoryStore

RULES = policy(admission={"writer_share": 0.1}, upkeep={"max_bytes": 100_000})


class _Counting(MemoryStore):
    """Knows how often it was asked."""

    n_asked = 0

    async def held_by(self, writer: str) -> Held:
        self.n_asked += 1
        return await super().held_by(writer)


async def test_a_writer_has_a_share_of_the_store() -> None:
    """Its own bytes count, those of others do not."""
    store, made = _Counting(), example("e1", response="x" * 5000)
    await store.add(made)
    shares, room = WriterShares(store, FrozenClock()), 10_000 - made.n_bytes

    assert await shares.has_room("a", room, RULES)
    assert not await shares.has_room("a", room + 1, RULES)
    assert await shares.has_room("b", 10_000, RULES)


async def test_the_store_is_asked_once_a_minute() -> None:
    """In between, what was written here is added."""
    store, clock = _Counting(), FrozenClock()
    shares = WriterShares(store, clock)
    first = await shares.has_room("a", 6000, RULES)
    shares.add("a", 6000)
    second = await shares.has_room("a", 6000, RULES)
    n_asked = store.n_asked
    clock.time += 61
    third = await shares.has_room("a", 6000, RULES)

    assert (first, second, third) == (True, False, True)
    assert (n_asked, store.n_asked) == (1, 2)


async def test_a_store_that_is_away_is_told() -> None:
    """The outcome waits then."""
    store = _Counting()
    store.is_away = True

    with pytest.raises(StoreUnavailable):
        await WriterShares(store, FrozenClock()).has_room("a", 1, RULES)
