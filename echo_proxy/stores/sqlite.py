"""Examples, decisions and evidence of one policy in a SQLite file, with an exact scan in memory: no server at all."""

import os
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from echo_proxy.errors import StoreError, StoreUnavailable
from echo_proxy.protocols import Clock, Reembedding
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.keys import tag
from echo_proxy.stores.lessons import read_page
from echo_proxy.stores.records import (
    check_finite,
    check_settlement,
    example_fields,
    vector_bytes,
    vector_from,
)
from echo_proxy.stores.scan import Bucket
from echo_proxy.stores.sqlite_ledger import LedgerTables
from echo_proxy.stores.sqlite_reembed import SqliteReembedding
from echo_proxy.stores.sqlite_tables import Tables
from echo_proxy.stores.sqlite_thread import SqliteThread
from echo_proxy.types import (
    ArmKey,
    ArmSums,
    Candidate,
    DecisionRecord,
    Example,
    LessonPage,
    Load,
    Query,
    Settlement,
    StoreStatus,
)

_REBUILD_AFTER = 256
"""Changes after which the memory is checked for rows that were removed elsewhere."""
_MAX_WASTE = 1.25
"""Rows in memory per row on disk beyond which they are read anew."""


class Mirror:
    """The vectors of the examples table in memory. Lives in one thread, beside the connection that it is given."""

    def __init__(self, tables: Tables, dimensions: int) -> None:
        self._tables = tables
        self._dimensions = dimensions
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._newest = 0
        self._version: int | None = None
        self._n_changes = 0

    def nearest(self, db: sqlite3.Connection, query: Query, where: tuple[str, str]) -> tuple[Candidate, ...]:
        """Candidates of a (scope, partition), nearest first. Rows that were removed are noticed here and forgotten."""
        self.refresh(db)
        bucket = self._buckets.get(where)
        while bucket:
            near = bucket.nearest(query.vector, query.k, query.max_distance, query.now)
            found = self._tables.examples_by_seq(db, [seq for seq, _ in near])
            if len(found) == len(near):
                return tuple(Candidate(found[seq], distance) for seq, distance in near)
            bucket.keep(self._tables.seqs_at(db, where))
        return ()

    def refresh(self, db: sqlite3.Connection) -> None:
        """Read what any process has written since."""
        version = db.execute("PRAGMA data_version").fetchone()[0]
        if version == self._version:
            return
        self._n_changes += 1
        if self._n_changes % _REBUILD_AFTER == 0:
            self._forget_waste(db)
        for row in self._tables.vectors_after(db, self._newest):
            bucket = self._buckets.setdefault((row["scope"], row["partition"]), Bucket(self._dimensions))
            bucket.append(row["seq"], row["expires_at"], vector_from(row["vector"]))
            self._newest = row["seq"]
        self._version = version

    def _forget_waste(self, db: sqlite3.Connection) -> None:
        n_rows = sum(len(bucket) for bucket in self._buckets.values())
        if n_rows > _MAX_WASTE * self._tables.n_examples(db):
            self._buckets, self._newest = {}, 0


