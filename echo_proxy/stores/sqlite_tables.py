"""The tables of the SQLite store that hold the examples. One file serves several policies and processes."""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.fading import hourly_factor
from echo_proxy.stores.keys import tag
from echo_proxy.stores.mismatch import SCHEMA, UPGRADED, check_meta, is_older, meta_of
from echo_proxy.stores.records import (
    EXAMPLE_FIELDS,
    MAX_OBSERVATIONS,
    SINCE_SCHEMA_2,
    changed_fields,
    example_fields,
    example_from,
    observation_text,
)
from echo_proxy.types import EXAMPLE_OVERHEAD_BYTES, Example, ExampleIncrement, Observation

TABLES = """
CREATE TABLE IF NOT EXISTS meta (policy TEXT PRIMARY KEY, meta TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS examples (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, -- grows with every write and is never used again: others reload what is new
    policy TEXT NOT NULL, id TEXT NOT NULL, scope TEXT NOT NULL, partition TEXT NOT NULL,
    request TEXT NOT NULL, response TEXT NOT NULL, vector BLOB NOT NULL, teacher TEXT NOT NULL,
    decision_id TEXT NOT NULL, writer TEXT NOT NULL, quality REAL NOT NULL, n_tokens INTEGER NOT NULL,
    created_at REAL NOT NULL, expires_at REAL NOT NULL, uses REAL NOT NULL, gain REAL NOT NULL,
    -- the rest came with schema 2; NULL stands for what most examples have, but where `reader` is, nobody is meant
    reader TEXT, origin TEXT, system TEXT, answer_key TEXT, wants_json INTEGER, n_turns INTEGER, version INTEGER,
    confirmed_by TEXT, history TEXT, observations TEXT, offloads REAL, regret REAL, counted_at REAL,
    n_bytes INTEGER, n_replays INTEGER, replayed_at REAL, person TEXT,
    UNIQUE (policy, id)
);
CREATE INDEX IF NOT EXISTS examples_by_age ON examples (policy, created_at);
CREATE INDEX IF NOT EXISTS examples_by_place ON examples (policy, scope, partition);
CREATE INDEX IF NOT EXISTS examples_by_expiry ON examples (policy, expires_at);
"""

_ADDED = {
    **dict.fromkeys(("reader", "origin", "system", "answer_key", "confirmed_by", "history", "observations"), "TEXT"),
    "person": "TEXT",
    **dict.fromkeys(("wants_json", "n_turns", "version", "n_bytes", "n_replays"), "INTEGER"),
    **dict.fromkeys(("offloads", "regret", "counted_at", "replayed_at"), "REAL"),
}
"""Columns that a file of schema 1 does not have, with their kinds."""
_COLUMNS = ("id", *EXAMPLE_FIELDS)
SIZE = (
    "LENGTH(CAST(request AS BLOB)) + LENGTH(CAST(response AS BLOB)) + LENGTH(CAST(COALESCE(system, '') AS BLOB)) "
    f"+ 2 * LENGTH(vector) + {EXAMPLE_OVERHEAD_BYTES}"
)
"""As Example.n_bytes."""
IN_ORDER = "+policy = ? AND seq > ?"
"""Rows of a policy after a seq. The plus keeps SQLite from an index by policy, whose rows it would have to sort."""
_MIRRORED = frozenset({"scope", "partition", "reader", "expires_at", "vector"})
"""What others hold in memory: a row that changes in it gets a new seq, by which they notice."""


