"""A store of schema 1 is brought to schema 2 when it is opened: nothing is lost, nobody sees more than before."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from echo_proxy.errors import SchemaMismatch, StoreUnavailable
from echo_proxy.protocols import Store
from echo_proxy.stores.keys import Keys, tag
from echo_proxy.stores.records import vector_bytes
from echo_proxy.stores.redis import RedisStore
from echo_proxy.stores.sqlite import SqliteStore
from echo_proxy.types import Example, Held, Which
from tests.contracts import DIMENSIONS, NOW, SMALL, config_of, example, ids, query, reembed
from tests.contracts_examples import all_holdings, same, stored, walked
from tests.fakes import FrozenClock
from tests.stores.servers import PATIENT

CLOCK = FrozenClock(NOW)
OLD_FIELDS = (
    *("scope", "partition", "request", "response", "vector", "teacher", "decision_id"),
    *("writer", "quality", "n_tokens", "created_at", "expires_at", "uses", "gain"),
)
OLD_META = {"schema": "1", "model": "hashing", "dimensions": str(DIMENSIONS)}
OLD_TABLES = """
CREATE TABLE meta (policy TEXT PRIMARY KEY, meta TEXT NOT NULL);
CREATE TABLE examples (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    policy TEXT NOT NULL, id TEXT NOT NULL, scope TEXT NOT NULL, partition TEXT NOT NULL,
    request TEXT NOT NULL, response TEXT NOT NULL, vector BLOB NOT NULL, teacher TEXT NOT NULL,
    decision_id TEXT NOT NULL, writer TEXT NOT NULL, quality REAL NOT NULL, n_tokens INTEGER NOT NULL,
    created_at REAL NOT NULL, expires_at REAL NOT NULL, uses REAL NOT NULL, gain REAL NOT NULL,
    UNIQUE (policy, id)
);
"""


def old_examples(n: int) -> Sequence[Example]:
    """Written before there was a quarantine."""
    return [example(f"e{i}", i / n, writer="a" if i % 2 else "b", uses=i / 3) for i in range(n)]


def old_fields(one: Example) -> dict[str, Any]:
    """As schema 1 kept it."""
    out: dict[str, Any] = {name: getattr(one, name) for name in OLD_FIELDS}
    tags = {name: tag(out[name]) for name in ("scope", "partition", "teacher", "writer")}
    return out | tags | {"vector": vector_bytes(one.vector, DIMENSIONS)}


class OldRedis:
    """A policy in Redis as schema 1 left it."""

    def __init__(self, url: str, policy: str) -> None:
        self.url = url
        self.keys = Keys(policy)
        self.config = config_of(policy)

    def write(self, examples: Sequence[Example], meta: dict[str, str] | None = None) -> None:
        with redis.Redis.from_url(self.url, protocol=2) as client:
            client.hset(self.keys.meta, mapping=meta or OLD_META)  # type: ignore[arg-type]
            with client.pipeline(transaction=False) as pipe:
                for one in examples:
                    pipe.hset(self.keys.example(one.id), mapping=old_fields(one))
                pipe.execute()

    def make_index(self) -> None:
        kinds: list[str] = []
        for name in ("scope", "partition", "teacher", "writer"):
            kinds += [name, "TAG", "CASESENSITIVE"]
        for name in ("expires_at", "quality", "uses", "gain", "n_tokens", "created_at"):
            kinds += [name, "NUMERIC"]
        vector = ["vector", "VECTOR", "FLAT", "6", "TYPE", "FLOAT32", "DIM", "8", "DISTANCE_METRIC", "COSINE"]
        with redis.Redis.from_url(self.url, protocol=2) as client:
            prefix = ("ON", "HASH", "PREFIX", 1, self.keys.example_prefix, "SCHEMA")
            client.execute_command("FT.CREATE", self.keys.index, *prefix, *kinds, *vector)

    def ask(self, *command: object) -> Any:
        with redis.Redis.from_url(self.url, protocol=2, decode_responses=True) as client:
            return client.execute_command(*command)

    def store(self, **changes: object) -> RedisStore:
        return RedisStore(replace(self.config, **changes), self.url, CLOCK, **PATIENT)  # type: ignore[arg-type]


class DyingStore(RedisStore):
    """Is killed while it gives examples the fields that they lack, before its n-th step."""

    n_steps = 3

    async def _run(self, doing: str, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        if doing == "upgrading":
            if self.n_steps == 0:
                raise redis.ConnectionError("killed")
            self.n_steps -= 1
        return await super()._run(doing, script, keys, arguments)


@asynccontextmanager
async def opened(store: Store) -> AsyncIterator[Store]:
    """The store, ready; closed afterwards."""
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    """A SQLite file as schema 1 left it: policies p and q with four examples each."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(OLD_TABLES)
        for policy in "pq":
            db.execute("INSERT INTO meta VALUES (?, ?)", (policy, json.dumps(OLD_META)))
            for one in old_examples(4):
                _insert(db, policy, one)
        db.commit()
    return path