class SqliteStore:
    """A Store in one file, shared by the processes of one machine. Belongs to one event loop."""

    def __init__(self, config: StoreConfig, path: Path | str, clock: Clock, *, busy_timeout_s: float = 5.0) -> None:
        self._config = config
        self._path = Path(path).expanduser()
        self._clock = clock
        self._busy_timeout_s = busy_timeout_s
        self._tables = Tables(config)
        self._ledger = LedgerTables(config)
        self._threads: tuple[SqliteThread, SqliteThread] | None = None
        self._mirror = Mirror(self._tables, config.dimensions)

    # ------------------------------------------------------------------ life

    async def open(self) -> None:
        """Make or check the tables and read the vectors. Raises SchemaMismatch, StoreUnavailable."""
        await self._connect()
        try:
            await self._writer.write(self._make)
            await self._reader.read(self._mirror.refresh)
        except BaseException:
            await self.close()
            raise

    def _make(self, db: sqlite3.Connection) -> None:
        self._tables.make(db)
        self._ledger.create(db)

    @asynccontextmanager
    async def reembedding(self) -> AsyncIterator[Reembedding | None]:
        """Locks all others out; None when the vectors fit already. Raises SchemaMismatch, StoreUnavailable."""
        await self._connect()
        try:
            work = SqliteReembedding(self._config, self._writer, self._clock)
            yield work if await work.begin() else None
        finally:
            await self.close()

    async def _connect(self) -> None:
        await self.close()
        path, busy_s = str(self._path), self._busy_timeout_s
        try:
            os.makedirs(self._path.parent, mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"the folder of {path} must be writable, got {error}") from error
        # two, so that a search never waits for a commit
        self._threads = (SqliteThread(path, busy_s, "reader"), SqliteThread(path, busy_s, "writer"))
        self._mirror = Mirror(self._tables, self._config.dimensions)

    async def close(self) -> None:
        """Let go of connections; idempotent."""
        threads, self._threads = self._threads, None
        for thread in threads or ():
            await thread.close()

    async def status(self) -> StoreStatus:
        """Whether it can serve; never raises."""
        engine = f"SQLite {sqlite3.sqlite_version} + exact scan"
        try:
            return StoreStatus(True, engine, await self._reader.read(self._tables.n_examples))
        except StoreError as error:
            return StoreStatus(False, engine, 0, str(error))

    @property
    def _reader(self) -> SqliteThread:
        return self._opened()[0]

    @property
    def _writer(self) -> SqliteThread:
        return self._opened()[1]

    def _opened(self) -> tuple[SqliteThread, SqliteThread]:
        if self._threads is None:
            raise StoreUnavailable("the store must be open, got a call before open() or after close()")
        return self._threads

    # ------------------------------------------------------------------ examples

    async def nearest(self, query: Query) -> tuple[Candidate, ...]:
        """Unexpired examples of the query's scope and partition within its distance, nearest first, k at most."""
        if query.k <= 0:
            return ()
        vector_bytes(query.vector, self._config.dimensions)
        where = (tag(query.scope), tag(query.partition))
        return await self._reader.read(lambda db: self._mirror.nearest(db, query, where))

    async def add(self, example: Example) -> None:
        """Keep it; an existing id is replaced. Raises SchemaMismatch on a wrong vector size, ValueError on no unit."""
        example_fields(example, self._config.dimensions)
        now = self._clock.now()
        await self._writer.write(lambda db: self._tables.add(db, example, now))

    async def get(self, example_id: str) -> Example | None:
        """The example, or None."""
        now = self._clock.now()
        return await self._reader.read(lambda db: self._tables.get(db, example_id, now))

    async def page(self, scope: str | None, offset: int, limit: int) -> tuple[Example, ...]:
        """Examples of a scope (None = all), newest first."""
        now = self._clock.now()
        return await self._reader.read(lambda db: self._tables.page(db, scope, now, offset, limit))

    async def remove(self, example_ids: Sequence[str]) -> int:
        """How many existed and are gone."""
        return await self._writer.write(lambda db: self._tables.remove(db, example_ids))

    # ------------------------------------------------------------------ ledger

    async def settle(self, settlement: Settlement) -> bool:
        """Apply record, increments and example increments at once; False when the revision is not the next one.

        Increments fade as if they had been known when the decision was taken, so late feedback replaces exactly what
        is left of the early guess. Raises ValueError on a number that is not finite.
        """
        check_settlement(settlement)
        now = self._clock.now()
        return await self._writer.write(lambda db: self._ledger.settle(db, settlement, now))

    async def decision(self, decision_id: str) -> DecisionRecord | None:
        """The record, or None when unknown or expired."""
        now = self._clock.now()
        return await self._reader.read(lambda db: self._ledger.decision(db, decision_id, now))

    async def decisions(self, scope: str | None, limit: int) -> tuple[DecisionRecord, ...]:
        """The newest settled decisions of a scope (None = all), newest first."""
        now = self._clock.now()
        return await self._reader.read(lambda db: self._ledger.decisions(db, scope, now, limit))

    async def sums(self) -> Mapping[ArmKey, ArmSums]:
        """Merged evidence of all workers, faded to now."""
        now = self._clock.now()
        return await self._reader.read(lambda db: self._ledger.sums(db, now))

    async def lessons(self, cursor: str, limit: int) -> LessonPage:
        """What was settled since the cursor, oldest first, limit at most; "" begins with the oldest that is kept."""
        return await read_page(self._lesson_entries, cursor, limit)

    async def _lesson_entries(self, cursor: str, limit: int) -> list[tuple[str, str]]:
        return await self._reader.read(lambda db: self._ledger.lessons(db, cursor, limit))

    async def report_loads(self, worker: str, loads: Mapping[str, Load], ttl_s: float) -> None:
        """Replace what a worker says of its deployments. Raises ValueError on a number that is not finite."""
        now = self._clock.now()
        await self._writer.write(lambda db: self._ledger.report_loads(db, worker, loads, now, now + ttl_s))

    async def loads(self) -> Mapping[str, Mapping[str, Load]]:
        """What the live workers say of their deployments, by worker."""
        now = self._clock.now()
        return await self._reader.read(lambda db: self._ledger.loads(db, now))

    async def remember_turn(self, conversation: str, deployment: str, ttl_s: float) -> None:
        """Note which deployment answered a conversation's last turn."""
        now = self._clock.now()
        await self._writer.write(lambda db: self._ledger.remember_turn(db, conversation, deployment, now, now + ttl_s))

    async def last_turn(self, conversation: str) -> str:
        """Deployment that answered a conversation's last turn; empty when unknown or forgotten."""
        now = self._clock.now()
        return await self._reader.read(lambda db: self._ledger.last_turn(db, conversation, now))

    async def count(self, counters: Mapping[tuple[str, str], float]) -> None:
        """Add to the counts by (scope, name). Raises ValueError on an amount that is not finite."""
        check_finite("a count", counters.values())
        await self._writer.write(lambda db: self._ledger.count(db, counters))

    async def counters(self, scope: str | None) -> Mapping[str, float]:
        """Counts of a scope (None = the sum over all), by name."""
        return await self._reader.read(lambda db: self._ledger.counters(db, scope))
