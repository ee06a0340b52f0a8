"""When a proxy does its upkeep."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from echo_proxy.telemetry.counts import Counts
from echo_proxy.upkeep.periodic import Periodic
from echo_proxy.upkeep.run import Tools
from tests.upkeep.rounds import World, doubtful, policy_with

EVERY_100_S = {"every_s": 100.0, "seconds_per_round": 60.0, "coverage": None}


async def looks(n: int, periodic: Periodic, world: World, holders: list[Periodic] | None = None) -> None:
    """Let the workers look so often, side by side; the clock moves with their waiting."""
    done = asyncio.Event()
    n_left = n

    async def wait(seconds: float) -> None:
        nonlocal n_left
        await asyncio.sleep(0)
        if world.store.leases:  # a round takes no time, however long its threads do
            return
        world.clock.time += seconds
        n_left -= 1
        if n_left < 0:
            done.set()
            await asyncio.Event().wait()

    tasks = []
    for one in [periodic, *(holders or [])]:
        one._wait = wait
        tasks.append(asyncio.create_task(one.run()))
    await asyncio.wait_for(done.wait(), 5)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def periodic(tools: Callable[[], Tools | None], holder: str = "one", counts: Counts | None = None) -> Periodic:
    return Periodic(tools, holder, counts or Counts())


async def test_a_round_is_done_every_period() -> None:
    """Looked for twenty times in each."""
    world = World(policy_with(upkeep=EVERY_100_S))
    await looks(60, periodic(world.tools), world)

    assert len(world.store.journal) == 3


async def test_of_several_workers_one_does_it() -> None:
    """Per period, whoever it is."""
    world = World(policy_with(upkeep=EVERY_100_S))
    world.hold([doubtful()])
    others = [periodic(world.tools, name) for name in ("two", "three")]
    await looks(100, periodic(world.tools), world, others)
    runs = world.store.journal

    assert len(runs) >= 2
    assert all(later.started_at - earlier.ended_at >= 100 for earlier, later in pairwise(runs))
    assert world.models is not None
    assert len(world.models.asked) == 2


@pytest.mark.parametrize("upkeep", [{}, {"every_s": None}])
async def test_without_a_period_nothing_is_done(upkeep: dict[str, None]) -> None:
    """Upkeep is then a command's affair."""
    world = World(policy_with(upkeep=upkeep))
    await looks(5, periodic(world.tools), world)

    assert world.store.journal == []


async def test_a_store_that_is_not_open_is_waited_for() -> None:
    """There is nothing to work on."""
    world = World()
    await looks(5, periodic(lambda: None), world)

    assert world.store.journal == []


async def test_failures_are_counted_and_end_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """When the store is back, so is the upkeep."""
    world = World(policy_with(upkeep=EVERY_100_S))
    counts = Counts()
    one = periodic(world.tools, counts=counts)
    world.store.is_away = True
    await looks(3, one, world)
    world.store.is_away = False
    await looks(20, one, world)

    assert counts.take() == {("all", "upkeep:failed"): 3.0}
    assert [run.ending for run in world.store.journal] == ["done"]
    assert "the test has taken the store away" in caplog.text
