"""A real Redis with vector search keeps the store's promises."""

import uuid
from collections.abc import Callable
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from echo_proxy.protocols import Clock, Store
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.keys import Keys
from echo_proxy.stores.lessons import lesson_text
from echo_proxy.stores.redis import RedisStore
from tests.contracts import NOW, StoreContract, config_of, lesson, taught, taught_by
from tests.contracts_examples import ExamplesContract
from tests.contracts_reembed import ReembeddingContract
from tests.contracts_upkeep import LetEnd, UpkeepContract
from tests.fakes import FrozenClock
from tests.stores.servers import PATIENT


@pytest.mark.parametrize("index", ["flat", "hnsw"])
class TestRedisStore(StoreContract, ExamplesContract, UpkeepContract, ReembeddingContract):
    @pytest.fixture
    def new_store(self, redis_url: str, index: str) -> Callable[[StoreConfig, Clock], Store]:
        return lambda config, clock: RedisStore(replace(config, index=index), redis_url, clock, **PATIENT)

    @pytest.fixture
    def let_leases_end(self, redis_url: str) -> LetEnd:
        """As if the server's own clock had gone on."""

        async def end() -> None:
            async with Redis.from_url(redis_url) as client:
                async for key in client.scan_iter("echo:{*}:lease:*"):
                    await client.pexpireat(key, 1)

        return end


async def test_lessons_are_forgotten_with_their_decisions(redis_url: str) -> None:
    """Entries are named by the server's own clock; the oldest go when the next one is settled."""
    config = config_of(f"t{uuid.uuid4().hex[:12]}")
    store = RedisStore(config, redis_url, FrozenClock(NOW), **PATIENT)
    await store.open()
    key = Keys(config.policy).lessons
    async with Redis.from_url(redis_url) as client:
        await client.xadd(key, {"kind": "lesson", "body": lesson_text(lesson("old"))}, id="1-0")
        before = taught_by((await store.lessons("", 10)).lessons)
        await store.settle(taught("new"))
        ends_ms = await client.pexpiretime(key)
    after = taught_by((await store.lessons("", 10)).lessons)
    await store.close()

    assert (before, after) == (["old"], ["new"])
    assert ends_ms == (NOW + config.decision_ttl_s) * 1000
