"""The fake store of the other tests keeps a store's promises."""

from collections.abc import Callable

import pytest

from echo_proxy.protocols import Clock
from echo_proxy.stores.config import StoreConfig
from tests.contracts import LedgerContract
from tests.contracts_upkeep import UpkeepContract
from tests.fakes import MemoryStore


class TestMemoryStore(LedgerContract, UpkeepContract):
    @pytest.fixture
    def new_store(self) -> Callable[[StoreConfig, Clock], MemoryStore]:
        """Workers of one policy share a store."""
        made: dict[str, MemoryStore] = {}
        return lambda config, clock: made.setdefault(config.policy, MemoryStore(clock))
