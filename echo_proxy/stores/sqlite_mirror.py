"""The vectors of the examples table in memory, so that a search needs no disk."""

import sqlite3
from itertools import count

from echo_proxy.stores.keys import tag
from echo_proxy.stores.records import vector_from
from echo_proxy.stores.scan import EVERYBODY, NOBODY, Bucket
from echo_proxy.stores.sqlite_tables import Tables
from echo_proxy.types import Candidate, Query

_REBUILD_AFTER = 256
"""Changes after which the memory is checked for rows that were removed elsewhere."""
_MAX_WASTE = 1.25
"""Rows in memory per row on disk beyond which they are read anew."""


class Mirror:
    """The vectors in memory, by (scope, partition). Lives in one thread, beside the connection that it is given."""

    def __init__(self, tables: Tables, dimensions: int) -> None:
        self._tables = tables
        self._dimensions = dimensions
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._readers: dict[str | None, int] = {tag(""): EVERYBODY, None: NOBODY}
        """Their numbers."""
        self._numbers = count(1)
        self._newest = 0
        self._version: int | None = None
        self._n_changes = 0

    def nearest(self, db: sqlite3.Connection, query: Query) -> tuple[Candidate, ...]:
        """As the store. Rows that were removed are noticed here and forgotten."""
        self.refresh(db)
        places = [(tag(scope), tag(query.partition)) for scope in dict.fromkeys((query.scope, *query.wider))]
        buckets = {place: self._buckets[place] for place in places if place in self._buckets}
        reader = None if query.reader is None else self._readers.get(tag(query.reader), EVERYBODY)
        while True:
            near = [
                one
                for bucket in buckets.values()
                for one in bucket.nearest(query.vector, query.k, query.max_distance, query.now, reader)
            ]
            near = sorted(near, key=lambda one: one[1])[: query.k]
            found = self._tables.examples_by_seq(db, [seq for seq, _ in near])
            if len(found) == len(near):
                return tuple(Candidate(found[seq], distance) for seq, distance in near)
            for place, bucket in buckets.items():
                bucket.keep(self._tables.seqs_at(db, place))

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
            bucket.append(row["seq"], row["expires_at"], vector_from(row["vector"]), self._number_of(row["reader"]))
            self._newest = row["seq"]
        self._version = version

    def _number_of(self, reader: str | None) -> int:
        if reader not in self._readers:
            self._readers[reader] = next(self._numbers)
        return self._readers[reader]

    def _forget_waste(self, db: sqlite3.Connection) -> None:
        n_rows = sum(len(bucket) for bucket in self._buckets.values())
        if n_rows > _MAX_WASTE * self._tables.n_examples(db):
            self._buckets, self._newest = {}, 0
