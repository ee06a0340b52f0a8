"""The tables of the SQLite store that hold the examples. One file serves several policies and processes."""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.keys import tag
from echo_proxy.stores.mismatch import check_meta, meta_of
from echo_proxy.stores.records import example_fields, example_from
from echo_proxy.types import Example

TABLES = """
CREATE TABLE IF NOT EXISTS meta (policy TEXT PRIMARY KEY, meta TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS examples (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, -- grows with every write and is never used again: others reload what is new
    policy TEXT NOT NULL, id TEXT NOT NULL, scope TEXT NOT NULL, partition TEXT NOT NULL,
    request TEXT NOT NULL, response TEXT NOT NULL, vector BLOB NOT NULL, teacher TEXT NOT NULL,
    decision_id TEXT NOT NULL, writer TEXT NOT NULL, quality REAL NOT NULL, n_tokens INTEGER NOT NULL,
    created_at REAL NOT NULL, expires_at REAL NOT NULL, uses REAL NOT NULL, gain REAL NOT NULL,
    UNIQUE (policy, id)
);
CREATE INDEX IF NOT EXISTS examples_by_age ON examples (policy, created_at);
CREATE INDEX IF NOT EXISTS examples_by_place ON examples (policy, scope, partition);
CREATE INDEX IF NOT EXISTS examples_by_expiry ON examples (policy, expires_at);
"""

_EXAMPLE_COLUMNS = (
    *("id", "scope", "partition", "request", "response", "vector", "teacher", "decision_id"),
    *("writer", "quality", "n_tokens", "created_at", "expires_at", "uses", "gain"),
)


class Tables:
    """One policy's rows. Each method runs on a connection that the caller gives; writes belong in a transaction."""

    def __init__(self, config: StoreConfig) -> None:
        self._config = config
        self._policy = config.policy

    def make(self, db: sqlite3.Connection) -> None:
        """Make what is not there, check what is. Raises SchemaMismatch."""
        self.create(db)
        check_meta(self.meta(db), self._config)

    def create(self, db: sqlite3.Connection) -> None:
        """Make what is not there."""
        for statement in TABLES.split(";\n"):
            db.execute(statement)
        wanted = json.dumps(meta_of(self._config))
        db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (self._policy, wanted))

    def meta(self, db: sqlite3.Connection) -> dict[str, str]:
        """What the vectors were made with."""
        row = db.execute("SELECT meta FROM meta WHERE policy = ?", (self._policy,)).fetchone()
        stored: dict[str, str] = json.loads(row["meta"])
        return stored

    def put_meta(self, db: sqlite3.Connection, meta: Mapping[str, str]) -> None:
        """Note what the vectors are made with."""
        db.execute("UPDATE meta SET meta = ? WHERE policy = ?", (json.dumps(dict(meta)), self._policy))

    # ------------------------------------------------------------------ examples

    def add(self, db: sqlite3.Connection, example: Example, now: float) -> None:
        """Keep it in place of one of the same id; drop what has expired."""
        values: Mapping[str, object] = {"id": example.id, **example_fields(example, self._config.dimensions)}
        names, marks = ", ".join(_EXAMPLE_COLUMNS), ", ".join("?" * len(_EXAMPLE_COLUMNS))
        db.execute(
            f"INSERT OR REPLACE INTO examples (policy, {names}) VALUES (?, {marks})",
            (self._policy, *(values[name] for name in _EXAMPLE_COLUMNS)),
        )
        self.drop_expired(db, now)

    def drop_expired(self, db: sqlite3.Connection, now: float) -> int:
        """How many examples are gone."""
        return db.execute("DELETE FROM examples WHERE policy = ? AND expires_at <= ?", (self._policy, now)).rowcount

    def get(self, db: sqlite3.Connection, example_id: str, now: float) -> Example | None:
        """The example, or None."""
        where = "policy = ? AND id = ? AND expires_at > ?"
        row = db.execute(f"SELECT * FROM examples WHERE {where}", (self._policy, example_id, now)).fetchone()
        return _example(row) if row else None

    def page(
        self, db: sqlite3.Connection, scope: str | None, now: float, offset: int, limit: int
    ) -> tuple[Example, ...]:
        """Newest first."""
        where, values = in_scope(self._policy, scope)
        rows = db.execute(
            f"SELECT * FROM examples WHERE {where} AND expires_at > ? "
            "ORDER BY created_at DESC, seq DESC LIMIT ? OFFSET ?",
            (*values, now, limit, offset),
        )
        return tuple(_example(row) for row in rows)

    def remove(self, db: sqlite3.Connection, example_ids: Iterable[str]) -> int:
        """How many are gone."""
        statement = "DELETE FROM examples WHERE policy = ? AND id = ?"
        return sum(db.execute(statement, (self._policy, example_id)).rowcount for example_id in example_ids)

    def examples_by_seq(self, db: sqlite3.Connection, seqs: Sequence[int]) -> dict[int, Example]:
        """Those that are still there."""
        marks = ", ".join("?" * len(seqs))
        rows = db.execute(f"SELECT * FROM examples WHERE seq IN ({marks})", seqs)
        return {row["seq"]: _example(row) for row in rows}

    def vectors_after(self, db: sqlite3.Connection, seq: int) -> sqlite3.Cursor:
        """What was written after a seq: seq, scope, partition, expires_at, vector."""
        return db.execute(
            "SELECT seq, scope, partition, expires_at, vector FROM examples WHERE policy = ? AND seq > ? ORDER BY seq",
            (self._policy, seq),
        )

    def examples_after(self, db: sqlite3.Connection, seq: int, limit: int) -> dict[int, Example]:
        """What was written after a seq, by seq, oldest first."""
        rows = db.execute(
            "SELECT * FROM examples WHERE policy = ? AND seq > ? ORDER BY seq LIMIT ?", (self._policy, seq, limit)
        )
        return {row["seq"]: _example(row) for row in rows}

    def n_after(self, db: sqlite3.Connection, seq: int) -> int:
        """How many rows were written after a seq."""
        where = "policy = ? AND seq > ?"
        return int(db.execute(f"SELECT COUNT(*) FROM examples WHERE {where}", (self._policy, seq)).fetchone()[0])

    def put_vectors(self, db: sqlite3.Connection, vectors: Mapping[int, bytes]) -> None:
        """Exchange the vectors of rows, by seq."""
        db.executemany("UPDATE examples SET vector = ? WHERE seq = ?", [(raw, seq) for seq, raw in vectors.items()])

    def seqs_at(self, db: sqlite3.Connection, where: tuple[str, str]) -> list[int]:
        """All rows of a (scope, partition)."""
        condition = "policy = ? AND scope = ? AND partition = ?"
        return [row["seq"] for row in db.execute(f"SELECT seq FROM examples WHERE {condition}", (self._policy, *where))]

    def n_examples(self, db: sqlite3.Connection) -> int:
        """How many rows there are, expired ones too until the next write."""
        return int(db.execute("SELECT COUNT(*) FROM examples WHERE policy = ?", (self._policy,)).fetchone()[0])


def in_scope(policy: str, scope: str | None) -> tuple[str, tuple[str, ...]]:
    """Condition and its values for a policy and a scope (None = all)."""
    return ("policy = ?", (policy,)) if scope is None else ("policy = ? AND scope = ?", (policy, tag(scope)))


def _example(row: sqlite3.Row) -> Example:
    raw = {name: value if isinstance(value := row[name], bytes) else str(value).encode() for name in _EXAMPLE_COLUMNS}
    return example_from(row["id"], raw)
