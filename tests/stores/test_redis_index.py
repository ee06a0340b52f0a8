"""The index is made, checked and mended without ever losing an example."""

import json
from contextlib import suppress

import pytest
import redis

from echo_proxy.errors import SchemaMismatch, StoreError, StoreUnavailable
from echo_proxy.stores.keys import Keys
from echo_proxy.stores.redis import RedisStore
from tests.contracts import NOW, SMALL, config_of, example, ids, query, reembed, settlement, taught, taught_by
from tests.fakes import FrozenClock
from tests.stores.servers import PATIENT, NewServer, eventually

CLOCK = FrozenClock(NOW)


async def opened(url: str, policy: str, **changes: object) -> RedisStore:
    """A store that is ready."""
    store = RedisStore(config_of(policy, **changes), url, CLOCK, **PATIENT)
    await store.open()
    return store


@pytest.mark.parametrize(("before", "after"), [("flat", "hnsw"), ("hnsw", "flat")])
async def test_the_kind_of_index_can_change(redis_url: str, before: str, after: str) -> None:
    """Another one is built over the same examples, and all are searchable when open() returns."""
    store = await opened(redis_url, f"from-{before}", index=before)
    for i in range(200):
        await store.add(example(f"e{i}", i / 200))
    await store.close()
    store = await opened(redis_url, f"from-{before}", index=after)
    found = await store.nearest(query(k=200))
    await store.close()

    assert ids(found) == [f"e{i}" for i in range(200)]


async def test_an_index_that_vanished_is_made_again(redis_url: str) -> None:
    """Calls may fail; it is built anew in the background and finds what is there."""
    store = await opened(redis_url, "vanished")
    await store.add(example("e"))
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        client.execute_command("FT.DROPINDEX", Keys("vanished").index)

    async def is_found() -> bool:
        with suppress(StoreUnavailable):
            return ids(await store.nearest(query())) == ["e"]
        return False

    await eventually(is_found, "the example is found again")
    await store.close()


async def test_a_store_of_another_version_is_refused(redis_url: str) -> None:
    """Its fields might mean something else."""
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        client.hset(Keys("future").meta, "schema", "99")
    with pytest.raises(SchemaMismatch, match="must have schema 2, got 99"):
        await opened(redis_url, "future")


async def test_a_redis_without_search_is_named(new_server: NewServer) -> None:
    """An operator learns what is missing."""
    server = new_server(has_search=False)
    with pytest.raises(
        StoreError, match=r"must have vector search \(Redis 8 or later, or the search module\), got none"
    ):
        await opened(server.url, "p")


