from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_proxy.errors import LeaseLost, StoreUnavailable
from echo_proxy.policy_keeping import UpkeepPolicy
from echo_proxy.types import EXAMPLE_OVERHEAD_BYTES, Lease
from echo_proxy.upkeep import evict
from echo_proxy.upkeep.evict import act, plan_eviction
from echo_proxy.upkeep.unaided import Unaided
from tests.builders import DIMENSIONS, NOW, example
from tests.fakes import MemoryStore

HOUR = 3600.0
OLD = NOW - 24 * HOUR
UNIT = EXAMPLE_OVERHEAD_BYTES + 1_000
"""Bytes; no example is smaller."""


def rules(max_bytes, **changes):
    return UpkeepPolicy(max_bytes=max_bytes, **changes)


def apart(place, n=DIMENSIONS):
    """Unit vector at a right angle to those of other places."""
    return np.eye(n, dtype=np.float32)[place % n]


def old_one(place, n_bytes=2 * UNIT, **changes):
    """A day old, of n_bytes, near no other one of the first 16."""
    made = replace(
        example(f"{place:04d}", request=f"question {place}?", response="x", created_at=OLD, expires_at=NOW + 10 * HOUR),
        vector=apart(place),
        **changes,
    )
    return replace(made, response="x" * (n_bytes - made.n_bytes + 1))


async def filled(*examples):
    store = MemoryStore()
    await store.add_many(examples)
    return store


async def carry_out(store, plan):
    lease = await store.take_lease("upkeep", "me", 60)
    return sum([n async for n in act(store, plan, lease)])


async def test_the_least_used_go_until_the_rest_fits():
    """Of examples of one size those with the fewest successful offloads are dropped, the least one first."""
    store = await filled(*(old_one(place, offloads=float(place)) for place in range(10)))

    plan = await plan_eviction(store, rules(14 * UNIT), NOW, None)

    assert plan.ids == ("0000", "0001", "0002")
    assert (plan.bytes_before, plan.bytes_after, plan.budget_bytes) == (20 * UNIT, 14 * UNIT, 14 * UNIT)
    assert 0 < plan.lost_share < 0.1


async def test_bytes_count():
    """One long example makes room for several short ones that are worth more together."""
    short = [old_one(place, offloads=1.0) for place in range(5)]
    store = await filled(old_one(9, 10 * UNIT, offloads=2.0), *short)

    plan = await plan_eviction(store, rules(10 * UNIT), NOW, None)

    assert plan.ids == ("0009",)


async def test_of_examples_that_say_the_same_one_stays():
    """What another one can stand in for goes before what nobody else knows, although it was used more often."""
    twins = [replace(old_one(0, offloads=5.0), id=f"twin-{n}") for n in range(4)]
    store = await filled(*twins, *(old_one(place, offloads=4.5) for place in range(1, 5)))

    plan = await plan_eviction(store, rules(10 * UNIT), NOW, None)

    assert plan.ids == ("twin-0", "twin-1", "twin-2")
    assert plan.is_compared


