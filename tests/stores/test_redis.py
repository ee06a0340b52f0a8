"""A real Redis with vector search keeps the store's promises."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from echo_proxy.protocols import Clock, Store
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.redis import RedisStore
from tests.contracts import StoreContract


@pytest.mark.parametrize("index", ["flat", "hnsw"])
class TestRedisStore(StoreContract):
    @pytest.fixture
    def new_store(self, redis_url: str, index: str) -> Callable[[StoreConfig, Clock], Store]:
        return lambda config, clock: RedisStore(replace(config, index=index), redis_url, clock)
