"""A round as a whole: one lease, one budget, and whatever happens a note."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from echo_proxy.errors import LeaseLost, StoreUnavailable
from echo_proxy.types import Lease, Lesson, Trial
from echo_proxy.upkeep.lease import LEASE_S, under_lease
from echo_proxy.upkeep.preview import preview
from echo_proxy.upkeep.run import ALL_WORK, RoundOptions
from tests.builders import NOW, example, lesson, vector
from tests.fakes import MemoryStore
from tests.upkeep.rounds import World, doubtful, policy_with


async def test_of_two_rounds_at_once_one_works() -> None:
    """The other says that somebody is at work, does nothing, and is not noted."""
    world = World()
    world.hold([doubtful()])
    first, second = await asyncio.gather(world.round("one"), world.round("two"))

    assert (first.ending, second.ending) == ("done", "busy")
    assert world.models is not None
    assert len(world.models.asked) == 2
    assert [one.holder for one in world.store.journal] == ["one"]


async def test_a_round_lets_go_of_its_lease() -> None:
    """The next one may begin at once."""
    world = World()
    await world.round("one")
    run = await world.round("two")

    assert run.ending == "done"
    assert world.store.leases == {}


async def test_a_lease_that_was_taken_over_stops_the_round() -> None:
    """In the middle: what was done before stays, what comes after is refused, and the note tells."""
    world = World()
    world.hold([doubtful("a", 2.0), doubtful("b", 1.0)])

    def take_over(ask: Any) -> None:
        if "of b" in ask.messages[-1].content:
            world.store.leases["upkeep"] = (Lease("upkeep", "other", 99), NOW + 100)

    assert world.models is not None
    world.models.before = take_over
    run = await world.round()

    assert run.ending == "lease_lost"
    assert world.store.examples["a"].response == "Paris."
    assert (world.store.examples["b"].response, world.store.examples["b"].version) == ("Lyon.", 1)
    assert world.store.leases["upkeep"][0].holder == "other"
    assert [one.ending for one in world.store.journal] == ["lease_lost"]
    assert world.store.counts[("all", "upkeep:ended:lease_lost")] == 1


async def test_a_lease_is_kept_while_the_work_lasts() -> None:
    """Every ten seconds, each time for thirty."""
    store, beats = MemoryStore(), 0
    lease = await store.take_lease("upkeep", "me", LEASE_S)
    assert lease is not None
    done = asyncio.Event()

    async def wait(seconds: float) -> None:
        nonlocal beats
        beats += 1
        if beats > 3:
            done.set()
        await asyncio.sleep(0)

    async def work() -> None:
        await done.wait()

    await under_lease(work(), lease, store, wait)

    assert beats >= 3


async def test_work_ends_when_the_lease_is_gone() -> None:
    """Also work that never writes."""
    store = MemoryStore()
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def wait(seconds: float) -> None:
        await asyncio.sleep(0)

    with pytest.raises(LeaseLost):
        await under_lease(work(), Lease("upkeep", "me", 1), store, wait)

    assert cancelled.is_set()


async def test_a_store_that_blinks_costs_no_lease() -> None:
    """It is asked again."""
    store, n_asked = MemoryStore(), 0
    lease = await store.take_lease("upkeep", "me", LEASE_S)
    assert lease is not None
    done = asyncio.Event()

    async def wait(seconds: float) -> None:
        nonlocal n_asked
        n_asked += 1
        store.is_away = n_asked < 3
        if n_asked > 4:
            done.set()
        await asyncio.sleep(0)

    async def work() -> None:
        await done.wait()

    await under_lease(work(), lease, store, wait)

    assert n_asked > 4


async def test_a_round_is_not_repeated_too_soon() -> None:
    """Whoever did the last one; nothing is noted."""
    world = World()
    await world.round("one")
    soon = await world.round("two", every_s=60.0)
    world.clock.time += 61
    later = await world.round("two", every_s=60.0)

    assert (soon.ending, later.ending) == ("not_due", "done")
    assert len(world.store.journal) == 2


async def test_another_that_was_faster_is_seen_under_the_lease() -> None:
    """A round that ended between the look and the lease counts."""
    world = World()
    done = await world.round("one")
    world.store.journal.clear()

    async def take(name: str, holder: str, ttl_s: float) -> Lease | None:
        world.store.journal.append(done)
        return await MemoryStore.take_lease(world.store, name, holder, ttl_s)

    world.store.take_lease = take  # type: ignore[method-assign]
    run = await world.round("two", every_s=60.0)

    assert run.ending == "not_due"


async def test_an_error_is_the_ending() -> None:
    """The note names it; the lease is free again."""
    world = World()
    world.hold([doubtful()])

    async def fail(cursor: str, limit: int) -> Any:
        raise StoreUnavailable("gone")

    world.store.holdings = fail  # type: ignore[method-assign]
    run = await world.round()

    assert (run.ending, run.report["error"]) == ("StoreUnavailable", "gone")
    assert [one.ending for one in world.store.journal] == ["StoreUnavailable"]
    assert world.store.leases == {}


async def test_a_round_that_is_cancelled_is_noted() -> None:
    """As at a stop of the proxy."""
    world = World()
    world.hold([doubtful()])
    began = asyncio.Event()

    async def hang(ask: Any) -> Any:
        began.set()
        await asyncio.Event().wait()

    assert world.models is not None
    world.models.ask = hang  # type: ignore[method-assign]
    task = asyncio.create_task(world.round())
    await began.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert [one.ending for one in world.store.journal] == ["CancelledError"]
    assert world.store.leases == {}
    assert (world.store.examples["e1"].response, world.store.examples["e1"].version) == ("Lyon.", 1)


async def test_everything_happens_in_order() -> None:
    """What has expired or is too much goes before anything is asked for it."""
    world = World(policy_with(upkeep={"max_bytes": 10_000, "keep_new_s": 1.0}))
    old = NOW - 1000
    world.hold([doubtful("dead", 9.0, expires_at=NOW - 1, created_at=old)])
    world.hold([doubtful(f"big{i}", 5.0, response="x" * 6_000, created_at=old) for i in range(3)])
    world.hold([replace(doubtful("useful", 1.0, offloads=9.0), created_at=old)])
    run = await world.round(work=ALL_WORK)

    assert world.models is not None
    assert "What is the capital of dead?" not in world.models.taught
    assert "useful" in world.store.examples
    assert "dead" not in world.store.examples
    assert sum(one.n_bytes for one in world.store.examples.values()) <= 10_000
    assert list(run.report) == ["evict", "replay", "coverage"]


async def test_only_what_is_asked_for_is_done() -> None:
    """The report speaks of nothing else."""
    world = World()
    world.hold([doubtful()])
    run = await world.round(work=frozenset(("evict",)))

    assert list(run.report) == ["evict"]
    assert world.models is not None
    assert world.models.asked == []


async def test_counts_tell_what_rounds_did() -> None:
    """For the metrics, of all scopes together."""
    world = World()
    assert world.models is not None
    world.models.cost_usd = 0.01
    world.hold([doubtful(), example("e2", vector=vector(0.0, 1.0))])
    await world.round()
    counts = {name.removeprefix("upkeep:"): round(n, 6) for (_, name), n in world.store.counts.items()}

    assert counts == {"rounds": 1, "ended:done": 1, "cost_usd": 0.02, "calls": 2, "replayed": 1, "improved": 1}


@pytest.mark.parametrize("is_dry", [False, True])
async def test_what_is_answered_as_well_without_examples_goes_first(is_dry: bool) -> None:
    """However often it was shown; the lessons of arms without examples say it, to a round and to its preview.

    Both are of one writer, who has too much although the store is half empty."""
    world = World(rules=policy_with(upkeep={"max_bytes": 20_000}))
    text, old = "x" * 4_000, NOW - 86_400
    world.hold(
        replace(example(name, response=text, vector=vector(*head), offloads=offloads), created_at=old)
        for name, head, offloads in (("easy", (1.0, 0.0), 9.0), ("hard", (0.0, 1.0), 5.0))
    )
    world.store.learned += [
        bare(f"d{name}{n}", name, quality) for name, quality in (("easy", 1.0), ("hard", 0.0)) for n in range(9)
    ]
    if is_dry:
        found = await preview(world.rules, world.store, world.clock, RoundOptions(frozenset(("evict",))))
        assert found.eviction is not None
        gone = set(found.eviction.ids)
    else:
        await world.round(work=frozenset(("evict",)))
        gone = {"easy", "hard"} - set(world.store.examples)

    assert gone == {"easy"}


def bare(decision_id: str, example_id: str, quality: float) -> Lesson:
    """A small model answered without the example that was at hand."""
    at_hand = Trial(example_id, "pair", (), 1.0, is_chosen=True)
    return lesson(decision_id, arm="small+0", trials=(at_hand,), quality=quality, quality_weight=1.0)
