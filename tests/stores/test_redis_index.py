"""The index is made, checked and mended without ever losing an example."""

import pytest
import redis

from echo_proxy.errors import SchemaMismatch, StoreError, StoreUnavailable
from echo_proxy.stores.keys import Keys
from echo_proxy.stores.redis import RedisStore
from tests.contracts import NOW, SMALL, config_of, example, ids, query, reembed, settlement
from tests.fakes import FrozenClock
from tests.stores.servers import NewServer, eventually

CLOCK = FrozenClock(NOW)


async def opened(url: str, policy: str, **changes: object) -> RedisStore:
    """A store that is ready."""
    store = RedisStore(config_of(policy, **changes), url, CLOCK)
    await store.open()
    return store


@pytest.mark.parametrize(("before", "after"), [("flat", "hnsw"), ("hnsw", "flat")])
async def test_the_kind_of_index_can_change(redis_url: str, before: str, after: str) -> None:
    """It is built anew over the same examples, and searchable when open() returns."""
    store = await opened(redis_url, f"from-{before}", index=before)
    for i in range(200):
        await store.add(example(f"e{i}", i / 200))
    await store.close()
    store = await opened(redis_url, f"from-{before}", index=after)
    found = await store.nearest(query(k=200))
    await store.close()

    assert ids(found) == [f"e{i}" for i in range(200)]


async def test_an_index_that_vanished_is_made_again(redis_url: str) -> None:
    """One call fails; it is built anew in the background and finds what is there."""
    store = await opened(redis_url, "vanished")
    await store.add(example("e"))
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        client.execute_command("FT.DROPINDEX", Keys("vanished").index)
    with pytest.raises(StoreUnavailable, match="nearest"):
        await store.nearest(query())

    async def is_found() -> bool:
        return ids(await store.nearest(query())) == ["e"]

    await eventually(is_found, "the example is found again")
    await store.close()


async def test_a_store_of_another_version_is_refused(redis_url: str) -> None:
    """Its fields might mean something else."""
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        client.hset(Keys("future").meta, "schema", "99")
    with pytest.raises(SchemaMismatch, match="must have schema 1, got 99"):
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


async def test_a_reembedding_leaves_neighbours_alone(redis_url: str) -> None:
    """A policy's name may hold what a pattern would expand: the examples of other policies stay as they are."""
    for policy in ("re*[x]?", "reX[x]y"):
        store = await opened(redis_url, policy)
        await store.add(example("e"))
        await store.close()
    seen = await reembed(RedisStore(config_of("re*[x]?", **SMALL), redis_url, CLOCK))
    neighbour = await opened(redis_url, "reX[x]y")
    found = await neighbour.nearest(query())
    await neighbour.close()

    assert seen == ["e"]
    assert ids(found) == ["e"]
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        assert not client.exists(Keys("re*[x]?").reembedded)
        assert set(client.hgetall(Keys("re*[x]?").meta)) == {b"schema", b"model", b"dimensions"}
