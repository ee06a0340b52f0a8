"""Indexes are exchanged and vectors of another model are added while proxies go on searching."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import redis

from echo_proxy.errors import SchemaMismatch, StoreError
from echo_proxy.stores.keys import Keys
from echo_proxy.stores.redis import RedisStore
from echo_proxy.stores.redis_index import schema
from echo_proxy.stores.redis_switch import IndexSwitch
from echo_proxy.types import Embedding, Example, Which
from tests.contracts import NOW, SMALL, config_of, example, ids, query, reembed, vector, with_small_vectors
from tests.contracts_examples import all_holdings, stored, walked
from tests.fakes import FrozenClock
from tests.stores.servers import PATIENT, NewServer, eventually, until
from tests.stores.test_upgrade import OldRedis, old_examples

CLOCK = FrozenClock(NOW)
_N = 1500
_SMALL_QUERY: Embedding = -vector(0.0)[:4]


class World:
    """One policy in a Redis, seen by several workers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.policy = f"m{uuid.uuid4().hex[:12]}"
        self.keys = Keys(self.policy)
        self._made: list[RedisStore] = []

    def store(self, kind: type[RedisStore] = RedisStore, **changes: object) -> RedisStore:
        made = kind(config_of(self.policy, **changes), self.url, CLOCK, **PATIENT)
        self._made.append(made)
        return made

    async def open(self, kind: type[RedisStore] = RedisStore, **changes: object) -> RedisStore:
        store = self.store(kind, **changes)
        await store.open()
        return store

    async def close(self) -> None:
        for store in self._made:
            await store.close()
        for name in self.ask("FT._LIST"):
            if name.startswith(self.keys.index):
                self.ask("FT.DROPINDEX", name)
        with redis.Redis.from_url(self.url, protocol=2) as client:
            for key in list(client.scan_iter(f"{self.keys.root}:*", count=1000)):
                client.unlink(key)

    def ask(self, *command: object) -> Any:
        with redis.Redis.from_url(self.url, protocol=2, decode_responses=True) as client:
            return client.execute_command(*command)

    def indexes(self) -> list[str]:
        """Kinds of the policy's indexes; `legacy` of one whose name is no alias."""
        found = [name for name in self.ask("FT._LIST") if name.startswith(self.keys.index)]
        return sorted(name.partition("@")[2].partition(".")[0] or "legacy" for name in found)

    async def until_indexes(self, *kinds: str) -> None:
        async def are_left() -> bool:
            return self.indexes() == list(kinds)

        await eventually(are_left, f"only {kinds} are left")

    def make_legacy_index(self, index: str) -> None:
        """As the program made it before there were aliases."""
        made = schema(config_of(self.policy, index=index), "vector").redis_fields
        with redis.Redis.from_url(self.url, protocol=2) as client:
            arguments = [word for field in made for word in field.redis_args()]
            prefix = ("ON", "HASH", "PREFIX", 1, self.keys.example_prefix, "SCHEMA")
            client.execute_command("FT.CREATE", self.keys.index, *prefix, *arguments)


@pytest.fixture
async def world(redis_url: str) -> AsyncIterator[World]:
    made = World(redis_url)
    yield made
    await made.close()


@asynccontextmanager
async def searching(store: RedisStore, n: int, vector: Embedding | None = None) -> AsyncIterator[list[tuple[int, int]]]:
    """Searches without a pause; afterwards there must have been some, all without an error, and all complete."""
    seen: list[tuple[int, int]] = []
    is_over = False

    async def search() -> None:
        asked = query(k=20) if vector is None else query(k=20, vector=vector)
        while not is_over:
            found, held = await store.nearest(asked), await store.held_by("key:a")
            seen.append((len(found), held.n_examples))

    task = asyncio.create_task(search())
    yield seen
    is_over = True
    await task
    assert len(seen) > 0
    assert set(seen) == {(20, n)}


def many(n: int) -> Sequence[Example]:
    return [example(f"e{i}", i / n, writer="key:a") for i in range(n)]


class SlowSwitch(IndexSwitch):
    """The wished index never gets complete."""

    async def share_built(self) -> float:
        return 0.5