def _insert(db: sqlite3.Connection, policy: str, one: Example) -> None:
    fields = {"policy": policy, "id": one.id, **old_fields(one)}
    marks = ", ".join("?" * len(fields))
    db.execute(f"INSERT INTO examples ({', '.join(fields)}) VALUES ({marks})", list(fields.values()))


def of_file(path: Path, policy: str = "p", **changes: object) -> SqliteStore:
    """A store of this version on it."""
    return SqliteStore(config_of(policy, **changes), path, CLOCK)


async def check_upgraded(store: Store, known: Sequence[Example]) -> None:
    """Every example is as it was and serves whom it served; what is new of it can be searched for."""
    found = await store.nearest(query(reader="somebody", k=len(known)))
    held = [one for one in known if one.writer == "b"]
    before = await stored(store, "e1")

    assert ids(found) == [one.id for one in known]
    assert all(same(candidate.example, one) for candidate, one in zip(found, known, strict=True))
    assert await store.held_by("b") == Held(len(held), sum(one.n_bytes for one in held))
    assert await walked(store, Which(origin="traffic", in_quarantine=False), 1000) == sorted(ids(known))
    assert {name: row["n_bytes"] for name, row in (await all_holdings(store)).items()} == {
        one.id: one.n_bytes for one in known
    }
    assert await store.change(before, replace(before, reader="b"))
    assert "e1" not in ids(await store.nearest(query(reader="somebody", k=len(known))))


# ---------------------------------------------------------------------- Redis


@pytest.mark.parametrize("has_index", [True, False])
async def test_a_redis_of_schema_1_is_upgraded(redis_url: str, has_index: bool) -> None:
    """Fields are added, another index takes over, and the new schema is noted."""
    old = OldRedis(redis_url, f"upgraded-{has_index}")
    old.write(old_examples(50))
    if has_index:
        old.make_index()
    async with opened(old.store()) as store:
        await check_upgraded(store, old_examples(50))

    assert old.ask("HGET", old.keys.meta, "schema") == "2"


