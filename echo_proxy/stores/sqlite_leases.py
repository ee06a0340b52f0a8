"""The tables of the SQLite store that say who may do what alone, and what was done."""

import sqlite3

from echo_proxy.errors import LeaseLost
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.notes import run_from, run_text
from echo_proxy.stores.records import writable
from echo_proxy.types import Lease, UpkeepRun

TABLES = """
CREATE TABLE IF NOT EXISTS leases (
    policy TEXT NOT NULL, name TEXT NOT NULL, holder TEXT NOT NULL, fence INTEGER NOT NULL, ends_at REAL NOT NULL,
    PRIMARY KEY (policy, name) -- the row stays when the lease has ended, so that fences grow
);
CREATE TABLE IF NOT EXISTS runs (seq INTEGER PRIMARY KEY AUTOINCREMENT, policy TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS runs_by_age ON runs (policy, seq);
CREATE TABLE IF NOT EXISTS notes (
    policy TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (policy, name)
);
"""
_RUNS_KEPT = 1000


class LeaseTables:
    """One policy's rows. Each method runs on a connection that the caller gives; writes belong in a transaction."""

    def __init__(self, config: StoreConfig) -> None:
        self._policy = config.policy

    def create(self, db: sqlite3.Connection) -> None:
        """Make what is not there."""
        for statement in TABLES.split(";\n"):
            db.execute(statement)

    def take(self, db: sqlite3.Connection, name: str, holder: str, now: float, ttl_s: float) -> Lease | None:
        """The lease, or None while somebody else has it."""
        where = "policy = ? AND name = ?"
        row = db.execute(f"SELECT * FROM leases WHERE {where}", (self._policy, name)).fetchone()
        if row is not None and row["ends_at"] > now and row["holder"] != holder:
            return None
        fence = row["fence"] + 1 if row else 1
        db.execute(
            "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?)", (self._policy, name, holder, fence, now + ttl_s)
        )
        return Lease(name, holder, fence)

    def keep(self, db: sqlite3.Connection, lease: Lease, now: float, until: float) -> bool:
        """Move its end; False when it has ended."""
        where = "policy = ? AND name = ? AND holder = ? AND fence = ? AND ends_at > ?"
        values = (until, self._policy, lease.name, lease.holder, lease.fence, now)
        return db.execute(f"UPDATE leases SET ends_at = ? WHERE {where}", values).rowcount == 1

    def check(self, db: sqlite3.Connection, lease: Lease | None, now: float) -> None:
        """Raises LeaseLost when it has ended."""
        if lease is None:
            return
        where = "policy = ? AND name = ? AND holder = ? AND fence = ? AND ends_at > ?"
        values = (self._policy, lease.name, lease.holder, lease.fence, now)
        if db.execute(f"SELECT 1 FROM leases WHERE {where}", values).fetchone() is None:
            raise LeaseLost(f"lease {lease.name} must be held with fence {lease.fence}, got one that has ended")

    def note_run(self, db: sqlite3.Connection, run: UpkeepRun) -> None:
        """Keep it; drop those beyond the newest thousand."""
        db.execute("INSERT INTO runs (policy, body) VALUES (?, ?)", (self._policy, run_text(run)))
        db.execute(
            "DELETE FROM runs WHERE policy = ? AND seq <= "
            "(SELECT seq FROM runs WHERE policy = ? ORDER BY seq DESC LIMIT 1 OFFSET ?)",
            (self._policy, self._policy, _RUNS_KEPT),
        )

    def runs(self, db: sqlite3.Connection, limit: int) -> tuple[UpkeepRun, ...]:
        """The newest, newest first."""
        rows = db.execute("SELECT body FROM runs WHERE policy = ? ORDER BY seq DESC LIMIT ?", (self._policy, limit))
        found = (run_from(row["body"]) for row in rows)
        return tuple(run for run in found if run is not None)

    def put_note(self, db: sqlite3.Connection, name: str, text: str) -> None:
        """Keep it in place of the one before."""
        db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (self._policy, name, writable(text)))

    def note(self, db: sqlite3.Connection, name: str) -> str:
        """The text; empty when there is none."""
        row = db.execute("SELECT body FROM notes WHERE policy = ? AND name = ?", (self._policy, name)).fetchone()
        return str(row["body"]) if row else ""
