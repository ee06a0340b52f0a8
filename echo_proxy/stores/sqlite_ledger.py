"""The tables of the SQLite store that hold decisions, what was learned from them, and what workers tell each other."""

import json
import sqlite3
from collections.abc import Mapping

from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.fading import added, faded, fading_factor
from echo_proxy.stores.keys import tag
from echo_proxy.stores.lessons import kind_of, lesson_text
from echo_proxy.stores.notes import loads_from, loads_text
from echo_proxy.stores.records import decision_end, decision_fields, decision_from
from echo_proxy.stores.sqlite_tables import Tables, in_scope
from echo_proxy.types import (
    Amendment,
    ArmKey,
    ArmSums,
    DecisionRecord,
    Increment,
    Lesson,
    Load,
    Settlement,
)

TABLES = """
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
CREATE TABLE IF NOT EXISTS lessons (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, -- a cursor stays where it is when older ones go
    policy TEXT NOT NULL, body TEXT NOT NULL, decision TEXT NOT NULL DEFAULT '', kind TEXT NOT NULL DEFAULT '',
    created_at REAL NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS lessons_by_age ON lessons (policy, seq);
CREATE TABLE IF NOT EXISTS loads (
    policy TEXT NOT NULL, worker TEXT NOT NULL, expires_at REAL NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (policy, worker)
);
CREATE TABLE IF NOT EXISTS turns (
    policy TEXT NOT NULL, conversation TEXT NOT NULL, expires_at REAL NOT NULL, deployment TEXT NOT NULL,
    PRIMARY KEY (policy, conversation)
);
CREATE INDEX IF NOT EXISTS turns_by_expiry ON turns (policy, expires_at);
"""

_SINCE = {
    "decision": "TEXT NOT NULL DEFAULT ''",
    "kind": "TEXT NOT NULL DEFAULT ''",
    "created_at": "REAL NOT NULL DEFAULT 0",
}
"""Columns that the lessons in a database of an earlier version do not have."""


class LedgerTables:
    """One policy's rows. Each method runs on a connection that the caller gives; writes belong in a transaction."""

    def __init__(self, config: StoreConfig) -> None:
        self._config = config
        self._policy = config.policy
        self._examples = Tables(config)

    def create(self, db: sqlite3.Connection) -> None:
        """Make what is not there."""
        for statement in TABLES.split(";\n"):
            db.execute(statement)
        known = {row["name"] for row in db.execute("PRAGMA table_info(lessons)")}
        for name, kind in _SINCE.items():
            if name not in known:
                db.execute(f"ALTER TABLE lessons ADD COLUMN {name} {kind}")
        db.execute("CREATE INDEX IF NOT EXISTS lessons_by_decision ON lessons (policy, decision, kind)")
        db.execute("CREATE INDEX IF NOT EXISTS lessons_by_time ON lessons (policy, created_at)")

    # ------------------------------------------------------------------ decisions

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
            self._examples.credit(db, change, record.created_at, now)
        if settlement.lesson is not None:
            self._add_lesson(db, settlement.lesson, now)
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
        where, values = in_scope(self._policy, scope)
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

    def lessons(self, db: sqlite3.Connection, cursor: str, limit: int) -> list[tuple[str, str]]:
        """(seq, body) of the lessons after a cursor, oldest first."""
        rows = db.execute(
            "SELECT seq, body FROM lessons WHERE policy = ? AND seq > ? ORDER BY seq LIMIT ?",
            (self._policy, int(cursor or 0), limit),
        )
        return [(str(row["seq"]), row["body"]) for row in rows]

    def count(self, db: sqlite3.Connection, counters: Mapping[tuple[str, str], float]) -> None:
        """Add to the counts."""
        db.executemany(
            "INSERT INTO counts VALUES (?, ?, ?, ?) "
            "ON CONFLICT (policy, scope, name) DO UPDATE SET amount = amount + excluded.amount",
            [(self._policy, tag(scope), name, amount) for (scope, name), amount in counters.items()],
        )

    def counters(self, db: sqlite3.Connection, scope: str | None) -> dict[str, float]:
        """Counts by name."""
        where, values = in_scope(self._policy, scope)
        rows = db.execute(f"SELECT name, SUM(amount) AS amount FROM counts WHERE {where} GROUP BY name", values)
        return {row["name"]: row["amount"] for row in rows}

    # ------------------------------------------------------------------ for a while

    def report_loads(
        self, db: sqlite3.Connection, worker: str, loads: Mapping[str, Load], now: float, until: float
    ) -> None:
        """Replace what a worker says, and forget the workers that have fallen silent."""
        values = (self._policy, worker, until, loads_text(loads, until))
        db.execute("INSERT OR REPLACE INTO loads VALUES (?, ?, ?, ?)", values)
        db.execute("DELETE FROM loads WHERE policy = ? AND expires_at <= ?", (self._policy, now))

    def loads(self, db: sqlite3.Connection, now: float) -> dict[str, dict[str, Load]]:
        """What the live workers say, by worker."""
        rows = db.execute("SELECT worker, body FROM loads WHERE policy = ?", (self._policy,))
        said = {row["worker"]: loads_from(row["body"], now) for row in rows}
        return {worker: loads for worker, loads in said.items() if loads is not None}

    def remember_turn(
        self, db: sqlite3.Connection, conversation: str, deployment: str, now: float, until: float
    ) -> None:
        """Note who answered, and forget the conversations that have ended."""
        db.execute("INSERT OR REPLACE INTO turns VALUES (?, ?, ?, ?)", (self._policy, conversation, until, deployment))
        db.execute("DELETE FROM turns WHERE policy = ? AND expires_at <= ?", (self._policy, now))

    def last_turn(self, db: sqlite3.Connection, conversation: str, now: float) -> str:
        """Deployment that answered last; empty when unknown."""
        where = "policy = ? AND conversation = ? AND expires_at > ?"
        row = db.execute(f"SELECT deployment FROM turns WHERE {where}", (self._policy, conversation, now)).fetchone()
        return str(row["deployment"]) if row else ""

    # ------------------------------------------------------------------ rows

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

    def _add_lesson(self, db: sqlite3.Connection, lesson: Lesson | Amendment, now: float) -> None:
        """Keep it; drop those beyond the memory's length, and those that are too old.

        An amendment replaces the one before: feedback again and again must not crowd lessons out.
        """
        kind = kind_of(lesson)
        if kind == "amendment":
            where = "policy = ? AND decision = ? AND kind = ?"
            db.execute(f"DELETE FROM lessons WHERE {where}", (self._policy, lesson.decision_id, kind))
        db.execute(
            "INSERT INTO lessons (policy, body, decision, kind, created_at) VALUES (?, ?, ?, ?, ?)",
            (self._policy, lesson_text(lesson), lesson.decision_id, kind, now),
        )
        db.execute(
            "DELETE FROM lessons WHERE policy = ? AND created_at > 0 AND created_at <= ?",  # 0 = of an earlier version
            (self._policy, now - self._config.decision_ttl_s),
        )
        db.execute(
            "DELETE FROM lessons WHERE policy = ? AND seq <= "
            "(SELECT seq FROM lessons WHERE policy = ? ORDER BY seq DESC LIMIT 1 OFFSET ?)",
            (self._policy, self._policy, self._config.memory_length),
        )

    def _faded(self, row: sqlite3.Row, now: float) -> ArmSums:
        sums = ArmSums(row["weight"], row["reward_sum"], row["reward_sq_sum"])
        return faded(sums, fading_factor(now - row["faded_at"], self._config.half_life_s))