class SlowStore(RedisStore):
    """Has such a switch as long as `is_slow`."""

    is_slow = True

    def _switch_of(self, field: str) -> IndexSwitch:
        kind = SlowSwitch if self.is_slow else IndexSwitch
        return kind(self._config, self._client, self._search_client(), field)


# ---------------------------------------------------------------------- kinds of index


@pytest.mark.parametrize(("before", "after"), [("flat", "hnsw"), ("hnsw", "flat")])
@pytest.mark.parametrize("is_legacy", [False, True])
async def test_nobody_notices_another_kind_of_index(world: World, before: str, after: str, is_legacy: bool) -> None:
    """Workers old and new find everything at every moment; in the end only the new index is there."""
    if is_legacy:
        world.make_legacy_index(before)
    old = await world.open(index=before)
    await old.add_many(many(_N))
    first = world.indexes()
    async with searching(old, _N):
        new = await world.open(index=after)
        async with searching(new, _N):
            await world.until_indexes(after)
            await eventually(lambda: _has_nothing_to_tell(new), "status has nothing to tell")

    assert first == (["legacy"] if is_legacy else [before])
    assert len(await old.nearest(query(k=20))) == 20


async def _has_nothing_to_tell(store: RedisStore) -> bool:
    return (await store.status()).detail == ""


async def test_opening_does_not_wait_for_another_index(world: World) -> None:
    """The old one serves, and status tells that another is being built."""
    old = await world.open(index="flat")
    await old.add_many(many(30))
    new = await world.open(SlowStore, index="hnsw")
    found = await new.nearest(query(k=30))

    async def is_told() -> bool:
        return "is being built beside it, to 50%" in (await new.status()).detail

    await eventually(is_told, "status tells")
    status = await new.status()

    assert len(found) == 30
    assert (status.is_ready, status.n_examples) == (True, 30)
    assert world.indexes() == ["flat", "hnsw"]


async def test_an_exchange_that_was_killed_goes_on(world: World) -> None:
    """The next worker with the same wish does the rest; with another wish, what is stale goes."""
    old = await world.open(index="flat")
    await old.add_many(many(30))
    await (await world.open(SlowStore, index="hnsw")).close()
    half = world.indexes()
    await world.open(index="hnsw")
    await world.until_indexes("hnsw")
    await (await world.open(SlowStore, index="flat")).close()
    await world.open(index="hnsw")
    await world.until_indexes("hnsw")

    assert half == ["flat", "hnsw"]
    assert len(await old.nearest(query(k=30))) == 30


async def test_workers_exchange_at_once(world: World) -> None:
    """All of them do every step, and nobody drops what another made."""
    old = await world.open(index="flat")
    await old.add_many(many(_N))
    async with searching(old, _N):
        stores = [world.store(index="hnsw") for _ in range(4)]
        await asyncio.gather(*(store.open() for store in stores))
        await world.until_indexes("hnsw")
        for store in stores:
            assert len(await store.nearest(query(k=20))) == 20


async def test_the_newest_wish_wins(world: World) -> None:
    """Workers of two policies' kinds do not exchange it for ever: only who starts has a wish."""
    first = await world.open(index="flat")
    searched = await world.open(index="flat")
    await searched.add_many(many(_N))
    async with searching(searched, _N):
        await world.open(index="hnsw")
        await world.until_indexes("hnsw")
        await first.close()
        await first.open()
        reopened = world.indexes()
        await world.open(index="flat")
        await world.until_indexes("flat")

    assert reopened == ["hnsw"]


async def test_two_wishes_at_once_end_in_one_index(world: World) -> None:
    """Whichever was noted last; all find everything."""
    first = await world.open(index="flat")
    await first.add_many(many(_N))
    async with searching(first, _N):
        stores = [world.store(index=kind) for kind in ("flat", "hnsw", "flat", "hnsw")]
        await asyncio.gather(*(store.open() for store in stores))

        async def is_one_left() -> bool:
            wish = world.ask("HGET", world.keys.meta, "index")
            return [name for name in world.ask("FT._LIST") if name.startswith(world.keys.index)] == [wish]

        await eventually(is_one_left, "one index is left")


