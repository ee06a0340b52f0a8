"""The seams: what the core asks of a part that can be swapped."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from echo_proxy.types import (
    Arm,
    ArmKey,
    ArmSums,
    Backlog,
    Candidate,
    DecisionRecord,
    Estimates,
    Example,
    ExamplePage,
    Held,
    HoldingsPage,
    Lease,
    LessonPage,
    Load,
    News,
    Observation,
    Query,
    Request,
    Settlement,
    Situation,
    StoreStatus,
    UpkeepRun,
    Vector,
    Which,
)


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""
        ...


class Embedder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def model(self) -> str:
        """Name that the index records, e.g. `all-minilm-l6-v2-int8`."""
        ...

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        ...

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows, shape (len(texts), dimensions). Raises EmbedderError."""
        ...


class Bandit(Protocol):
    """Says how likely each arm should be, from what is believed of it."""

    def pmf(self, seen: Estimates) -> Vector:
        """Probabilities, shape (n_arms,). Raises ValueError on estimates that nobody can decide on."""
        ...


class OutcomeModel(Protocol):
    """Expects what each arm earns in a situation, from the lessons it was fitted to."""

    def estimates(self, arms: Sequence[Arm], situation: Situation) -> Estimates:
        """What is believed of each arm."""
        ...

    def learn(self, news: News) -> None:
        """Take a new lesson, or a later view of one, into account until the next fit; cheap."""
        ...


class UtilityModel(Protocol):
    """Estimates what an example is worth to a request."""

    def utilities(self, request: Request, candidates: Sequence[Candidate]) -> Vector:
        """P(an answer given with it is good), shape (n_candidates,), in [0, 1]."""
        ...


class Examples(Protocol):
    """Keeps examples of one policy and finds them by distance."""

    async def nearest(self, query: Query) -> tuple[Candidate, ...]:
        """Unexpired examples of the query's scopes and partition within its distance that may be shown to its reader,
        nearest first, k at most."""
        ...

    async def add_many(self, examples: Sequence[Example]) -> None:
        """As `add`, in one go; on an error some may be kept."""
        ...

    async def change(self, before: Example, after: Example, lease: Lease | None = None) -> bool:
        """Write the fields in which `after` differs, with the next version; its id must be the same.

        Outcome counts (uses, gain, offloads, regret) that do not differ go on as they are stored, so that none which
        is counted meanwhile is lost. False, and nothing written, when the stored version is not that of `before` or the
        example is gone. Raises LeaseLost.
        """
        ...

    async def observe(self, example_id: str, version: int, seen: Observation) -> bool:
        """Append what was seen of its answer; the newest 64 are kept. False when the example has another version."""
        ...

    async def held_by(self, writer: str) -> Held:
        """What a writer has in the store."""
        ...

    async def find(self, which: Which, cursor: str, limit: int) -> ExamplePage:
        """Walk through unexpired examples; "" begins.

        A page may hold fewer than limit or a few more, and none without being last. None that is there all the while is
        missed; any may come twice.
        """
        ...

    async def holdings(self, cursor: str, limit: int) -> HoldingsPage:
        """Walk through all examples, expired ones too where they are still there; as `find`."""
        ...

    async def add(self, example: Example) -> None:
        """Acknowledged means kept. An existing id is replaced. Raises SchemaMismatch on a wrong vector size."""
        ...

    async def get(self, example_id: str) -> Example | None:
        """The example, or None."""
        ...

    async def page(self, scope: str | None, offset: int, limit: int) -> tuple[Example, ...]:
        """Examples of a scope (None = all), newest first."""
        ...

    async def remove(self, example_ids: Sequence[str], lease: Lease | None = None) -> int:
        """How many existed and are gone. Raises LeaseLost."""
        ...


class Leases(Protocol):
    """Lets one of many do something, by the store's own clock."""

    async def take_lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """The lease, with a higher fence than all before; None while somebody else has it. Who has it gets it anew."""
        ...

    async def keep_lease(self, lease: Lease, ttl_s: float) -> bool:
        """Prolong it to ttl_s from now; False when it has ended."""
        ...

    async def drop_lease(self, lease: Lease) -> None:
        """Let others have it; nothing happens when it has ended."""
        ...


