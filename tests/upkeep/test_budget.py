"""What a round may spend, and whose time it may take."""

import pytest

from echo_proxy.errors import StoreUnavailable
from echo_proxy.types import Load
from echo_proxy.upkeep.budget import Budget, BudgetSpent
from echo_proxy.upkeep.idle import Idle, always_idle, loads_in
from tests.builders import policy
from tests.fakes import FrozenClock, MemoryStore

RULES = policy(upkeep={"idle_share": 0.5, "max_in_flight": 4}).upkeep


def test_money_is_counted() -> None:
    """Work that would probably cost more than is left does not begin; what is free may."""
    budget = Budget(1.0, 10.0, FrozenClock())
    budget.spend(0.8)

    assert budget.has_room(0.2)
    assert not budget.has_room(0.3)
    assert (budget.spent_usd, budget.n_calls) == (0.8, 1)


def test_no_money_still_pays_for_what_is_free() -> None:
    """A budget of nothing allows local models."""
    budget = Budget(0.0, 10.0, FrozenClock())

    assert budget.has_room(0.0)
    assert not budget.has_room(1e-9)


def test_time_is_counted() -> None:
    """After it nothing begins, however cheap."""
    clock = FrozenClock()
    budget = Budget(1.0, 10.0, clock)
    clock.time += 10.0

    assert budget.left_s == 0.0
    assert not budget.has_room(0.0)


@pytest.mark.parametrize(("load", "is_low"), [(Load(2.0), True), (Load(1.0, 1.5), False), (Load(held=9.0), True)])
async def test_idle_is_what_the_policy_calls_so(load: Load, is_low: bool) -> None:
    """Requests in flight and waiting, against the share of what it answers at once."""
    clock = FrozenClock()

    async def loads() -> dict[str, Load]:
        return {"large": load}

    async def wait(seconds: float) -> None:
        clock.time += seconds

    idle = Idle("large", RULES, loads, wait)
    budget = Budget(1.0, 3.0, clock)
    if is_low:
        await idle.until_low(budget)
    else:
        with pytest.raises(BudgetSpent):
            await idle.until_low(budget)

    assert idle.waited_s == (0.0 if is_low else 3.0)


async def test_the_loads_of_all_workers_add_up() -> None:
    """As they told the store; what a model's process holds beyond that waits."""
    store = MemoryStore()
    await store.report_loads("one", {"large": Load(1.0, held=5.0)}, 60.0)
    await store.report_loads("two", {"large": Load(2.0, held=5.0), "small": Load(7.0)}, 60.0)
    loads = await loads_in(store)()

    assert (loads["large"].in_flight, loads["large"].waiting, loads["small"].in_flight) == (3.0, 2.0, 7.0)


async def test_nobody_need_be_looked_at() -> None:
    """When the operator says so."""
    assert await always_idle()() == {}


async def test_a_store_that_is_away_tells_no_loads() -> None:
    """That is an error, not an idle model."""
    store = MemoryStore()
    store.is_away = True

    with pytest.raises(StoreUnavailable):
        await loads_in(store)()
