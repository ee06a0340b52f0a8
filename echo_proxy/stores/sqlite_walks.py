"""What is there, as upkeep and admission ask: walks through the examples table in the order of its writes."""

import sqlite3
from collections.abc import Sequence

import numpy as np

from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.holdings import COLUMNS, holdings_of
from echo_proxy.stores.keys import tag
from echo_proxy.stores.sqlite_tables import IN_ORDER, SIZE, example_of
from echo_proxy.types import ExamplePage, Held, HoldingsPage, Which

_LOOKED_AT = 5000
"""Rows that are looked at for a page: others wait meanwhile."""


class WalkTables:
    """One policy's rows. Each method runs on a connection that the caller gives, and writes nothing."""

    def __init__(self, config: StoreConfig) -> None:
        self._config = config
        self._policy = config.policy

    def held_by(self, db: sqlite3.Connection, writer: str, now: float) -> Held:
        """What a writer has."""
        row = db.execute(
            "SELECT COUNT(*) AS n, COALESCE(SUM(n_bytes), 0) AS bytes FROM examples "
            "WHERE policy = ? AND writer = ? AND expires_at > ?",
            (self._policy, tag(writer), now),
        ).fetchone()
        return Held(row["n"], row["bytes"])

    def find(self, db: sqlite3.Connection, which: Which, cursor: str, limit: int, now: float) -> ExamplePage:
        """Those of the next rows that are meant."""
        where, values = _meant(which)
        first = int(cursor or 0)
        last = first + _LOOKED_AT
        rows = db.execute(
            f"SELECT * FROM examples WHERE {IN_ORDER} AND seq <= ? AND expires_at > ?{where} ORDER BY seq LIMIT ?",
            (self._policy, first, last, now, *values, limit),
        ).fetchall()
        after = _next(rows, limit) or self._beyond(db, last)
        return ExamplePage(tuple(example_of(row) for row in rows), after)

    def _beyond(self, db: sqlite3.Connection, seq: int) -> str:
        """Cursor in front of the first row after a seq; empty when there is none."""
        row = db.execute(
            f"SELECT seq FROM examples WHERE {IN_ORDER} ORDER BY seq LIMIT 1", (self._policy, seq)
        ).fetchone()
        return str(row["seq"] - 1) if row else ""

    def holdings(self, db: sqlite3.Connection, cursor: str, limit: int, now: float) -> HoldingsPage:
        """Numbers and writers of the next rows."""
        numbers = ", ".join("COALESCE(version, 1)" if name == "version" else f"COALESCE({name}, 0)" for name in COLUMNS)
        numbers = numbers.replace("COALESCE(n_bytes, 0)", f"COALESCE(n_bytes, {SIZE})")
        rows = db.execute(
            f"SELECT seq, id, writer, {numbers} FROM examples WHERE {IN_ORDER} ORDER BY seq LIMIT ?",
            (self._policy, int(cursor or 0), limit),
        ).fetchall()
        columns = np.array([row[3:] for row in rows], dtype=np.float64).reshape(len(rows), len(COLUMNS))
        ids, writers = [row["id"] for row in rows], [row["writer"] for row in rows]
        known = holdings_of(ids, writers, columns, now, self._config.offload_decay)
        return HoldingsPage(known, _next(rows, limit))


def _meant(which: Which) -> tuple[str, list[str | float]]:
    """Further conditions, and their values."""
    bounds = {
        "scope = ?": None if which.scope is None else tag(which.scope),
        "writer = ?": None if which.writer is None else tag(which.writer),
        "teacher = ?": None if which.teacher is None else tag(which.teacher),
        "origin = ?": None if which.origin is None else tag(which.origin),
        "created_at > ?": which.created_after,
        "created_at < ?": which.created_before,
    }
    where = "".join(f" AND {condition}" for condition, value in bounds.items() if value is not None)
    if which.in_quarantine is not None:
        where += f" AND COALESCE(reader, '') {'<>' if which.in_quarantine else '='} '{tag('')}'"
    return where, [value for value in bounds.values() if value is not None]


def _next(rows: Sequence[sqlite3.Row], limit: int) -> str:
    """Rows that come after a full page may be the next one."""
    return str(rows[-1]["seq"]) if rows and len(rows) == limit else ""