async def test_a_search_between_two_indexes_is_done_again(world: World) -> None:
    """Where a server cannot exchange them in one step, the search finds no index for a moment."""
    store = await world.open()
    await store.add_many(many(30))
    world.ask("FT.ALIASDEL", world.keys.index)

    assert len(await store.nearest(query(k=30))) == 30


async def test_a_flushed_store_serves_again(new_server: NewServer) -> None:
    """Indexes, aliases and notes are gone; they are made again, whichever model's field it was."""
    world = World(new_server().url)
    await (await world.open()).add(example("e"))
    await reembed(world.store(**SMALL))
    store = await world.open(**SMALL)
    world.ask("FLUSHALL")
    await eventually(lambda: _is_empty(store), "the store searches again")
    await store.add(replace(example("new"), vector=_SMALL_QUERY))
    found = await store.nearest(query(vector=_SMALL_QUERY))
    await world.close()

    assert ids(found) == ["new"]


async def _is_empty(store: RedisStore) -> bool:
    try:
        return await store.nearest(query(vector=_SMALL_QUERY)) == ()
    except StoreError:
        return False


# ---------------------------------------------------------------------- versions


async def test_proxies_of_schema_1_go_on_searching(world: World) -> None:
    """Their index serves them until the one with the new fields is complete, under the name that they know."""
    old = OldRedis(world.url, world.policy)
    old.write(old_examples(_N))
    old.make_index()
    until(lambda: _n_found(old) == _N, "the old index is complete")
    seen: set[int] = set()
    is_over = asyncio.Event()

    async def search() -> None:
        while not is_over.is_set():
            seen.add(await asyncio.to_thread(_n_found, old))

    task = asyncio.create_task(search())
    store = old.store(index="hnsw")
    await store.open()
    found = await store.nearest(query(k=_N, reader="somebody"))
    is_over.set()
    await task
    await store.close()

    assert seen == {_N}
    assert len(found) == _N


def _n_found(old: OldRedis) -> int:
    return int(old.ask("FT.SEARCH", old.keys.index, "@scope:{key\\:a}", "LIMIT", 0, 0)[0])


async def test_what_schema_1_adds_late_is_completed_by_the_next_that_opens(world: World) -> None:
    """Until then it serves nobody."""
    old = OldRedis(world.url, world.policy)
    old.write(old_examples(3))
    first = old.store()
    await first.open()
    old.write([example("late")], meta={"model": "hashing"})
    before = ids(await first.nearest(query(reader="somebody")))
    second = old.store()
    await second.open()
    after = ids(await first.nearest(query(reader="somebody")))
    for store in (first, second):
        await store.close()

    assert ("late" in before, "late" in after) == (False, True)


# ---------------------------------------------------------------------- models


async def test_the_old_model_serves_while_the_new_one_is_filled_in(world: World) -> None:
    """Its proxies find everything at every moment, and open; those with the new one open when all is filled in."""
    old = await world.open()
    await old.add_many(many(300))
    async with searching(old, 300):
        first = await reembed(world.store(**SMALL), n_batches=20)
        with pytest.raises(SchemaMismatch, match=r"by minilm \(4 dim.*got hashing \(8 dim.*in part minilm.*reembed"):
            await world.open(**SMALL)
        await world.open()
        second = await reembed(world.store(**SMALL))
        new = await world.open(**SMALL)
        async with searching(new, 300, _SMALL_QUERY):
            found = await new.nearest(query(k=300, vector=_SMALL_QUERY))

    assert (len(first), len(second)) == (60, 240)
    assert ids(found) == [f"e{i}" for i in range(300)]


