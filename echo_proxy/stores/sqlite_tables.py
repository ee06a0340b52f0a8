"""The tables of the SQLite store and what is done to them. One file serves several policies and processes."""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.fading import added, faded, fading_factor
from echo_proxy.stores.keys import tag
from echo_proxy.stores.mismatch import check_meta, meta_of
from echo_proxy.stores.records import decision_end, decision_fields, decision_from, example_fields, example_from
from echo_proxy.types import ArmKey, ArmSums, DecisionRecord, Example, ExampleIncrement, Increment, Settlement

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
CREATE TABLE IF NOT EXISTS decisions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    policy TEXT NOT NULL, id TEXT NOT NULL, scope TEXT NOT NULL,
    revision INTEGER NOT NULL, expires_at REAL NOT NULL, record TEXT NOT NULL,
    UNIQUE (policy, id)
);
CREATE INDEX IF NOT EXISTS decisions_by_scope ON decisions (policy, scope, seq);
CREATE INDEX IF NOT EXISTS decisions_by_expiry ON decisions (policy, expires_at);
CREATE TABLE IF NOT EXISTS arms (
    policy TEXT NOT NULL, arm TEXT NOT NULL, segment TEXT NOT NULL, weight REAL NOT NULL,
    reward_sum REAL NOT NULL, reward_sq_sum REAL NOT NULL, faded_at REAL NOT NULL,
    PRIMARY KEY (policy, arm, segment)
);
CREATE TABLE IF NOT EXISTS counts (
    policy TEXT NOT NULL, scope TEXT NOT NULL, name TEXT NOT NULL, amount REAL NOT NULL,
    PRIMARY KEY (policy, scope, name)
);
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
        where, values = self._where(scope)
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

    # ------------------------------------------------------------------ ledger

    def settle(self, db: sqlite3.Connection, settlement: Settlement, now: float) -> bool:
        """Apply it, unless the stored revision is not the one before."""
        record = settlement.record
        db.execute("DELETE FROM decisions WHERE policy = ? AND expires_at <= ?", (self._policy, now))
        if self._revision(db, record.id) != record.revision - 1:
            return False
        self._put_decision(db, record)
        share = fading_factor(now - record.created_at, self._config.half_life_s)
        for increment in settlement.increments:
            self._add_evidence(db, increment, share, now)
        for change in settlement.example_increments:
            self._add_outcome(db, change)
        return True

    def decision(self, db: sqlite3.Connection, decision_id: str, now: float) -> DecisionRecord | None:
        """The record, or None."""
        where = "policy = ? AND id = ? AND expires_at > ?"
        row = db.execute(f"SELECT record FROM decisions WHERE {where}", (self._policy, decision_id, now)).fetchone()
        return decision_from(json.loads(row["record"])) if row else None

    def decisions(
        self, db: sqlite3.Connection, scope: str | None, now: float, limit: int
    ) -> tuple[DecisionRecord, ...]:
        """The newest that are still in the log."""
        where, values = self._where(scope)
        newest = db.execute("SELECT MAX(seq) FROM decisions WHERE policy = ?", (self._policy,)).fetchone()[0] or 0
        rows = db.execute(
            f"SELECT record FROM decisions WHERE {where} AND expires_at > ? AND seq > ? ORDER BY seq DESC LIMIT ?",
            (*values, now, newest - self._config.log_length, limit),
        )
        return tuple(decision_from(json.loads(row["record"])) for row in rows)

    def sums(self, db: sqlite3.Connection, now: float) -> dict[ArmKey, ArmSums]:
        """All evidence, faded to now."""
        rows = db.execute("SELECT * FROM arms WHERE policy = ?", (self._policy,))
        return {ArmKey(row["arm"], row["segment"]): self._faded(row, now) for row in rows}

    def count(self, db: sqlite3.Connection, counters: Mapping[tuple[str, str], float]) -> None:
        """Add to the counts."""
        db.executemany(
            "INSERT INTO counts VALUES (?, ?, ?, ?) "
            "ON CONFLICT (policy, scope, name) DO UPDATE SET amount = amount + excluded.amount",
            [(self._policy, tag(scope), name, amount) for (scope, name), amount in counters.items()],
        )

    def counters(self, db: sqlite3.Connection, scope: str | None) -> dict[str, float]:
        """Counts by name."""
        where, values = self._where(scope)
        rows = db.execute(f"SELECT name, SUM(amount) AS amount FROM counts WHERE {where} GROUP BY name", values)
        return {row["name"]: row["amount"] for row in rows}

    def _revision(self, db: sqlite3.Connection, decision_id: str) -> int:
        row = db.execute(
            "SELECT revision FROM decisions WHERE policy = ? AND id = ?", (self._policy, decision_id)
        ).fetchone()
        return int(row["revision"]) if row else 0

    def _put_decision(self, db: sqlite3.Connection, record: DecisionRecord) -> None:
        """An existing one keeps its place in the log."""
        db.execute(
            "INSERT INTO decisions (policy, id, scope, revision, expires_at, record) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (policy, id) DO UPDATE SET "
            "revision = excluded.revision, expires_at = excluded.expires_at, record = excluded.record",
            (
                *(self._policy, record.id, tag(record.scope), record.revision),
                *(decision_end(record, self._config), json.dumps(decision_fields(record))),
            ),
        )

    def _add_evidence(self, db: sqlite3.Connection, increment: Increment, share: float, now: float) -> None:
        key = increment.key
        where = "policy = ? AND arm = ? AND segment = ?"
        row = db.execute(f"SELECT * FROM arms WHERE {where}", (self._policy, key.arm, key.segment)).fetchone()
        before = self._faded(row, now) if row else ArmSums()
        after = added(before, faded(increment.sums, share))
        faded_at = max(now, row["faded_at"]) if row else now
        db.execute(
            "INSERT OR REPLACE INTO arms VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self._policy, key.arm, key.segment, after.weight, after.reward_sum, after.reward_sq_sum, faded_at),
        )

    def _add_outcome(self, db: sqlite3.Connection, change: ExampleIncrement) -> None:
        db.execute(
            "UPDATE examples SET uses = uses + ?, gain = gain + ? WHERE policy = ? AND id = ?",
            (change.uses, change.gain, self._policy, change.example_id),
        )

    def _faded(self, row: sqlite3.Row, now: float) -> ArmSums:
        sums = ArmSums(row["weight"], row["reward_sum"], row["reward_sq_sum"])
        return faded(sums, fading_factor(now - row["faded_at"], self._config.half_life_s))

    def _where(self, scope: str | None) -> tuple[str, tuple[str, ...]]:
        """Condition and its values for the policy and a scope (None = all)."""
        return (
            ("policy = ?", (self._policy,))
            if scope is None
            else ("policy = ? AND scope = ?", (self._policy, tag(scope)))
        )


def _example(row: sqlite3.Row) -> Example:
    raw = {name: value if isinstance(value := row[name], bytes) else str(value).encode() for name in _EXAMPLE_COLUMNS}
    return example_from(row["id"], raw)