class Tables:
    """One policy's rows. Each method runs on a connection that the caller gives; writes belong in a transaction."""

    def __init__(self, config: StoreConfig) -> None:
        self._config = config
        self._policy = config.policy

    def make(self, db: sqlite3.Connection) -> None:
        """Make what is not there, check what is, and bring an earlier schema to this one. Raises SchemaMismatch."""
        self.create(db)
        check_meta(self.meta(db), self._config)
        self.upgrade(db)

    def create(self, db: sqlite3.Connection) -> None:
        """Make what is not there."""
        for statement in TABLES.split(";\n"):
            db.execute(statement)
        known = {row["name"] for row in db.execute("PRAGMA table_info(examples)")}
        for name, kind in _ADDED.items():
            if name not in known:
                db.execute(f"ALTER TABLE examples ADD COLUMN {name} {kind}")
        db.execute("CREATE INDEX IF NOT EXISTS examples_by_writer ON examples (policy, writer, expires_at, n_bytes)")
        wanted = json.dumps(meta_of(self._config))
        db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (self._policy, wanted))

    def upgrade(self, db: sqlite3.Connection) -> None:
        """Give examples of an earlier schema the columns that they lack, and note the new one."""
        meta = self.meta(db)
        if not is_older(meta):
            return
        lacking = "".join(f"{name} = COALESCE({name}, ?), " for name in SINCE_SCHEMA_2)
        db.execute(
            f"UPDATE examples SET {lacking} n_bytes = {SIZE}, reader = ? WHERE policy = ? AND reader IS NULL",
            (*SINCE_SCHEMA_2.values(), tag(""), self._policy),
        )
        # workers of the earlier version may go on, so what they add is completed at each opening
        self.put_meta(db, {UPGRADED: meta["schema"]} | meta | {"schema": str(SCHEMA)})

    def meta(self, db: sqlite3.Connection) -> dict[str, str]:
        """What the vectors were made with."""
        row = db.execute("SELECT meta FROM meta WHERE policy = ?", (self._policy,)).fetchone()
        stored: dict[str, str] = json.loads(row["meta"])
        return stored

    def put_meta(self, db: sqlite3.Connection, meta: Mapping[str, str]) -> None:
        """Note what the vectors are made with."""
        db.execute("UPDATE meta SET meta = ? WHERE policy = ?", (json.dumps(dict(meta)), self._policy))

    # ------------------------------------------------------------------ examples

    def add(self, db: sqlite3.Connection, examples: Sequence[Example], now: float) -> None:
        """Keep them in place of those of the same ids; drop what has expired."""
        for example in examples:
            self._put(db, {"id": example.id, **example_fields(example, self._config.dimensions)})
        self.drop_expired(db, now)

    def change(self, db: sqlite3.Connection, before: Example, after: Example, now: float) -> bool:
        """Write the fields in which `after` differs; False when the stored version is another one."""
        fields = changed_fields(before, after, self._config.dimensions)
        where = "policy = ? AND id = ? AND COALESCE(version, 1) = ? AND expires_at > ?"
        row = db.execute(f"SELECT * FROM examples WHERE {where}", (self._policy, before.id, before.version, now))
        stored = row.fetchone()
        if stored is None:
            return False
        written = {**fields, "version": before.version + 1, **self._recounted(stored, fields, after.counted_at)}
        if _MIRRORED & fields.keys():
            self._put(db, {**{name: stored[name] for name in _COLUMNS}, **written})
        else:
            names = ", ".join(f"{name} = ?" for name in written)
            db.execute(f"UPDATE examples SET {names} WHERE seq = ?", (*written.values(), stored["seq"]))
        return True

    def _recounted(
        self, stored: sqlite3.Row, fields: Mapping[str, str | float | bytes], given_at: float
    ) -> dict[str, float]:
        """Offloads, regret, and when they were counted: what is not given goes on as it is stored."""
        stored_at = stored["counted_at"] or 0.0
        if not {"offloads", "regret"} & fields.keys():
            return {"counted_at": stored_at}
        at, decay = max(stored_at, given_at), self._config.offload_decay
        out = {"counted_at": at}
        for name in ("offloads", "regret"):
            value, since = (fields[name], given_at) if name in fields else (stored[name] or 0.0, stored_at)
            out[name] = float(value) * hourly_factor(at - since, decay)
        return out

    def _put(self, db: sqlite3.Connection, values: Mapping[str, object]) -> None:
        """A row of its own, with a new seq, in place of the one of the same id."""
        names, marks = ", ".join(_COLUMNS), ", ".join("?" * len(_COLUMNS))
        db.execute(
            f"INSERT OR REPLACE INTO examples (policy, {names}) VALUES (?, {marks})",
            (self._policy, *(values.get(name) for name in _COLUMNS)),
        )

    def observe(self, db: sqlite3.Connection, example_id: str, version: int, seen: Observation) -> bool:
        """Append it; False when the stored version is another one."""
        where = "policy = ? AND id = ? AND COALESCE(version, 1) = ?"
        row = db.execute(
            f"SELECT seq, observations FROM examples WHERE {where}", (self._policy, example_id, version)
        ).fetchone()
        if row is None:
            return False
        known = [*json.loads(row["observations"] or "[]"), json.loads(observation_text(seen))]
        newest = json.dumps(known[-MAX_OBSERVATIONS:])
        db.execute("UPDATE examples SET observations = ? WHERE seq = ?", (newest, row["seq"]))
        return True

    def credit(self, db: sqlite3.Connection, change: ExampleIncrement, created_at: float, now: float) -> None:
        """Add to the outcome counts of an example that is still there; as of the time of the decision."""
        row = db.execute(
            "SELECT seq, offloads, regret, counted_at FROM examples WHERE policy = ? AND id = ?",
            (self._policy, change.example_id),
        ).fetchone()
        if row is None:
            return
        counted_at, decay = row["counted_at"] or 0.0, self._config.offload_decay
        left, share = hourly_factor(now - counted_at, decay), hourly_factor(now - created_at, decay)
        offloads = max(0.0, (row["offloads"] or 0.0) * left + change.offloads * share)
        regret = max(0.0, (row["regret"] or 0.0) * left + change.regret * share)
        db.execute(
            "UPDATE examples SET uses = uses + ?, gain = gain + ?, offloads = ?, regret = ?, counted_at = ? "
            "WHERE seq = ?",
            (change.uses, change.gain, offloads, regret, max(now, counted_at), row["seq"]),
        )

    def drop_expired(self, db: sqlite3.Connection, now: float) -> int:
        """How many examples are gone."""
        return db.execute("DELETE FROM examples WHERE policy = ? AND expires_at <= ?", (self._policy, now)).rowcount

    def get(self, db: sqlite3.Connection, example_id: str, now: float) -> Example | None:
        """The example, or None."""
        where = "policy = ? AND id = ? AND expires_at > ?"
        row = db.execute(f"SELECT * FROM examples WHERE {where}", (self._policy, example_id, now)).fetchone()
        return example_of(row) if row else None

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
        return tuple(example_of(row) for row in rows)

    def remove(self, db: sqlite3.Connection, example_ids: Iterable[str]) -> int:
        """How many are gone."""
        statement = "DELETE FROM examples WHERE policy = ? AND id = ?"
        return sum(db.execute(statement, (self._policy, example_id)).rowcount for example_id in example_ids)

    def examples_by_seq(self, db: sqlite3.Connection, seqs: Sequence[int]) -> dict[int, Example]:
        """Those that are still there."""
        marks = ", ".join("?" * len(seqs))
        rows = db.execute(f"SELECT * FROM examples WHERE seq IN ({marks})", seqs)
        return {row["seq"]: example_of(row) for row in rows}

    def vectors_after(self, db: sqlite3.Connection, seq: int) -> sqlite3.Cursor:
        """What was written after a seq: seq, scope, partition, reader, expires_at, vector."""
        return db.execute(
            f"SELECT seq, scope, partition, reader, expires_at, vector FROM examples WHERE {IN_ORDER} ORDER BY seq",
            (self._policy, seq),
        )

    def examples_after(self, db: sqlite3.Connection, seq: int, limit: int) -> dict[int, Example]:
        """What was written after a seq, by seq, oldest first."""
        rows = db.execute(f"SELECT * FROM examples WHERE {IN_ORDER} ORDER BY seq LIMIT ?", (self._policy, seq, limit))
        return {row["seq"]: example_of(row) for row in rows}

    def n_after(self, db: sqlite3.Connection, seq: int) -> int:
        """How many rows were written after a seq."""
        return int(db.execute(f"SELECT COUNT(*) FROM examples WHERE {IN_ORDER}", (self._policy, seq)).fetchone()[0])

    def put_vectors(self, db: sqlite3.Connection, vectors: Mapping[int, bytes]) -> None:
        """Exchange the vectors of rows, by seq."""
        db.executemany("UPDATE examples SET vector = ? WHERE seq = ?", [(raw, seq) for seq, raw in vectors.items()])
        db.executemany(f"UPDATE examples SET n_bytes = {SIZE} WHERE seq = ?", [(seq,) for seq in vectors])

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


def example_of(row: sqlite3.Row) -> Example:
    """The example of a whole row."""
    raw = {
        name: value if isinstance(value, bytes) else str(value).encode()
        for name in _COLUMNS
        if (value := row[name]) is not None
    }
    return example_from(row["id"], raw)
