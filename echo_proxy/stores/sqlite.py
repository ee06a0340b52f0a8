"""Examples, decisions and evidence of one policy in a SQLite file, with an exact scan in memory: no server at all."""

import os
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from echo_proxy.errors import StoreError, StoreUnavailable
from echo_proxy.protocols import Clock, Reembedding
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.lessons import read_page
from echo_proxy.stores.records import check_finite, check_settlement
from echo_proxy.stores.sqlite_examples import SqliteExamples
from echo_proxy.stores.sqlite_mirror import Mirror
from echo_proxy.stores.sqlite_reembed import SqliteReembedding
from echo_proxy.stores.sqlite_thread import SqliteThread
from echo_proxy.types import ArmKey, ArmSums, DecisionRecord, LessonPage, Load, Settlement, StoreStatus


class SqliteStore(SqliteExamples):
    """A Store in one file, shared by the processes of one machine. Belongs to one event loop."""

    locks_out = True
    """A row has one vector, of the one model that all rows have."""

    def __init__(self, config: StoreConfig, path: Path | str, clock: Clock, *, busy_timeout_s: float = 5.0) -> None:
        super().__init__(config, path, clock)
        self._busy_timeout_s = busy_timeout_s

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
        self._leases.create(db)

    async def forget_others(self) -> int:
        """0: a reembedding has overwritten them. Raises SchemaMismatch, StoreUnavailable."""
        await self._connect()
        try:
            await self._writer.write(self._make)
        finally:
            await self.close()
        return 0

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
