"""Ordinary classes that satisfy the protocols: no server, no clock, no model behind them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from echo_proxy.bandits.evidence import merge
from echo_proxy.errors import LeaseLost, StoreUnavailable
from echo_proxy.protocols import Clock
from echo_proxy.types import (
    Amendment,
    ArmKey,
    ArmSums,
    Candidate,
    DecisionRecord,
    Example,
    ExamplePage,
    Held,
    Holdings,
    HoldingsPage,
    Lease,
    Lesson,
    LessonPage,
    Load,
    Observation,
    Query,
    Settlement,
    StoreStatus,
    UpkeepRun,
    Which,
)


class FrozenClock:
    """Tells the time that the test sets."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class HashingEmbedder:
    """Bag of hashed words: texts that share words lie near each other."""

    model = "hashing"
    dimensions = 64

    def __init__(self) -> None:
        self.n_texts = 0

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.n_texts += len(texts)
        return np.stack([self.vector(text) for text in texts])

    def vector(self, text: str) -> NDArray[np.float32]:
        out = np.full(self.dimensions, 1e-3, dtype=np.float32)
        for word in text.lower().replace("?", " ").replace(".", " ").split():
            out[int(hashlib.md5(word.encode()).hexdigest(), 16) % self.dimensions] += 1.0
        return out / np.linalg.norm(out)


def holdings_of(examples: Sequence[Example]) -> Holdings:
    """Columns about examples; offloads and regret as they are stored."""

    def column(name: str) -> NDArray[np.float64]:
        return np.array([float(getattr(one, name)) for one in examples])

    return Holdings(
        ids=tuple(one.id for one in examples),
        writers=tuple(one.writer for one in examples),
        versions=column("version").astype(np.int64),
        n_bytes=column("n_bytes").astype(np.int64),
        offloads=column("offloads"),
        regret=column("regret"),
        quality=column("quality"),
        uses=column("uses"),
        gain=column("gain"),
        created_at=column("created_at"),
        expires_at=column("expires_at"),
        n_replays=np.array([len(one.history) for one in examples], dtype=np.int64),
        replayed_at=np.array([one.history[-1].at if one.history else 0.0 for one in examples]),
    )


