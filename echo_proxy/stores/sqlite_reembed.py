"""How are the vectors in a SQLite file exchanged for another model's, so that it may be killed at any point?

The policy's meta row notes the target, which locks all others out, and up to which row the vectors are new. Both change
in the transaction that writes the vectors. Rows that somebody adds meanwhile come after that row: they are stale too.
"""

import sqlite3
from collections.abc import Sequence

from echo_proxy.errors import StoreError
from echo_proxy.protocols import Clock
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.mismatch import REEMBEDDING, UPGRADED, check_turn, fits, meta_of, target_of
from echo_proxy.stores.records import vector_bytes
from echo_proxy.stores.sqlite_tables import Tables
from echo_proxy.stores.sqlite_thread import SqliteThread
from echo_proxy.types import Backlog, Example

_NEW_UP_TO = "reembedded_up_to"
"""Field of the meta: seq of the last row whose vector is new."""


class SqliteReembedding:
    """A Reembedding of one policy in a file."""

    def __init__(self, config: StoreConfig, writer: SqliteThread, clock: Clock) -> None:
        self._config = config
        self._writer = writer
        self._clock = clock
        self._tables = Tables(config)
        self._given: dict[str, int] = {}
        """seq by id of what `stale` gave last."""

    async def begin(self) -> bool:
        """Lock all others out; False, and nothing changed, when the vectors fit already. Raises SchemaMismatch."""
        return await self._writer.write(self._begin)

    async def stale(self, limit: int) -> Backlog:
        """Examples not embedded anew yet, limit at most; the same ones until they are rewritten."""
        now = self._clock.now()
        return await self._writer.write(lambda db: self._stale(db, limit, now))

    async def rewrite(self, examples: Sequence[Example]) -> None:
        """Keep the new vectors of all that `stale` gave last. Raises SchemaMismatch, ValueError."""
        if {example.id for example in examples} != set(self._given):
            raise ValueError(f"expected the {len(self._given)} examples that stale() gave, got others")
        vectors = {self._given[one.id]: vector_bytes(one.vector, self._config.dimensions) for one in examples}
        await self._writer.write(lambda db: self._rewrite(db, vectors))
        self._given = {}

    async def finish(self) -> None:
        """Make the store usable with the new model. Raises StoreError while an example is stale."""
        now = self._clock.now()
        await self._writer.write(lambda db: self._finish(db, now))

    def _begin(self, db: sqlite3.Connection) -> bool:
        self._tables.create(db)
        stored = self._tables.meta(db)
        is_done = fits(stored, self._config)
        self._tables.upgrade(db)
        stored = self._tables.meta(db)
        if is_done:
            return False
        if stored.get(REEMBEDDING) != target_of(self._config):
            self._tables.put_meta(db, stored | {REEMBEDDING: target_of(self._config), _NEW_UP_TO: "0"})
        return True

    def _stale(self, db: sqlite3.Connection, limit: int, now: float) -> Backlog:
        n_expired = self._tables.drop_expired(db, now)
        new_up_to = self._new_up_to(db)
        found = self._tables.examples_after(db, new_up_to, limit)
        self._given = {example.id: seq for seq, example in found.items()}
        return Backlog(tuple(found.values()), self._tables.n_after(db, new_up_to), n_expired)

    def _rewrite(self, db: sqlite3.Connection, vectors: dict[int, bytes]) -> None:
        new_up_to = max(vectors, default=self._new_up_to(db))
        self._tables.put_vectors(db, vectors)
        self._tables.put_meta(db, self._tables.meta(db) | {_NEW_UP_TO: str(new_up_to)})

    def _finish(self, db: sqlite3.Connection, now: float) -> None:
        self._tables.drop_expired(db, now)
        n_left = self._tables.n_after(db, self._new_up_to(db))
        if n_left:
            raise StoreError(f"all examples of policy {self._config.policy} must be embedded anew, {n_left} are not")
        stored = self._tables.meta(db)
        kept = {UPGRADED: stored[UPGRADED]} if UPGRADED in stored else {}
        self._tables.put_meta(db, meta_of(self._config) | kept)

    def _new_up_to(self, db: sqlite3.Connection) -> int:
        stored = self._tables.meta(db)
        check_turn(stored, self._config)
        return int(stored[_NEW_UP_TO])