async def test_what_proxies_of_the_other_model_add_is_not_there(world: World) -> None:
    """An example without a vector of the own model is neither found nor read, only counted, until it is embedded."""
    old = await world.open()
    await old.add(example("e"))
    await reembed(world.store(**SMALL))
    new = await world.open(**SMALL)
    await old.add(example("late", 0.5))
    await new.add(replace(example("early", 0.5), vector=_SMALL_QUERY))
    seen = {
        store: [
            sorted(ids(await store.nearest(query(vector=asked, k=9)))),
            sorted(ids(await store.page(None, 0, 9))),
            await walked(store, Which(), 10),
            [name for name in ("e", "late", "early") if await store.get(name)],
            sorted(await all_holdings(store)),
        ]
        for store, asked in ((old, vector(0.0)), (new, _SMALL_QUERY))
    }
    again = await reembed(world.store(**SMALL))
    found = ids(await new.nearest(query(vector=_SMALL_QUERY, k=9)))
    async with world.store(**SMALL).reembedding() as work:
        is_nothing_left = work is None
    async with world.store().reembedding() as work:
        is_nothing_left_of_old = work is None

    counted = ["e", "early", "late"]
    assert seen[old] == [["e", "late"], ["e", "late"], ["e", "late"], ["e", "late"], counted]
    assert seen[new] == [["e", "early"], ["e", "early"], ["e", "early"], ["e", "early"], counted]
    assert again == ["late"]
    assert sorted(found) == ["e", "early", "late"]
    assert (is_nothing_left, is_nothing_left_of_old) == (True, False)


async def test_a_changed_text_has_no_vector_of_others(world: World) -> None:
    """Theirs would be of the text before; a change of anything else leaves them."""
    old = await world.open()
    await old.add_many([example("text"), example("quality", 0.1)])
    await reembed(world.store(**SMALL))
    new = await world.open(**SMALL)
    for name, changes in (("text", {"request": "another", "vector": vector(0.3)}), ("quality", {"quality": 0.1})):
        before = await stored(old, name)
        assert await old.change(before, replace(before, **changes))  # type: ignore[arg-type]
    found = ids(await new.nearest(query(vector=_SMALL_QUERY)))
    again = await reembed(world.store(**SMALL))
    before = await stored(new, "quality")
    assert await new.change(before, replace(before, request="another", vector=_SMALL_QUERY))

    assert (found, again) == (["quality"], ["text"])
    assert await old.get("quality") is None
    assert ids(await old.nearest(query())) == ["text"]


async def test_a_text_that_changes_while_it_is_embedded_is_embedded_again(world: World) -> None:
    """The vector of the text before is not kept."""
    old = await world.open()
    await old.add(example("e"))
    async with world.store(**SMALL).reembedding() as work:
        assert work is not None
        backlog = await work.stale(9)
        before = await stored(old, "e")
        await old.change(before, replace(before, request="another", vector=vector(0.3)))
        await work.rewrite(with_small_vectors(backlog.examples))
        again = await work.stale(9)

    assert [one.request for one in again.examples] == ["another"]


async def test_three_models_stand_side_by_side(world: World) -> None:
    """A reembedding takes nothing from another, also from one that is not finished; each has an index of its own."""
    third = SMALL | {"model": "third"}
    old = await world.open()
    await old.add_many(many(4))
    async with world.store(**third).reembedding() as work:
        assert work is not None
        backlog = await work.stale(3)
        await work.rewrite(with_small_vectors(backlog.examples))
        seen = await reembed(world.store(**SMALL))
        await work.rewrite(with_small_vectors((await work.stale(3)).examples))
        await work.finish()
    small = await world.open(**(SMALL | {"index": "hnsw"}))
    await world.until_indexes("flat", "flat", "hnsw")
    sizes = [
        len(await old.nearest(query())),
        len(await small.nearest(query(vector=_SMALL_QUERY))),
        len(await (await world.open(**third)).nearest(query(vector=_SMALL_QUERY))),
    ]

    assert len(seen) == 4
    assert sizes == [4, 4, 4]


# ---------------------------------------------------------------------- the last step


