"""SQLite keeps the store's promises."""

from collections.abc import Callable
from pathlib import Path

import pytest

from echo_proxy.protocols import Clock, Store
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.sqlite import SqliteStore
from tests.contracts import NOW, StoreContract, config_of, example, query
from tests.fakes import FrozenClock


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def new_store(self, tmp_path: Path) -> Callable[[StoreConfig, Clock], Store]:
        return lambda config, clock: SqliteStore(config, tmp_path / "echo.db", clock)


async def test_what_others_removed_is_forgotten_in_memory(tmp_path: Path) -> None:
    """A worker that only searches does not grow with every example that ever was."""
    policy, clock = config_of("p"), FrozenClock(NOW)
    reader, writer = (SqliteStore(policy, tmp_path / "echo.db", clock) for _ in range(2))
    await reader.open()
    await writer.open()
    for i in range(700):
        await writer.add(example(f"e{i % 10}"))
        await reader.nearest(query(scope="quiet"))
    n_rows = sum(len(bucket) for bucket in reader._mirror._buckets.values())
    found = await reader.nearest(query(k=99))
    await reader.close()
    await writer.close()

    assert n_rows < 300
    assert len(found) == 10