async def test_what_is_asked_in_other_scopes_stands_in_for_nothing():
    """An example of one tenant does not replace that of another, however near it is."""
    twins = [replace(old_one(0, offloads=5.0), id=f"twin-{n}", scope=f"key:{n}") for n in range(4)]
    store = await filled(*twins, *(old_one(place, 5 * UNIT // 2, offloads=2.0) for place in range(1, 5)))

    plan = await plan_eviction(store, rules(21 * UNIT // 2), NOW, None)

    assert set(plan.ids) < {"0001", "0002", "0003", "0004"}


async def test_examples_for_requests_that_need_none_go_first():
    """Where the cheap model is right without examples, an example saves nothing."""
    store = await filled(*(old_one(place, offloads=place + 1.0) for place in range(4)))
    await store.add(old_one(4, 4 * UNIT, offloads=9.0))
    known = {f"{place:04d}": Unaided(20.0, 20.0 if place == 3 else 0.0) for place in range(5)}

    blind = await plan_eviction(store, rules(10 * UNIT), NOW, None)
    knowing = await plan_eviction(store, rules(10 * UNIT), NOW, None, unaided=known)

    assert (blind.ids, knowing.ids) == (("0000",), ("0003",))


async def test_the_just_admitted_stay():
    """However little room there is, young examples are kept, and the plan says that it misses the budget."""
    young = [replace(old_one(place, 4 * UNIT), created_at=NOW - 60) for place in range(4)]
    store = await filled(*young, old_one(7, 4 * UNIT, offloads=100.0))

    plan = await plan_eviction(store, rules(10 * UNIT), NOW, None)

    assert plan.ids == ("0007",)
    assert plan.is_over
    assert (plan.n_new, plan.bytes_after) == (4, 16 * UNIT)


async def test_expired_ones_go_even_where_there_is_room():
    """A store that forgets nothing by itself is cleaned."""
    store = await filled(old_one(1), replace(old_one(2), expires_at=NOW))

    plan = await plan_eviction(store, rules(100 * UNIT), NOW, None)

    assert plan.ids == ("0002",)
    assert (plan.n_expired, plan.value_lost) == (1, 0.0)


async def test_of_equals_the_older_goes():
    """Ids begin with the time of writing."""
    store = await filled(*(replace(old_one(0), id=name) for name in "bdac"))

    plan = await plan_eviction(store, rules(10 * UNIT, keep_new_s=1.0), NOW, None)
    assert plan.ids == ()

    await store.add(old_one(5, 6 * UNIT, offloads=9.0))
    plan = await plan_eviction(store, rules(10 * UNIT), NOW, None)
    assert sorted(plan.ids) == ["a", "b"]


async def test_an_empty_store_has_nothing_to_drop():
    """And nothing to lose."""
    plan = await plan_eviction(MemoryStore(), rules(10 * UNIT), NOW, None)

    assert (plan.ids, plan.lost_share, plan.gap) == ((), 0.0, 0.0)


async def test_a_plan_changes_nothing():
    """That is what makes a dry run one."""
    store = await filled(*(old_one(place) for place in range(10)))
    before = dict(store.examples)

    await plan_eviction(store, rules(10 * UNIT), NOW, None)

    assert store.examples == before


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(2 * UNIT, 9 * UNIT), st.floats(0, 20), st.floats(0, 30)), max_size=25
    ),
    st.integers(10 * UNIT, 60 * UNIT),
)
@settings(max_examples=60, deadline=None)
async def test_done_once_it_is_done(drawn, budget):
    """After a plan was acted upon the store keeps its budget, but for young ones, and the next plan is empty."""
    store = await filled(
        *(
            replace(old_one(place, size, offloads=offloads), id=f"{index:04d}", created_at=NOW - hours * HOUR)
            for index, (place, size, offloads, hours) in enumerate(drawn)
        )
    )
    plan = await plan_eviction(store, rules(budget), NOW, None)

    n_gone = await carry_out(store, plan)
    again = await plan_eviction(store, rules(budget), NOW, None)

    left = sum(one.n_bytes for one in store.examples.values())
    assert n_gone == len(plan.ids)
    assert left == plan.bytes_after
    assert left <= budget or all(one.created_at > NOW - HOUR for one in store.examples.values())
    assert again.ids == ()


async def test_acting_twice_changes_nothing_more():
    """What is gone is gone: a plan that was cut short can be taken up again."""
    store = await filled(*(old_one(place) for place in range(10)))
    plan = await plan_eviction(store, rules(10 * UNIT), NOW, None)

    first, second = await carry_out(store, plan), await carry_out(store, plan)

    assert (first, second, len(store.examples)) == (5, 0, 5)


async def test_a_lost_lease_stops_it_midway(monkeypatch):
    """The batches before have gone, nothing after; the next plan does the rest."""
    monkeypatch.setattr(evict, "_BATCH", 2)
    store = await filled(*(old_one(place) for place in range(10)))
    plan = await plan_eviction(store, rules(10 * UNIT), NOW, None)
    lease = await store.take_lease("upkeep", "me", 60)
    batches = act(store, plan, lease)

    assert await anext(batches) == 2

    store.leases["upkeep"] = (Lease("upkeep", "other", lease.fence + 1), NOW + HOUR)
    with pytest.raises(LeaseLost):
        await anext(batches)
    assert len(store.examples) == 8


async def test_an_example_that_a_page_shows_twice_counts_once(monkeypatch):
    """Paging beside writers may repeat itself."""
    monkeypatch.setattr(evict, "_PAGE", 3)
    store = await filled(*(old_one(place) for place in range(7)))
    walk = store.holdings

    async def overlapping(cursor, limit):
        return await walk(str(max(int(cursor or 0) - 1, 0)) if cursor else "", limit + 1)

    store.holdings = overlapping

    plan = await plan_eviction(store, rules(100 * UNIT), NOW, None)

    assert (plan.n_examples, plan.bytes_before) == (7, 14 * UNIT)


async def test_without_comparison_each_counts_for_itself(monkeypatch):
    """Stores that are too large to be compared are planned all the same."""
    monkeypatch.setattr(evict, "MAX_COMPARED", 5)
    twins = [replace(old_one(0, offloads=5.0), id=f"twin-{n}") for n in range(4)]
    store = await filled(*twins, *(old_one(place, offloads=2.0) for place in range(1, 5)))

    plan = await plan_eviction(store, rules(10 * UNIT), NOW, None)

    assert not plan.is_compared
    assert set(plan.ids) < {"0001", "0002", "0003", "0004"}


async def test_a_store_that_is_away_is_said():
    """No plan is made of half a store."""
    store = MemoryStore()
    store.is_away = True

    with pytest.raises(StoreUnavailable):
        await plan_eviction(store, rules(10 * UNIT), NOW, None)


async def test_the_report_holds_figures_alone():
    """Ids of a million examples have no place in the journal."""
    store = await filled(*(old_one(place) for place in range(10)))

    told = (await plan_eviction(store, rules(10 * UNIT), NOW, None)).to_json()

    assert "ids" not in told
    assert (told["n_dropped"], told["n_examples"], told["bytes_after"]) == (5, 10, 10 * UNIT)
