"""Each writer keeps within its share, and all together within their bytes, with room for new answers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_proxy.admission.writers import WriterShares
from echo_proxy.policy_keeping import UpkeepPolicy
from echo_proxy.types import EXAMPLE_OVERHEAD_BYTES, Example
from echo_proxy.upkeep.evict import EvictionPlan, act, plan_eviction
from echo_proxy.upkeep.shares import Bounds, keep_within
from tests.builders import NOW, example, policy
from tests.fakes import FrozenClock, MemoryStore

OLD = NOW - 86_400.0
UNIT = EXAMPLE_OVERHEAD_BYTES + 5_000
"""Bytes of an example here."""


def held(place: int, writer: str = "a", **changes: object) -> Example:
    """A day old, of UNIT bytes, worth the more the higher its place, like no other one."""
    vector = np.eye(64, dtype=np.float32)[place % 64]
    made = example(
        f"{place:04d}", writer=writer, created_at=OLD, expires_at=NOW + 36_000, vector=vector, offloads=float(place)
    )
    made = replace(made, request=f"question {place:04d}?", response="x", **changes)
    return replace(made, response="x" * (UNIT - made.n_bytes + 1))


async def filled(*examples: Example) -> MemoryStore:
    store = MemoryStore()
    await store.add_many(examples)
    return store


async def planned(store: MemoryStore, n_units: float, share: float | None = 0.5) -> EvictionPlan:
    return await plan_eviction(store, UpkeepPolicy(max_bytes=int(n_units * UNIT)), NOW, share)


async def carry_out(store: MemoryStore, plan: EvictionPlan) -> None:
    lease = await store.take_lease("upkeep", "me", 60)
    assert lease is not None
    assert sum([n async for n in act(store, plan, lease)]) == len(plan.ids)


async def test_one_writer_alone_does_not_freeze_the_store() -> None:
    """Its share is full long before the store is; after a round it is admitted again."""
    rules = policy(admission={"writer_share": 0.5}, upkeep={"max_bytes": 40 * UNIT})
    store = await filled(*(held(place) for place in range(20)))
    before = await WriterShares(store, FrozenClock()).has_room("a", UNIT, rules)
    plan = await planned(store, 40)
    await carry_out(store, plan)
    after = await WriterShares(store, FrozenClock()).has_room("a", UNIT, rules)

    assert (before, after) == (False, True)
    assert plan.ids == ("0000", "0001", "0002", "0003")
    assert dict(plan.dropped_bytes) == {"expired": 0, "writer_share": 4 * UNIT, "max_bytes": 0}


@pytest.mark.parametrize(("n_held", "n_gone"), [(18, 0), (19, 3)])
async def test_a_writer_is_cut_above_nine_tenths_of_its_share(n_held: int, n_gone: int) -> None:
    """Down to eight tenths; nine tenths themselves are left alone, and so are other writers."""
    others = [held(place, "b") for place in range(100, 110)]
    plan = await planned(await filled(*(held(place) for place in range(n_held)), *others), 40)

    assert plan.ids == tuple(f"{place:04d}" for place in range(n_gone))


@pytest.mark.parametrize(("n_held", "n_gone"), [(38, 0), (39, 3)])
async def test_the_store_is_cut_above_19_of_20(n_held: int, n_gone: int) -> None:
    """Down to nine tenths, whoever wrote what; so a full store has turnover too."""
    plan = await planned(await filled(*(held(place, f"writer {place}") for place in range(n_held))), 40)

    assert plan.ids == tuple(f"{place:04d}" for place in range(n_gone))
    assert plan.dropped_bytes["max_bytes"] == n_gone * UNIT


async def test_without_a_share_the_bytes_are_exact() -> None:
    """As a comparison of ways to evict needs it: nothing goes that fits, whoever wrote it."""
    store = await filled(*(held(place) for place in range(12)))
    full, over = await planned(store, 12, None), await planned(store, 10, None)

    assert (full.ids, over.ids) == ((), ("0000", "0001"))
    assert over.bytes_after == 10 * UNIT


async def test_the_just_admitted_stay_although_their_writer_has_too_much() -> None:
    """The old ones of that writer go, and the plan says that its share is missed."""
    young = [replace(held(place), created_at=NOW - 60) for place in range(25)]
    plan = await planned(await filled(*young, held(30), held(31, "b")), 40)

    assert plan.ids == ("0030",)
    assert plan.is_over


async def test_the_expired_do_not_count_for_their_writer() -> None:
    """As they do not at admission; their bytes are told apart."""
    dead = [replace(held(place), expires_at=NOW) for place in range(10, 14)]
    plan = await planned(await filled(*(held(place) for place in range(10)), *dead), 22)

    assert sorted(plan.ids) == ["0000", "0001", "0010", "0011", "0012", "0013"]
    assert dict(plan.dropped_bytes) == {"expired": 4 * UNIT, "writer_share": 2 * UNIT, "max_bytes": 0}


async def test_the_report_tells_the_bytes_by_reason() -> None:
    """For the journal and a dry run, as plain figures."""
    plan = await planned(await filled(*(held(place) for place in range(20))), 40)

    assert plan.to_json()["dropped_bytes"] == {"expired": 0, "writer_share": 4 * UNIT, "max_bytes": 0}


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.floats(0, 9), st.booleans()), max_size=30),
    st.integers(10, 60),
    st.sampled_from((0.2, 0.5, 1.0)),
)
@settings(max_examples=60, deadline=None)
def test_what_is_kept_is_kept_again(
    drawn: list[tuple[str, int, float, bool]], max_bytes: int, writer_share: float
) -> None:
    """Within the bounds but for new ones, none of which goes; a second time changes nothing."""
    writers = [one[0] for one in drawn]
    n_bytes = np.array([one[1] for one in drawn], dtype=np.int64)
    values = np.array([one[2] for one in drawn], dtype=np.float64)
    is_new = np.array([one[3] for one in drawn], dtype=bool)
    bounds = Bounds(max_bytes, writer_share)
    first = keep_within(values, n_bytes, writers, is_new, bounds)
    rows = np.flatnonzero(first.is_kept)
    left = [writers[row] for row in rows]
    again = keep_within(values[rows], n_bytes[rows], left, is_new[rows], bounds)
    by_writer = {name: [row for row in rows if writers[row] == name] for name in left}

    assert again.is_kept.all()
    assert first.is_kept[is_new].all()
    assert first.writers_bytes + first.all_bytes == n_bytes[~first.is_kept].sum()
    assert n_bytes[rows].sum() <= 0.95 * max_bytes or is_new[rows].all()
    assert all(
        n_bytes[mine].sum() <= 0.9 * writer_share * max_bytes or is_new[mine].all() for mine in by_writer.values()
    )