class MemoryStore:
    """A Store in a dict; `is_away` makes it unreachable. Nothing fades, and without a clock nothing is forgotten."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or FrozenClock()
        self.examples: dict[str, Example] = {}
        self.records: dict[str, DecisionRecord] = {}
        self.evidence: dict[ArmKey, ArmSums] = {}
        self.learned: list[Lesson | Amendment] = []
        self.reports: dict[str, tuple[Mapping[str, Load], float]] = {}
        """By worker, with their end."""
        self.turns: dict[str, tuple[str, float]] = {}
        """By conversation, with their end."""
        self.counts: dict[tuple[str, str], float] = {}
        self.leases: dict[str, tuple[Lease, float]] = {}
        """By name, with their end."""
        self.fence = 0
        self.journal: list[UpkeepRun] = []
        self.notes: dict[str, str] = {}
        self.is_away = False

    def _reach(self) -> None:
        if self.is_away:
            raise StoreUnavailable("the test has taken the store away")

    async def open(self) -> None:
        self._reach()

    async def close(self) -> None:
        pass

    async def status(self) -> StoreStatus:
        return StoreStatus(not self.is_away, "memory", len(self.examples))

    async def nearest(self, query: Query) -> tuple[Candidate, ...]:
        self._reach()
        found = [
            Candidate(one, float(np.clip(1 - one.vector @ query.vector, 0, 2)))
            for one in self.examples.values()
            if one.scope in (query.scope, *query.wider)
            and one.partition == query.partition
            and one.expires_at > query.now
            and (query.reader is None or one.reader in ("", query.reader))
        ]
        near = [one for one in found if one.distance <= query.max_distance]
        return tuple(sorted(near, key=lambda one: one.distance)[: query.k])

    async def add(self, example: Example) -> None:
        self._reach()
        self.examples[example.id] = example

    async def add_many(self, examples: Sequence[Example]) -> None:
        for one in examples:
            await self.add(one)

    async def get(self, example_id: str) -> Example | None:
        self._reach()
        return self.examples.get(example_id)

    async def change(self, before: Example, after: Example, lease: Lease | None = None) -> bool:
        self._reach()
        self._check(lease)
        stored = self.examples.get(before.id)
        if stored is None or stored.version != before.version:
            return False
        different = {
            one.name: getattr(after, one.name)
            for one in fields(Example)
            if one.name == "vector" or getattr(after, one.name) != getattr(before, one.name)
        }
        self.examples[before.id] = replace(stored, **{**different, "version": stored.version + 1})
        return True

    async def observe(self, example_id: str, version: int, seen: Observation) -> bool:
        self._reach()
        stored = self.examples.get(example_id)
        if stored is None or stored.version != version:
            return False
        self.examples[example_id] = replace(stored, observations=(*stored.observations, seen)[-64:])
        return True

    async def held_by(self, writer: str) -> Held:
        self._reach()
        found = [one for one in self.examples.values() if one.writer == writer]
        return Held(len(found), sum(one.n_bytes for one in found))

    async def find(self, which: Which, cursor: str, limit: int) -> ExamplePage:
        self._reach()
        known = list(self.examples.values())
        first = int(cursor or 0)
        found = tuple(one for one in known[first : first + limit] if which.holds(one))
        return ExamplePage(found, str(first + limit) if first + limit < len(known) else "")

    async def holdings(self, cursor: str, limit: int) -> HoldingsPage:
        page = await self.find(Which(), cursor, limit)
        return HoldingsPage(holdings_of(page.examples), page.cursor)

    async def page(self, scope: str | None, offset: int, limit: int) -> tuple[Example, ...]:
        self._reach()
        found = [one for one in self.examples.values() if scope in (None, one.scope)]
        return tuple(sorted(found, key=lambda one: -one.created_at)[offset : offset + limit])

    async def remove(self, example_ids: Sequence[str], lease: Lease | None = None) -> int:
        self._reach()
        self._check(lease)
        return sum(self.examples.pop(one, None) is not None for one in example_ids)

    async def settle(self, settlement: Settlement) -> bool:
        self._reach()
        record = settlement.record
        stored = self.records.get(record.id)
        if (stored.revision if stored else 0) != record.revision - 1:
            return False
        self.records[record.id] = record
        for increment in settlement.increments:
            self.evidence[increment.key] = merge(self.evidence.get(increment.key, ArmSums()), increment.sums)
        for change in settlement.example_increments:
            if change.example_id in self.examples:
                old = self.examples[change.example_id]
                new = replace(
                    old,
                    uses=old.uses + change.uses,
                    gain=old.gain + change.gain,
                    offloads=max(old.offloads + change.offloads, 0.0),
                    regret=max(old.regret + change.regret, 0.0),
                )
                self.examples[change.example_id] = new
        if settlement.lesson is not None:
            self.learned.append(settlement.lesson)
        return True

    async def decision(self, decision_id: str) -> DecisionRecord | None:
        self._reach()
        return self.records.get(decision_id)

    async def decisions(self, scope: str | None, limit: int) -> tuple[DecisionRecord, ...]:
        self._reach()
        found = [one for one in reversed(self.records.values()) if scope in (None, one.scope)]
        return tuple(sorted(found, key=lambda one: -one.created_at)[:limit])

    async def sums(self) -> Mapping[ArmKey, ArmSums]:
        self._reach()
        return dict(self.evidence)

    async def lessons(self, cursor: str, limit: int) -> LessonPage:
        self._reach()
        first = int(cursor or 0)
        found = tuple(self.learned[first : first + max(0, limit)])
        return LessonPage(found, str(first + len(found)) if found else cursor)

    async def report_loads(self, worker: str, loads: Mapping[str, Load], ttl_s: float) -> None:
        self._reach()
        self.reports[worker] = (dict(loads), self._clock.now() + ttl_s)

    async def loads(self) -> Mapping[str, Mapping[str, Load]]:
        self._reach()
        return {worker: loads for worker, (loads, end) in self.reports.items() if end > self._clock.now()}

    async def remember_turn(self, conversation: str, deployment: str, ttl_s: float) -> None:
        self._reach()
        self.turns[conversation] = (deployment, self._clock.now() + ttl_s)

    async def last_turn(self, conversation: str) -> str:
        self._reach()
        deployment, end = self.turns.get(conversation, ("", 0.0))
        return deployment if end > self._clock.now() else ""

    async def take_lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        self._reach()
        held, end = self.leases.get(name, (Lease(name, "", 0), 0.0))
        if end > self._clock.now() and held.holder != holder:
            return None
        self.fence += 1
        taken = Lease(name, holder, self.fence)
        self.leases[name] = (taken, self._clock.now() + ttl_s)
        return taken

    async def keep_lease(self, lease: Lease, ttl_s: float) -> bool:
        self._reach()
        held, end = self.leases.get(lease.name, (None, 0.0))
        if held != lease or end <= self._clock.now():
            return False
        self.leases[lease.name] = (lease, self._clock.now() + ttl_s)
        return True

    async def drop_lease(self, lease: Lease) -> None:
        self._reach()
        if self.leases.get(lease.name, (None, 0.0))[0] == lease:
            del self.leases[lease.name]

    def _check(self, lease: Lease | None) -> None:
        held, end = self.leases.get(lease.name, (None, 0.0)) if lease else (None, 0.0)
        if lease is not None and (held != lease or end <= self._clock.now()):
            raise LeaseLost(f"lease {lease.name} must be held, got one that has ended")

    async def note_run(self, run: UpkeepRun) -> None:
        self._reach()
        self.journal.append(run)

    async def runs(self, limit: int) -> tuple[UpkeepRun, ...]:
        self._reach()
        return tuple(reversed(self.journal))[:limit]

    async def put_note(self, name: str, text: str) -> None:
        self._reach()
        self.notes[name] = text

    async def note(self, name: str) -> str:
        self._reach()
        return self.notes.get(name, "")

    async def count(self, counters: Mapping[tuple[str, str], float]) -> None:
        self._reach()
        for key, amount in counters.items():
            self.counts[key] = self.counts.get(key, 0.0) + amount

    async def counters(self, scope: str | None) -> Mapping[str, float]:
        self._reach()
        out: dict[str, float] = {}
        for (owner, name), amount in self.counts.items():
            if scope in (None, owner):
                out[name] = out.get(name, 0.0) + amount
        return out