async def test_a_full_redis_is_unavailable(new_server: NewServer) -> None:
    """It refuses writes until its operator makes room; nothing of the settlement is applied."""
    server = new_server()
    store = await opened(server.url, "p")
    server.ask("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreUnavailable, match="settle"):
        await store.settle(settlement("d"))
    server.ask("CONFIG", "SET", "maxmemory", "0")
    applied = await store.settle(settlement("d"))
    await store.close()

    assert applied


async def test_keys_expire_by_themselves(redis_url: str) -> None:
    """Redis forgets examples and decisions at their own time, whoever is or is not running."""
    store = await opened(redis_url, "expiry", decision_ttl_s=60.0)
    await store.add(example("e", expires_at=NOW + 5.5))
    await store.add(example("forever", expires_at=float("inf")))
    await store.settle(settlement("d"))
    keys = Keys("expiry")
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        ends = [client.pexpiretime(key) for key in (keys.example("e"), keys.decision("d"), keys.example("forever"))]
        client.pexpireat(keys.example("e"), 1)
    found = await store.nearest(query())
    await store.close()

    assert ends == [int((NOW + 5.5) * 1000), int((NOW + 60) * 1000), 10**14]
    assert ids(found) == ["forever"]


async def test_the_log_is_capped(redis_url: str) -> None:
    """It keeps about the newest log_length decisions, in whole blocks of the stream."""
    store = await opened(redis_url, "capped", log_length=100)
    for i in range(350):
        await store.settle(settlement(f"d{i}"))
    listed = ids(await store.decisions(None, 1000))
    await store.close()

    assert 100 <= len(listed) < 300
    assert listed[0] == "d349"


async def test_one_scope_is_found_far_back_in_the_log(redis_url: str) -> None:
    """A quiet scope's decisions are listed although a busy one's fill the newest part of the log."""
    store = await opened(redis_url, "busy", log_length=5000)
    await store.settle(settlement("quiet", scope="quiet"))
    for i in range(600):
        await store.settle(settlement(f"d{i}", scope="busy"))
    listed = await store.decisions("quiet", 1)
    await store.close()

    assert ids(listed) == ["quiet"]


async def test_a_scopes_log_is_its_own(redis_url: str) -> None:
    """Listing a scope needs nothing of the log of all; it is capped like it, and goes with its last decision."""
    store = await opened(redis_url, "scoped", log_length=100, decision_ttl_s=60.0)
    for i in range(350):
        await store.settle(settlement(f"d{i}"))
    await store.settle(settlement("d349", 2))
    keys = Keys("scoped")
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        end = client.pexpiretime(keys.scope_log("key:a"))
        client.unlink(keys.log)
    listed = ids(await store.decisions("key:a", 1000))
    await store.close()

    assert end == int((NOW + 60) * 1000)
    assert 100 <= len(listed) < 300
    assert listed[0] == "d349"


async def test_what_workers_say_expires_by_itself(redis_url: str) -> None:
    """Redis forgets it when they are gone, the longest-lived last; who speaks clears the silent ones away."""
    store = await opened(redis_url, "silent")
    keys = Keys("silent")
    await store.remember_turn("c", "small", 2.5)
    await store.report_loads("long", {}, 9)
    await store.report_loads("short", {}, 5)
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        ends = [client.pexpiretime(key) for key in (keys.conversation("c"), keys.loads)]
        client.hset(keys.loads, mapping={"old": '{"until": 1, "loads": {}}', "odd": "not JSON", "list": "[]"})
        seen = await store.loads()
        await store.report_loads("long", {}, 9)
        left = client.hkeys(keys.loads)
    await store.close()

    assert ends == [int((NOW + 2.5) * 1000), int((NOW + 9) * 1000)]
    assert seen == {"long": {}, "short": {}}
    assert set(left) == {b"long", b"short"}


async def test_lessons_read_well(redis_url: str) -> None:
    """An operator sees which decision taught what."""
    store = await opened(redis_url, "readable")
    await store.settle(taught("d"))
    await store.settle(taught("d", 2))
    await store.close()
    with redis.Redis.from_url(redis_url, protocol=2, decode_responses=True) as client:
        entries = [fields for _, fields in client.xrange(Keys("readable").lessons)]

    assert [(one["decision"], one["kind"]) for one in entries] == [("d", "lesson"), ("d", "amendment")]
    assert json.loads(entries[1]["body"])["quality_weight"] == 1.0


async def test_lessons_that_cannot_be_read_are_skipped(redis_url: str) -> None:
    """A newer worker's lessons, or somebody's hand, keep nobody from learning, even where they fill a page."""
    store = await opened(redis_url, "odd")
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        for fields in ({"body": '{"version": 2}'}, {"other": "x"}, {"body": b"\xff"}, {"body": "[]"}):
            client.xadd(Keys("odd").lessons, fields)
        await store.settle(taught("d"))
        last = client.xadd(Keys("odd").lessons, {"body": ""})
    page = await store.lessons("", 2)
    rest = await store.lessons(page.cursor, 2)
    await store.close()

    assert taught_by(page.lessons) == ["d"]
    assert (rest.lessons, rest.cursor) == ((), last.decode())


async def test_a_reembedding_leaves_neighbours_alone(redis_url: str) -> None:
    """A policy's name may hold what a pattern would expand: the examples of other policies stay as they are."""
    for policy in ("re*[x]?", "reX[x]y"):
        store = await opened(redis_url, policy)
        await store.add(example("e"))
        await store.close()
    seen = await reembed(RedisStore(config_of("re*[x]?", **SMALL), redis_url, CLOCK, **PATIENT))
    neighbour = await opened(redis_url, "reX[x]y")
    found = await neighbour.nearest(query())
    await neighbour.close()

    assert seen == ["e"]
    assert ids(found) == ["e"]
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        assert not client.exists(Keys("re*[x]?").reembedded)
        assert client.hget(Keys("reX[x]y").meta, "model") == b"hashing"
