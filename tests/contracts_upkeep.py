"""What every Leases and Journal promises: one works, the others wait, and what was done can be read."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from echo_proxy.errors import LeaseLost
from echo_proxy.protocols import Store
from echo_proxy.types import Lease, Observation, UpkeepRun, Which
from tests.contracts import HOSTILE, NOW, StoreFixtures, StoreMaker, example, ids
from tests.fakes import FrozenClock

TTL_S = 60.0
LetEnd = Callable[[], Awaitable[None]]


def run(run_id: str) -> UpkeepRun:
    """A round of upkeep that has just ended."""
    report = {"evict": {"n": 3, "why": "é"}, "replay": [1.5, None, True]}
    return UpkeepRun(run_id, NOW, NOW + 0.1 + 0.2, "host:1", "done", 1e-17, report)


async def taken(store: Store, holder: str = "one", name: str = "upkeep") -> Lease:
    """The lease, which must be free."""
    lease = await store.take_lease(name, holder, TTL_S)
    assert lease is not None
    return lease


def calls_of_upkeep(store: Store) -> tuple[Coroutine[Any, Any, object], ...]:
    """One of each that upkeep and admission ask."""
    lease = Lease("upkeep", "one", 1)
    return (
        store.add_many([example("e")]),
        store.change(example("e"), example("e", quality=0.1)),
        store.observe("e", 1, Observation(0.1, True, NOW)),
        store.held_by("a"),
        store.find(Which(), "", 10),
        store.holdings("", 10),
        store.remove(["e"], lease),
        store.take_lease("upkeep", "one", TTL_S),
        store.keep_lease(lease, TTL_S),
        store.drop_lease(lease),
        store.note_run(run("r")),
        store.runs(10),
        store.put_note("n", "text"),
        store.note("n"),
    )


class UpkeepContract(StoreFixtures):
    """Run on every store."""

    @pytest.fixture
    def let_leases_end(self, clock: FrozenClock) -> LetEnd:
        """Waits until all leases have ended. A store with a clock of its own brings another one."""

        async def wait() -> None:
            clock.time += TTL_S

        return wait

    # ------------------------------------------------------------------ leases

    async def test_one_of_many_has_the_lease(self, make: StoreMaker) -> None:
        """The others get none, until it is dropped; leases of other names are others."""
        workers = [await make(), await make()]
        results = await asyncio.gather(*(workers[i % 2].take_lease("upkeep", f"w{i}", TTL_S) for i in range(10)))
        (lease,) = [one for one in results if one is not None]
        other = await taken(workers[0], "x", "other")
        await workers[1].drop_lease(lease)
        after = await taken(workers[1], "y")

        assert (lease.name, other.name, after.holder) == ("upkeep", "other", "y")
        assert after.fence > lease.fence

    async def test_fences_grow(self, store: Store, let_leases_end: LetEnd) -> None:
        """With every lease, whether the one before was dropped, ended by itself, or is held by the same."""
        leases = [await taken(store)]
        leases.append(await taken(store))
        await store.drop_lease(leases[-1])
        leases.append(await taken(store, "two"))
        await let_leases_end()
        leases.append(await taken(store))
        fences = [lease.fence for lease in leases]

        assert fences == sorted(set(fences))

    async def test_a_lease_that_is_kept_goes_on(self, store: Store, let_leases_end: LetEnd) -> None:
        """Only as long as it has not ended; what has been replaced cannot be kept."""
        old = await taken(store)
        lease = await taken(store)
        results = [await store.keep_lease(old, TTL_S), await store.keep_lease(lease, TTL_S)]
        other = await store.take_lease("upkeep", "two", TTL_S)
        await let_leases_end()
        late = await store.keep_lease(lease, TTL_S)
        next_one = await taken(store, "two")

        assert (results, other, late) == ([False, True], None, False)
        assert await store.keep_lease(next_one, TTL_S)

    async def test_dropping_what_has_ended_harms_nobody(self, store: Store, let_leases_end: LetEnd) -> None:
        """The next holder's lease stays."""
        lease = await taken(store)
        await let_leases_end()
        next_one = await taken(store, "two")
        await store.drop_lease(lease)

        assert await store.keep_lease(next_one, TTL_S)

    async def test_hostile_names_are_held_apart(self, store: Store) -> None:
        """Whatever characters the name of a lease or of its holder holds."""
        names = [name for name in HOSTILE if "\ud800" not in name]
        leases = [await taken(store, name, f"l{name}") for name in names]
        others = [await store.take_lease(f"l{name}", f"{name}x", TTL_S) for name in names]

        assert others == [None] * len(names)
        for lease in leases:
            assert await store.keep_lease(lease, TTL_S)

    async def test_writes_under_a_lease_are_done(self, store: Store) -> None:
        """As without one."""
        lease = await taken(store)
        before = example("e")
        await store.add(before)
        await store.add(example("e2"))
        is_changed = await store.change(before, replace(before, quality=0.5), lease)
        is_late = await store.change(before, replace(before, quality=0.1), lease)

        assert (is_changed, is_late) == (True, False)
        assert await store.remove(["e2", "unknown"], lease) == 1
        assert await store.remove([], lease) == 0
        assert ids(await store.page(None, 0, 10)) == ["e"]

    async def test_many_are_removed_under_a_lease(self, store: Store) -> None:
        """More than are forgotten in one step."""
        lease = await taken(store)
        await store.add_many([example(f"e{i}") for i in range(120)])

        assert await store.remove([f"e{i}" for i in range(130)], lease) == 120
        assert await store.page(None, 0, 10) == ()

    @pytest.mark.parametrize("ending", ["ended", "taken over", "taken anew", "dropped"])
    async def test_nothing_is_written_under_a_lost_lease(
        self, store: Store, let_leases_end: LetEnd, ending: str
    ) -> None:
        """However it was lost, also to the same holder's next one."""
        lease = await taken(store)
        before = example("e")
        await store.add(before)
        if ending == "dropped":
            await store.drop_lease(lease)
        elif ending != "taken anew":
            await let_leases_end()
        if ending.startswith("taken"):
            await taken(store, "one" if ending == "taken anew" else "two")
        with pytest.raises(LeaseLost, match="lease upkeep must be held"):
            await store.change(before, replace(before, quality=0.1), lease)
        with pytest.raises(LeaseLost, match="lease upkeep must be held"):
            await store.remove(["e"], lease)
        found = await store.get("e")

        assert found is not None
        assert (found.quality, found.version) == (0.9, 1)

    async def test_leases_of_policies_are_apart(self, make: StoreMaker) -> None:
        """As their examples are, and as the rest is."""
        one, other = await make(), await make(policy="another-policy-of-upkeep")
        await taken(one)
        lease = await taken(other, "two")
        await other.drop_lease(lease)
        await one.note_run(run("r1"))
        await one.put_note("n", "text")

        assert await other.note("n") == ""
        assert await other.runs(10) == ()

    # ------------------------------------------------------------------ journal

    async def test_runs_come_back_newest_first(self, make: StoreMaker) -> None:
        """As they were, and as many as are asked for, from every worker."""
        one, other = await make(), await make()
        for i in range(5):
            await one.note_run(run(f"r{i}"))

        assert await other.runs(3) == (run("r4"), run("r3"), run("r2"))
        assert len(await other.runs(99)) == 5
        assert await other.runs(0) == ()

    async def test_notes_are_replaced(self, make: StoreMaker) -> None:
        """The last text under a name counts; half a surrogate pair does no harm."""
        one, other = await make(), await make()
        await one.put_note("cut-off", "old")
        await one.put_note("cut-off", '{"é": 0.1}')
        await one.put_note("odd", "a\ud800b")

        assert await other.note("cut-off") == '{"é": 0.1}'
        assert await other.note("odd") in ("a?b", "a\ud800b")
        assert await other.note("unknown") == ""