class Journal(Protocol):
    """Keeps what upkeep did, and what it found out."""

    async def note_run(self, run: UpkeepRun) -> None:
        """Keep it; about the newest 1,000 are kept."""
        ...

    async def runs(self, limit: int) -> tuple[UpkeepRun, ...]:
        """The newest, newest first."""
        ...

    async def put_note(self, name: str, text: str) -> None:
        """Keep a text under a name, in place of the one before."""
        ...

    async def note(self, name: str) -> str:
        """The text; empty when there is none."""
        ...


class Ledger(Protocol):
    """Keeps decisions and what was learned from them, for one policy, shared by all workers."""

    async def settle(self, settlement: Settlement) -> bool:
        """Apply record, increments and example increments at once.

        Increments fade as if they had been known when the decision was taken, so late feedback replaces exactly what
        is left of the early guess.

        False, and nothing applied, when the stored revision is the record's revision minus one no longer
        (0 = absent): the settlement was applied before, or another worker was faster.
        """
        ...

    async def decision(self, decision_id: str) -> DecisionRecord | None:
        """The record, or None when unknown or expired."""
        ...

    async def decisions(self, scope: str | None, limit: int) -> tuple[DecisionRecord, ...]:
        """The newest settled decisions of a scope (None = all), newest first."""
        ...

    async def sums(self) -> Mapping[ArmKey, ArmSums]:
        """Merged evidence of all workers, faded to now."""
        ...

    async def lessons(self, cursor: str, limit: int) -> LessonPage:
        """What was settled since the cursor, oldest first, limit at most; "" begins with the oldest that is kept."""
        ...

    async def report_loads(self, worker: str, loads: Mapping[str, Load], ttl_s: float) -> None:
        """Replace what a worker says of its deployments; forgotten after ttl_s unless it says so again."""
        ...

    async def loads(self) -> Mapping[str, Mapping[str, Load]]:
        """What the live workers say of their deployments, by worker."""
        ...

    async def remember_turn(self, conversation: str, deployment: str, ttl_s: float) -> None:
        """Note which deployment answered a conversation's last turn."""
        ...

    async def last_turn(self, conversation: str) -> str:
        """Deployment that answered a conversation's last turn; empty when unknown or forgotten."""
        ...

    async def count(self, counters: Mapping[tuple[str, str], float]) -> None:
        """Add to the counts by (scope, name)."""
        ...

    async def counters(self, scope: str | None) -> Mapping[str, float]:
        """Counts of a scope (None = the sum over all), by name."""
        ...


class Store(Examples, Ledger, Leases, Journal, Protocol):
    """One policy's examples, decisions and evidence. Every method raises StoreUnavailable when it cannot be reached."""

    async def open(self) -> None:
        """Connect, make or check the index, and wait until it is searchable. Raises SchemaMismatch."""
        ...

    async def close(self) -> None:
        """Let go of connections; idempotent."""
        ...

    async def status(self) -> StoreStatus:
        """Whether it can serve; never raises."""
        ...


class Reembedding(Protocol):
    """Gives one policy's examples the vectors of another model, step by step.

    No proxy with that model can open the store until `finish`; whether others can, see Reembeddable. It may end at any
    point, also by kill -9: nothing is lost, and the next one goes on where this one stopped.
    """

    async def stale(self, limit: int) -> Backlog:
        """Examples without such a vector, limit at most; the same ones until they are rewritten."""
        ...

    async def rewrite(self, examples: Sequence[Example]) -> None:
        """Keep the new vectors of all that `stale` gave last; everything else about them stays as it is stored.

        Raises SchemaMismatch on a wrong vector size, and where it locks out, when a reembedding to another model has
        taken over.
        """
        ...

    async def finish(self) -> None:
        """Make the store usable with the new model. Raises StoreError while an example is stale."""
        ...


class Reembeddable(Protocol):
    """A store whose examples can be given vectors of the model that it is configured with."""

    locks_out: bool
    """Whether no proxy can use it from the first step until `finish`, and other models' vectors are overwritten."""

    def reembedding(self) -> AbstractAsyncContextManager[Reembedding | None]:
        """Opens the store for nothing else; None when all examples have such vectors already."""
        ...

    async def forget_others(self) -> int:
        """Drop what proxies with other models need; how many examples had some of it.

        Raises SchemaMismatch, StoreError while an example has no vector of the configured model.
        """
        ...
