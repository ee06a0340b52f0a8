"""What does the queue know of a request, and what does it say?"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much there may be of everything."""

    n_parallel: int
    """Requests in the batch at once."""
    n_cells: int
    """Tokens that all of them together can hold."""
    max_queue: int = 64
    """Requests that may wait, beside those for which a slot is free."""
    max_queue_s: float = 60.0
    """Longest wait; inf = any. One that was paused may wait longer."""
    max_pauses: int = 2
    """How often one request may be paused for the sake of another; 0 = never."""


@dataclass(frozen=True, slots=True)
class Waiter:
    """A request that waits."""

    number: int
    """Order of arrival, unique; a paused one keeps its own."""
    scope: str
    """Whose request it is."""
    priority: int
    """Higher is served first."""
    arrived_at: float
    """Monotonic seconds, kept over pauses."""
    deadline_at: float
    """When the whole answer should be there, in monotonic seconds; inf = whenever."""
    n_prompt_tokens: int
    """That must be read; of a paused one, the prompt and the answer so far."""
    most_tokens: int
    """That its answer may still have."""
    n_done: int = 0
    """Tokens it had written when it was paused, since the beginning of its answer."""
    n_pauses: int = 0
    """How often it was paused for the sake of another."""
    n_shortages: int = 0
    """How often it had to leave because the cells did not suffice for all; this spares it no pause."""


@dataclass(frozen=True, slots=True)
class Running:
    """A request in the batch."""

    waiter: Waiter
    """As it was when it left the queue the last time."""
    n_written: int
    """Tokens of its answer so far, those before a pause included."""
    started_at: float
    """When it left the queue the last time, in monotonic seconds."""
    n_cells: int
    """That only it holds."""


@dataclass(frozen=True, slots=True)
class Served:
    """A request that left the batch for good."""

    waiter: Waiter
    """As it was when it left the queue the last time."""
    n_read: int
    """Tokens that were really read since then: without those whose state was there."""
    n_written: int
    """Tokens of its answer, those before a pause included."""
    read_s: float
    """From leaving the queue the last time until its next token."""
    write_s: float
    """From that token until its end."""
    n_beside: int
    """Requests in the batch when it ended, itself included."""
    is_whole: bool = True
    """False = cancelled or failed: its length says nothing about others."""


@dataclass(frozen=True, slots=True)
class Room:
    """What the batch has left."""

    n_slots: int
    """Free ones of n_parallel."""
    n_cells: int
    """Free, or held only by kept prefixes that can be given up."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that leaves the queue without an answer."""

    number: int
    reason: str
    """For the caller."""
    retry_after_s: float
    """When there will probably be room: whole seconds, [1, 60]."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do next, at most one thing; nothing = run the batch as it is."""

    admit: int | None = None
    """Number of the request that left the queue and now runs."""
    pause: int | None = None
    """Number of a running one to be paused and put back, so that the next choice can be an admission."""
