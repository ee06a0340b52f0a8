"""What do all parts of the store in SQLite share?"""

from pathlib import Path

from echo_proxy.errors import StoreUnavailable
from echo_proxy.protocols import Clock
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.sqlite_leases import LeaseTables
from echo_proxy.stores.sqlite_ledger import LedgerTables
from echo_proxy.stores.sqlite_mirror import Mirror
from echo_proxy.stores.sqlite_tables import Tables
from echo_proxy.stores.sqlite_thread import SqliteThread
from echo_proxy.stores.sqlite_walks import WalkTables


class SqlitePart:
    """One policy's tables and the threads that reach them. Whoever connects it sets its threads."""

    def __init__(self, config: StoreConfig, path: Path | str, clock: Clock) -> None:
        self._config = config
        self._path = Path(path).expanduser()
        self._clock = clock
        self._tables = Tables(config)
        self._walks = WalkTables(config)
        self._ledger = LedgerTables(config)
        self._leases = LeaseTables(config)
        self._threads: tuple[SqliteThread, SqliteThread] | None = None
        self._mirror = Mirror(self._tables, config.dimensions)

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
