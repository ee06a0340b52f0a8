"""What a store promises that can give its examples the vectors of another model; one suite, run against each."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from echo_proxy.errors import SchemaMismatch, StoreError
from echo_proxy.types import ArmKey, ArmSums
from tests.contracts import (
    NOW,
    SMALL,
    StoreFixtures,
    StoreMaker,
    example,
    ids,
    query,
    reembed,
    settlement,
    vector,
    with_small_vectors,
)
from tests.fakes import FrozenClock

_ROUNDED = pytest.approx


class ReembeddingContract(StoreFixtures):
    """Whether it locks others out meanwhile or not."""

    async def test_nothing_is_reembedded_where_the_model_fits(
        self, make: StoreMaker, unopened: Callable[..., Any]
    ) -> None:
        """Neither in a new store nor in a used one, which stays open to others."""
        async with unopened().reembedding() as work:
            is_new = work is None
        store = await make()
        await store.add(example("e"))
        async with unopened().reembedding() as work:
            is_used = work is None

        assert (is_new, is_used) == (True, True)
        assert ids(await (await make()).nearest(query())) == ["e"]

    async def test_reembedding_changes_vectors_and_nothing_else(
        self, make: StoreMaker, unopened: Callable[..., Any]
    ) -> None:
        """Afterwards the new vectors are searched; ids, outcome counts, expiry and evidence are as before."""
        store = await make()
        given_ones = [example(f"e{i}", i / 10, uses=i + 0.5, gain=i / 3, expires_at=NOW + 9 + i) for i in range(8)]
        for one in given_ones:
            await store.add(one)
        await store.settle(settlement("d", sums=ArmSums(1, 1, 1)))
        await store.close()
        seen = await reembed(unopened(**SMALL))
        after = await make(**SMALL)
        found = await after.nearest(query(vector=-vector(0.0)[:4], k=8))
        got = {one.id: one for one in await after.page(None, 0, 99)}

        assert sorted(seen) == [f"e{i}" for i in range(8)]
        assert ids(found) == [f"e{i}" for i in range(8)]
        assert [c.distance for c in found] == _ROUNDED([1 - math.cos(i / 10) for i in range(8)], abs=1e-5)
        for one in given_ones:
            assert np.array_equal(got[one.id].vector, -one.vector[:4])
            assert replace(got[one.id], vector=one.vector) == one
        assert await after.sums() == {ArmKey("small+4", "all"): ArmSums(1, 1, 1)}
        assert (await after.status()).n_examples == 8

    async def test_nothing_stale_is_let_in(self, make: StoreMaker, unopened: Callable[..., Any]) -> None:
        """It cannot be finished early, vectors of a wrong size are refused, and the same examples are given again."""
        store = await make()
        await store.add(example("e"))
        async with unopened(**SMALL).reembedding() as work:
            with pytest.raises(StoreError, match="must be embedded anew, 1 are not"):
                await work.finish()
            backlog = await work.stale(9)
            with pytest.raises(SchemaMismatch, match=r"\(4,\), got \(8,\)"):
                await work.rewrite(backlog.examples)
            again = await work.stale(9)

        assert ids(again.examples) == ids(backlog.examples) == ["e"]

    async def test_what_a_forgotten_proxy_adds_is_embedded_too(
        self, make: StoreMaker, unopened: Callable[..., Any]
    ) -> None:
        """A worker that still runs with the old model while the vectors are exchanged loses nothing."""
        store = await make()
        await store.add(example("e1"))
        async with unopened(**SMALL).reembedding() as work:
            await work.rewrite(with_small_vectors((await work.stale(9)).examples))
            await store.add(example("e2"))
            await store.remove(["e1"])
            late = await work.stale(9)
            await work.rewrite(with_small_vectors(late.examples))
            await work.finish()

        assert ids(late.examples) == ["e2"]
        assert ids(await (await make(**SMALL)).page(None, 0, 9)) == ["e2"]

    async def test_expired_examples_are_not_embedded(
        self, make: StoreMaker, unopened: Callable[..., Any], clock: FrozenClock
    ) -> None:
        """They are dropped and counted; one that is removed meanwhile does not come back."""
        store = await make()
        for name, ttl_s in (("short", 10), ("long", 20), ("removed", 20)):
            await store.add(example(name, expires_at=NOW + ttl_s))
        clock.time = NOW + 10
        async with unopened(**SMALL).reembedding() as work:
            backlog = await work.stale(9)
            await store.remove(["removed"])
            await work.rewrite(with_small_vectors(backlog.examples))
            rest = await work.stale(9)
            await work.finish()
        after = await make(**SMALL)

        assert (sorted(ids(backlog.examples)), backlog.n_expired) == (["long", "removed"], 1)
        assert (rest.examples, rest.n_left, rest.n_expired) == ((), 0, 0)
        assert ids(await after.page(None, 0, 9)) == ["long"]
        assert (await after.status()).n_examples == 1


class LockingReembeddingContract(ReembeddingContract):
    """A store that has one vector for each example, and locks all others out while it is exchanged."""

    async def test_an_interrupted_reembedding_goes_on(self, make: StoreMaker, unopened: Callable[..., Any]) -> None:
        """Until its end neither model opens the store; the second run does what the first one left, no more."""
        store = await make()
        for i in range(8):
            await store.add(example(f"e{i}", i / 10))
        await store.close()
        with pytest.raises(SchemaMismatch, match="must have been embedded by minilm"):
            await make(**SMALL)
        first = await reembed(unopened(**SMALL), n_batches=2)
        for model in ({}, SMALL):
            with pytest.raises(SchemaMismatch, match=r"in part exchanged for minilm.*echo-proxy reembed"):
                await make(**model)
        second = await reembed(unopened(**SMALL))
        found = await (await make(**SMALL)).nearest(query(vector=-vector(0.0)[:4], k=9))

        assert (len(first), len(second)) == (6, 2)
        assert sorted(first + second) == ids(found) == [f"e{i}" for i in range(8)]
        with pytest.raises(SchemaMismatch, match=r"hashing \(8 dim.*got minilm \(4 dim"):
            await make()

    async def test_a_reembedding_can_change_its_mind(self, make: StoreMaker, unopened: Callable[..., Any]) -> None:
        """Interrupted on the way to one model, all examples go to another; the first one's run has lost its turn."""
        store = await make()
        for i in range(4):
            await store.add(example(f"e{i}", i / 10))
        await store.close()
        async with unopened(**(SMALL | {"model": "other"})).reembedding() as work:
            backlog = await work.stale(3)
            await work.rewrite(with_small_vectors(backlog.examples))
            seen = await reembed(unopened(**SMALL))
            with pytest.raises(SchemaMismatch, match="has taken over"):
                await work.finish()

        assert (backlog.n_left, len(backlog.examples), sorted(seen)) == (4, 3, [f"e{i}" for i in range(4)])
        assert len(await (await make(**SMALL)).nearest(query(vector=-vector(0.0)[:4]))) == 4