async def test_the_other_models_are_forgotten(world: World) -> None:
    """Their vectors, indexes and notes go; the new model's proxies go on, the others are told why they cannot."""
    old = await world.open()
    await old.add_many(many(60))
    await reembed(world.store(**SMALL))
    new = await world.open(**SMALL)
    async with searching(new, 60, _SMALL_QUERY):
        n = await world.store(**SMALL).forget_others()
        again = await world.store(**SMALL).forget_others()
    fields = {name for name in world.ask("HKEYS", world.keys.example("e1")) if name.startswith("vector")}
    rows = await all_holdings(new)
    known = await stored(new, "e1")

    assert (n, again) == (60, 0)
    assert (len(fields), "vector" in fields) == (1, False)
    assert world.indexes() == ["flat"]
    assert {row["n_bytes"] for row in rows.values()} == {known.n_bytes}
    with pytest.raises(SchemaMismatch, match=r"by hashing \(8 dim.*got minilm \(4 dim"):
        await old.nearest(query())
    with pytest.raises(SchemaMismatch, match=r"by hashing \(8 dim.*got minilm \(4 dim"):
        await world.open()
    assert len(await (await world.open(**SMALL)).nearest(query(k=60, vector=_SMALL_QUERY))) == 60


async def test_the_way_back_is_the_same(world: World) -> None:
    """The first model gets a field of its own when it comes back."""
    old = await world.open()
    await old.add_many(many(4))
    await reembed(world.store(**SMALL))
    await world.store(**SMALL).forget_others()
    await reembed_back(world.store())
    await world.store().forget_others()

    assert ids(await (await world.open()).nearest(query())) == [f"e{i}" for i in range(4)]


async def reembed_back(store: RedisStore) -> None:
    """Give all examples vectors of the first model."""
    async with store.reembedding() as work:
        assert work is not None
        backlog = await work.stale(99)
        await work.rewrite([replace(one, vector=vector(int(one.id[1:]) / 4)) for one in backlog.examples])
        await work.stale(99)
        await work.finish()


async def test_nothing_is_forgotten_too_early(world: World) -> None:
    """Neither by a model that is not complete, nor while an example has only another's vector."""
    old = await world.open()
    await old.add(example("e"))
    with pytest.raises(SchemaMismatch, match="echo-proxy reembed"):
        await world.store(**SMALL).forget_others()
    await reembed(world.store(**SMALL))
    await old.add(example("late"))
    with pytest.raises(StoreError, match="must be embedded anew, 1 are not"):
        await world.store(**SMALL).forget_others()

    assert ids(await old.nearest(query())) == ["e", "late"]


async def test_forgetting_that_was_killed_goes_on(world: World) -> None:
    """After its first step nobody with another model opens; the same again does the rest."""
    old = await world.open()
    await old.add_many(many(60))
    await reembed(world.store(**SMALL))
    with pytest.raises(StoreError, match="killed"):
        await world.store(DyingStore, **SMALL).forget_others()
    with pytest.raises(SchemaMismatch, match="got minilm"):
        await world.open()
    n = await world.store(**SMALL).forget_others()

    assert n == 60
    assert world.indexes() == ["flat"]


class DyingSwitch(IndexSwitch):
    """Is killed before it drops an index."""

    async def drop(self, name: str) -> None:
        raise redis.ConnectionError(f"killed before {name} is dropped")


class DyingStore(RedisStore):
    """Has such a switch."""

    def _switch_of(self, field: str) -> IndexSwitch:
        return DyingSwitch(self._config, self._client, self._search_client(), field)


async def test_a_reembedding_that_an_earlier_version_left_is_done_anew(world: World) -> None:
    """It exchanged vectors in place, so what is there may be of either model: nobody reads it."""
    old = await world.open()
    await old.add(example("e"))
    world.ask("HSET", world.keys.meta, "reembedding", "minilm (4 dimensions)")
    world.ask("SADD", world.keys.reembedded, "x")
    for model in ({}, SMALL):
        with pytest.raises(SchemaMismatch, match="in part minilm"):
            await world.open(**model)
    seen = await reembed(world.store(**SMALL))
    await world.store(**SMALL).forget_others()
    found = ids(await (await world.open(**SMALL)).nearest(query(vector=_SMALL_QUERY)))

    assert seen == found == ["e"]
    assert not world.ask("EXISTS", world.keys.reembedded)