async def test_workers_upgrade_at_once(redis_url: str) -> None:
    """All of them open, and all of them find everything."""
    old = OldRedis(redis_url, "upgraded-at-once")
    known = old_examples(1500)
    old.write(known)
    old.make_index()
    stores = [old.store() for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    for store in stores:
        assert len(await store.nearest(query(reader="somebody", k=2000))) == 1500
        assert len(await all_holdings(store)) == 1500
    await check_upgraded(stores[0], known)
    for store in stores:
        await store.close()


async def test_an_upgrade_that_was_killed_goes_on(redis_url: str) -> None:
    """Until its end it is noted that examples lack fields; the next worker does the rest and undoes nothing."""
    old = OldRedis(redis_url, "upgrade-killed")
    known = old_examples(3000)
    old.write(known)
    old.make_index()
    dying = DyingStore(old.config, redis_url, CLOCK, **PATIENT)  # type: ignore[arg-type]
    with pytest.raises(StoreUnavailable, match="killed"):
        await dying.open()
    is_noted = old.ask("HGET", old.keys.meta, "upgrading_from") == "1"
    has_old_index = old.keys.index in old.ask("FT._LIST")  # proxies that still run search it
    n_done = sum(old.ask("HEXISTS", old.keys.example(one.id), "reader") for one in known)
    async with opened(old.store()) as store:
        await check_upgraded(store, known)

    assert is_noted
    assert has_old_index
    assert 0 < n_done < 3000
    assert not old.ask("HEXISTS", old.keys.meta, "upgrading_from")


async def test_a_long_upgrade_keeps_nobody_waiting(redis_url: str) -> None:
    """Opening gives up in time, and every attempt does a part of what is left."""
    old = OldRedis(redis_url, "upgrade-long")
    old.write(old_examples(300))
    hasty = RedisStore(old.config, redis_url, CLOCK, **(PATIENT | {"open_timeout_s": 0.0}))
    with pytest.raises(StoreUnavailable, match="that still lack them"):
        await hasty.open()
    n_done = sum(old.ask("HEXISTS", old.keys.example(f"e{i}"), "reader") for i in range(300))
    async with opened(old.store()) as store:
        await check_upgraded(store, old_examples(300))

    assert 0 <= n_done < 300


async def test_what_has_a_reader_keeps_it(redis_url: str) -> None:
    """An upgrade never opens a quarantine, nor does it take a version back."""
    old = OldRedis(redis_url, "upgrade-careful")
    old.write(old_examples(3))
    old.ask("HSET", old.keys.example("e0"), "reader", "b")
    old.ask("HSET", old.keys.example("e1"), "version", "5")
    async with opened(old.store()) as store:
        found = await store.nearest(query(reader="somebody"))
        versions = [(await stored(store, name)).version for name in ("e1", "e2")]

    assert ids(found) == ["e1", "e2"]
    assert versions == [5, 1]


async def test_what_an_earlier_version_adds_later_serves_nobody(redis_url: str) -> None:
    """A worker that still runs with the old program does not say whom its examples serve: they fail closed."""
    old = OldRedis(redis_url, "upgrade-late")
    async with opened(old.store()) as store:
        old.write([example("late")], meta={"model": "hashing"})
        found = [ids(await store.nearest(query(reader=reader))) for reader in ("a", "", None)]
        late = await stored(store, "late")
        rows = await all_holdings(store)

    assert found == [[], [], ["late"]]
    assert (late.reader, late.version) == ("a", 1)
    assert (rows["late"]["n_bytes"], rows["late"]["versions"]) == (example("late").n_bytes, 1)


@pytest.mark.parametrize("schema", ["3", "0", "", "x"])
async def test_a_redis_of_an_unknown_schema_is_left_alone(redis_url: str, schema: str) -> None:
    """Only what is known to be older is upgraded."""
    old = OldRedis(redis_url, f"unknown-{schema}")
    old.write(old_examples(2), meta=OLD_META | {"schema": schema})
    with pytest.raises(SchemaMismatch, match=f"must have schema 2, got {schema}"):
        await old.store().open()
    with pytest.raises(SchemaMismatch, match=f"must have schema 2, got {schema}"):
        async with old.store(**SMALL).reembedding():
            pass

    assert old.ask("HGET", old.keys.meta, "schema") == schema
    assert not old.ask("HEXISTS", old.keys.example("e0"), "reader")


async def test_another_models_redis_is_not_upgraded_by_opening(redis_url: str) -> None:
    """Whoever is refused changes nothing; a reembedding does both."""
    old = OldRedis(redis_url, "upgrade-model")
    old.write(old_examples(5))
    with pytest.raises(SchemaMismatch, match="must have been embedded by minilm"):
        await old.store(**SMALL).open()
    schema = old.ask("HGET", old.keys.meta, "schema")
    seen = await reembed(old.store(**SMALL))
    async with opened(old.store(**SMALL)) as store:
        rows = await all_holdings(store)
        found = await store.nearest(query(vector=-example("").vector[:4], reader="somebody"))

    assert schema == "1"
    assert sorted(seen) == ids(found) == [f"e{i}" for i in range(5)]
    assert {row["n_bytes"] for row in rows.values()} == {found[0].example.n_bytes}


# ---------------------------------------------------------------------- SQLite


async def test_a_file_of_schema_1_is_upgraded(old_file: Path) -> None:
    """Columns are added for all policies; each one's examples are upgraded when it is opened."""
    async with opened(of_file(old_file)) as store:
        await check_upgraded(store, old_examples(4))
    with closing(sqlite3.connect(old_file)) as db:
        schemas = [json.loads(meta)["schema"] for (meta,) in db.execute("SELECT meta FROM meta ORDER BY policy")]
        n_open = db.execute("SELECT COUNT(*) FROM examples WHERE policy = 'q' AND reader IS NOT NULL").fetchone()[0]
    async with opened(of_file(old_file, "q")) as store:
        await check_upgraded(store, old_examples(4))

    assert (schemas, n_open) == (["2", "1"], 0)


async def test_workers_upgrade_a_file_at_once(old_file: Path) -> None:
    """One of them does it, the others find it done."""
    stores = [of_file(old_file) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    for store in stores:
        assert len(await store.nearest(query(reader="somebody"))) == 4
        await store.close()


async def test_what_an_earlier_version_adds_to_a_file_later_serves_nobody(old_file: Path) -> None:
    """It does not say whom it serves: it fails closed until the next one opens the file, and its bytes count."""
    async with opened(of_file(old_file)) as store:
        with closing(sqlite3.connect(old_file)) as db:
            _insert(db, "p", example("late"))
            db.commit()
        found = [ids(await store.nearest(query(reader=reader))) for reader in ("a", "", None)]
        rows = await all_holdings(store)
        in_quarantine = await walked(store, Which(in_quarantine=True), 10)

    async with opened(of_file(old_file)) as store:
        later = ids(await store.nearest(query(reader="somebody")))

    assert ["late" in names for names in found] == [False, False, True]
    assert (rows["late"]["n_bytes"], rows["late"]["versions"]) == (example("late").n_bytes, 1)
    assert in_quarantine == ["late"]
    assert "late" in later


async def test_a_file_of_an_unknown_schema_is_left_alone(old_file: Path) -> None:
    """Only what is known to be older is upgraded."""
    with closing(sqlite3.connect(old_file)) as db:
        db.execute("UPDATE meta SET meta = ? WHERE policy = 'p'", (json.dumps(OLD_META | {"schema": "3"}),))
        db.commit()
    with pytest.raises(SchemaMismatch, match="must have schema 2, got 3"):
        await of_file(old_file).open()
    with closing(sqlite3.connect(old_file)) as db:
        columns = {row[1] for row in db.execute("PRAGMA table_info(examples)")}

    assert "reader" not in columns


async def test_a_file_of_schema_1_can_be_reembedded(old_file: Path) -> None:
    """It is upgraded on the way; sizes are those of the new vectors."""
    seen = await reembed(of_file(old_file, **SMALL))
    async with opened(of_file(old_file, **SMALL)) as store:
        rows = await all_holdings(store)
        found = await store.nearest(query(vector=-example("").vector[:4], reader="somebody"))

    assert sorted(seen) == ids(found) == [f"e{i}" for i in range(4)]
    assert {row["n_bytes"] for row in rows.values()} == {found[0].example.n_bytes}
