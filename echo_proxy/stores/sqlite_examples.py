"""Examples of one policy in a SQLite file, with an exact scan in memory, and who may do what with them alone."""

import sqlite3
from collections.abc import Sequence

from echo_proxy.stores.records import example_fields, observation_text, vector_bytes
from echo_proxy.stores.sqlite_part import SqlitePart
from echo_proxy.types import (
    Candidate,
    Example,
    ExamplePage,
    Held,
    HoldingsPage,
    Lease,
    Observation,
    Query,
    UpkeepRun,
    Which,
)


class SqliteExamples(SqlitePart):
    """Examples, Leases and a Journal in a file; leases end by the process's clock."""

    async def nearest(self, query: Query) -> tuple[Candidate, ...]:
        """Unexpired examples of the query's scopes and partition within its distance that may be shown to its reader,
        nearest first, k at most."""
        if query.k <= 0:
            return ()
        vector_bytes(query.vector, self._config.dimensions)
        return await self._reader.read(lambda db: self._mirror.nearest(db, query))

    async def add(self, example: Example) -> None:
        """Keep it; an existing id is replaced. Raises SchemaMismatch on a wrong vector size, ValueError on no unit."""
        await self.add_many([example])

    async def add_many(self, examples: Sequence[Example]) -> None:
        """As `add`; all or none."""
        for example in examples:
            example_fields(example, self._config.dimensions)  # in here, so that the error is the caller's
        now = self._clock.now()
        await self._writer.write(lambda db: self._tables.add(db, examples, now))

    async def change(self, before: Example, after: Example, lease: Lease | None = None) -> bool:
        """Write the fields in which `after` differs, with the next version; False when the stored one is another.

        Raises LeaseLost, ValueError when the ids differ.
        """
        now = self._clock.now()

        def change(db: sqlite3.Connection) -> bool:
            self._leases.check(db, lease, now)
            return self._tables.change(db, before, after, now)

        return await self._writer.write(change)

    async def observe(self, example_id: str, version: int, seen: Observation) -> bool:
        """Append what was seen of its answer; the newest 64 are kept. False when the example has another version."""
        observation_text(seen)
        return await self._writer.write(lambda db: self._tables.observe(db, example_id, version, seen))

    async def held_by(self, writer: str) -> Held:
        """What a writer has in the store."""
        now = self._clock.now()
        return await self._reader.read(lambda db: self._walks.held_by(db, writer, now))

    async def find(self, which: Which, cursor: str, limit: int) -> ExamplePage:
        """Walk through unexpired examples; "" begins. One that is written meanwhile may come twice."""
        now = self._clock.now()
        return await self._reader.read(lambda db: self._walks.find(db, which, cursor, max(1, limit), now))

    async def holdings(self, cursor: str, limit: int) -> HoldingsPage:
        """Walk through all examples, expired ones too where they are still there; as `find`."""
        now = self._clock.now()
        return await self._reader.read(lambda db: self._walks.holdings(db, cursor, max(1, limit), now))

    async def get(self, example_id: str) -> Example | None:
        """The example, or None."""
        now = self._clock.now()
        return await self._reader.read(lambda db: self._tables.get(db, example_id, now))

    async def page(self, scope: str | None, offset: int, limit: int) -> tuple[Example, ...]:
        """Examples of a scope (None = all), newest first."""
        now = self._clock.now()
        return await self._reader.read(lambda db: self._tables.page(db, scope, now, offset, limit))

    async def remove(self, example_ids: Sequence[str], lease: Lease | None = None) -> int:
        """How many existed and are gone. Raises LeaseLost."""
        now = self._clock.now()

        def remove(db: sqlite3.Connection) -> int:
            self._leases.check(db, lease, now)
            return self._tables.remove(db, example_ids)

        return await self._writer.write(remove)

    # ------------------------------------------------------------------ leases

    async def take_lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """The lease, with a higher fence than all before; None while somebody else has it. Who has it gets it anew."""
        now = self._clock.now()
        return await self._writer.write(lambda db: self._leases.take(db, name, holder, now, ttl_s))

    async def keep_lease(self, lease: Lease, ttl_s: float) -> bool:
        """Prolong it to ttl_s from now; False when it has ended."""
        now = self._clock.now()
        return await self._writer.write(lambda db: self._leases.keep(db, lease, now, now + ttl_s))

    async def drop_lease(self, lease: Lease) -> None:
        """Let others have it; nothing happens when it has ended."""
        now = self._clock.now()
        await self._writer.write(lambda db: self._leases.keep(db, lease, now, now))

    # ------------------------------------------------------------------ journal

    async def note_run(self, run: UpkeepRun) -> None:
        """Keep it; the newest 1,000 are kept."""
        await self._writer.write(lambda db: self._leases.note_run(db, run))

    async def runs(self, limit: int) -> tuple[UpkeepRun, ...]:
        """The newest, newest first."""
        return await self._reader.read(lambda db: self._leases.runs(db, max(0, limit)))

    async def put_note(self, name: str, text: str) -> None:
        """Keep a text under a name, in place of the one before."""
        await self._writer.write(lambda db: self._leases.put_note(db, name, text))

    async def note(self, name: str) -> str:
        """The text; empty when there is none."""
        return await self._reader.read(lambda db: self._leases.note(db, name))
