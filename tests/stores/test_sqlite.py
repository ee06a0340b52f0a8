"""SQLite keeps the store's promises."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from echo_proxy.protocols import Clock, Store
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.lessons import lesson_text
from echo_proxy.stores.sqlite import SqliteStore
from echo_proxy.types import Which
from tests.contracts import NOW, StoreContract, config_of, example, ids, lesson, query, taught, taught_by
from tests.contracts_examples import ExamplesContract
from tests.contracts_reembed import LockingReembeddingContract
from tests.contracts_upkeep import UpkeepContract
from tests.fakes import FrozenClock


class TestSqliteStore(StoreContract, ExamplesContract, UpkeepContract, LockingReembeddingContract):
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


async def test_lessons_that_cannot_be_read_are_skipped(tmp_path: Path) -> None:
    """A newer worker's lessons keep nobody from learning, even where they fill a page."""
    store = SqliteStore(config_of("p"), tmp_path / "echo.db", FrozenClock(NOW))
    await store.open()
    with closing(sqlite3.connect(tmp_path / "echo.db")) as db:
        db.executemany("INSERT INTO lessons (policy, body) VALUES ('p', ?)", [("",), ('{"version": 2}',), ("[]",)])
        db.commit()
    await store.settle(taught("d"))
    page = await store.lessons("", 2)
    await store.close()

    assert taught_by(page.lessons) == ["d"]


async def test_what_has_ended_is_cleared_away(tmp_path: Path) -> None:
    """The file does not grow with every conversation and worker that ever was."""
    clock = FrozenClock(NOW)
    store = SqliteStore(config_of("p"), tmp_path / "echo.db", clock)
    await store.open()
    for i in range(20):
        clock.time = NOW + i
        await store.remember_turn(f"c{i}", "small", 5)
        await store.report_loads(f"w{i}", {}, 5)
    await store.close()
    with closing(sqlite3.connect(tmp_path / "echo.db")) as db:
        sizes = [db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in ("turns", "loads")]

    assert sizes == [5, 5]


async def test_memories_of_policies_are_capped_apart(tmp_path: Path) -> None:
    """A busy policy in the same file costs a quiet one nothing."""
    quiet, busy = (
        SqliteStore(config_of(policy, memory_length=10), tmp_path / "echo.db", FrozenClock(NOW)) for policy in "qb"
    )
    await quiet.open()
    await busy.open()
    for i in range(60):
        await busy.settle(taught(f"b{i}"))
        if i % 10 == 0:
            await quiet.settle(taught(f"q{i}"))
    n_quiet, n_busy = [len((await store.lessons("", 99)).lessons) for store in (quiet, busy)]
    await quiet.close()
    await busy.close()

    assert (n_quiet, n_busy) == (6, 10)


async def test_lessons_are_forgotten_with_their_decisions(tmp_path: Path) -> None:
    """When the next one is settled."""
    clock = FrozenClock(NOW)
    store = SqliteStore(config_of("p", decision_ttl_s=100.0), tmp_path / "echo.db", clock)
    await store.open()
    await store.settle(taught("old"))
    clock.time += 101.0
    await store.settle(taught("new"))
    page = await store.lessons("", 10)
    await store.close()

    assert taught_by(page.lessons) == ["new"]


async def test_lessons_of_an_earlier_version_are_kept(tmp_path: Path) -> None:
    """Its table has fewer columns, which are added."""
    with closing(sqlite3.connect(tmp_path / "echo.db")) as db:
        columns = "seq INTEGER PRIMARY KEY AUTOINCREMENT, policy TEXT NOT NULL, body TEXT NOT NULL"
        db.execute(f"CREATE TABLE lessons ({columns})")
        db.execute("INSERT INTO lessons (policy, body) VALUES ('p', ?)", (lesson_text(lesson("before")),))
        db.commit()
    store = SqliteStore(config_of("p"), tmp_path / "echo.db", FrozenClock(NOW))
    await store.open()
    await store.settle(taught("now"))
    page = await store.lessons("", 10)
    await store.close()

    assert taught_by(page.lessons) == ["before", "now"]


async def test_a_walk_crosses_what_was_removed(tmp_path: Path) -> None:
    """However far apart the rows lie that are left, and whoever's rows lie between them."""
    one, other = (SqliteStore(config_of(policy), tmp_path / "echo.db", FrozenClock(NOW)) for policy in "ab")
    await one.open()
    await other.open()
    await one.add(example("first"))
    await other.add_many([example(f"e{i}") for i in range(12_000)])
    await one.add_many([example("second"), example("third")])
    pages, cursor = 0, ""
    found: list[str] = []
    while pages == 0 or cursor:
        page = await one.find(Which(), cursor, 2)
        found += ids(page.examples)
        pages, cursor = pages + 1, page.cursor
    await one.close()
    await other.close()

    assert found == ["first", "second", "third"]
    assert pages <= 3
