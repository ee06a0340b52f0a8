"""A thread with a SQLite connection of its own, so that the event loop never waits for a disk."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from echo_proxy.errors import StoreUnavailable

T = TypeVar("T")

_SETTINGS = (
    "PRAGMA journal_mode=WAL",  # readers go on while a worker writes
    # FULL waits for the disk at every commit: what was acknowledged survives kill -9 and a power cut. NORMAL would do
    # for kill -9 alone; writes happen after the answer has reached the caller, so they can afford the wait
    "PRAGMA synchronous=FULL",
)


class SqliteThread:
    """Runs work on one connection, in order of arrival. Raises StoreUnavailable for every error of SQLite."""

    def __init__(self, path: str, busy_timeout_s: float, name: str) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"echo-sqlite-{name}")
        self._connection: sqlite3.Connection | None = None

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What the work returns. Several statements may see different states."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._call, work)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What the work returns, once it is on disk; when it raises, nothing of it is."""
        return await self.read(lambda connection: _in_transaction(connection, work))

    async def close(self) -> None:
        """Close the connection and end the thread."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._disconnect)
        self._executor.shutdown(wait=False)

    def _call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._connect()
            return work(self._connection)
        except sqlite3.Error as error:
            raise StoreUnavailable(f"SQLite failed at {self._path}: {type(error).__name__}: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=self._busy_timeout_s, isolation_level=None)
        try:
            for setting in _SETTINGS:
                connection.execute(setting)
        except sqlite3.Error:
            connection.close()
            raise
        connection.row_factory = sqlite3.Row
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _in_transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """IMMEDIATE takes the write lock before anything is read, so what was read is still true when it is written."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result
