"""SQLite keeps the store's promises."""

from collections.abc import Callable
from pathlib import Path

import pytest

from echo_proxy.protocols import Clock, Store
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.sqlite import SqliteStore
from tests.contracts import StoreContract


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def new_store(self, tmp_path: Path) -> Callable[[StoreConfig, Clock], Store]:
        return lambda config, clock: SqliteStore(config, tmp_path / "echo.db", clock)
