"""How does the queue do under load? A simulated engine on a simulated clock."""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from echo_proxy.engine.queue import (
    AdmissionQueue,
    Forecast,
    QueueLimits,
    Refusal,
    Room,
    Running,
    Served,
    Waiter,
)
from echo_proxy.engine.work import Overloaded

STEP_S, ROW_S, READ_S, N_CHUNK = 0.010, 0.00125, 0.0001, 256
"""A step costs something, each written token and each token that is read too, and reads so many at once."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as its caller sends it, and as its answer will be."""

    at: float
    n_answer: int
    scope: str = "a"
    priority: int = 0
    deadline_s: float = math.inf
    n_prompt: int = 100
    most_tokens: int = 512


@dataclass(slots=True)
class Fate:
    """What became of it."""

    arrival: Arrival
    admitted_at: float | None = None
    """The first time."""
    ended_at: float | None = None
    refused_at: float | None = None
    retry_after_s: float | None = None
    n_pauses: int = 0
    n_overtaken: int = 0
    """Admissions of others while it waited for its first."""
    n_before: int = 0
    """Requests that waited when it came."""

    @property
    def is_attained(self) -> bool:
        return self.ended_at is not None and self.ended_at <= self.arrival.at + self.arrival.deadline_s

    @property
    def wait_s(self) -> float:
        """Until it was admitted or refused."""
        left_at = self.admitted_at if self.admitted_at is not None else self.refused_at
        assert left_at is not None
        return left_at - self.arrival.at


@dataclass(slots=True)
class _Seat:
    waiter: Waiter
    started_at: float
    n_unread: int
    n_written: int
    first_at: float | None = None

    def running(self) -> Running:
        return Running(self.waiter, self.n_written, self.started_at, self.n_cells)

    @property
    def n_cells(self) -> int:
        return self.waiter.n_prompt_tokens - self.n_unread + self.n_written - self.waiter.n_done


@dataclass(slots=True)
class SimulatedEngine:
    """Steps through time; asks the queue as the real one does."""

    limits: QueueLimits
    is_ordered: bool = True
    """False = the queue is told neither priorities nor deadlines."""
    now: float = 0.0
    fates: dict[int, Fate] = field(default_factory=dict)
    queue: AdmissionQueue = field(init=False)
    _seats: dict[int, _Seat] = field(default_factory=dict)
    _waiters: dict[int, Waiter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.queue = AdmissionQueue(self.limits, Forecast())

    def run(self, arrivals: Iterable[Arrival]) -> list[Fate]:
        """Send them all and go on until everybody was served or refused."""
        coming = sorted(arrivals, key=lambda one: one.at)
        for number, arrival in enumerate(coming):
            while (self._seats or len(self.queue)) and self.now < arrival.at:
                self.step()
            self.now = max(self.now, arrival.at)
            self._put(number, arrival)
        while self._seats or len(self.queue):
            self.step()
        return list(self.fates.values())

    def step(self) -> None:
        """Refuse, choose, and run the batch once."""
        for refusal in self.queue.expire(self.now):
            self._refuse(refusal)
        self._choose()
        assert self._seats or not len(self.queue), "the queue stalls"
        self._make_room()
        self._run_batch()

    def _put(self, number: int, arrival: Arrival) -> None:
        self.fates[number] = Fate(arrival, n_before=len(self.queue))
        waiter = Waiter(
            number,
            arrival.scope,
            arrival.priority if self.is_ordered else 0,
            arrival.at,
            arrival.at + arrival.deadline_s if self.is_ordered else math.inf,
            arrival.n_prompt,
            arrival.most_tokens,
        )
        try:
            pushed_out = self.queue.put(waiter, self._running(), self.now)
        except Overloaded as error:
            self._refuse(Refusal(number, str(error), error.retry_after_s))
            return
        self._waiters[number] = waiter
        for refusal in pushed_out:
            self._refuse(refusal)

    def _refuse(self, refusal: Refusal) -> None:
        fate = self.fates[refusal.number]
        assert fate.admitted_at is None, "one that was begun is refused"
        fate.refused_at, fate.retry_after_s = self.now, refusal.retry_after_s
        self._waiters.pop(refusal.number, None)

    def _running(self) -> Sequence[Running]:
        return [seat.running() for seat in self._seats.values()]

    def _n_free(self) -> int:
        return self.limits.n_cells - sum(seat.n_cells for seat in self._seats.values())

    def _choose(self) -> None:
        while True:
            room = Room(self.limits.n_parallel - len(self._seats), self._n_free())
            choice = self.queue.choose(self._running(), room, lambda one: self._waiters[one].n_prompt_tokens, self.now)
            if choice.admit is not None:
                self._admit(choice.admit)
            elif choice.pause is not None:
                self._pause(choice.pause)
            else:
                return

    def _admit(self, number: int) -> None:
        waiter = self._waiters.pop(number)
        self._seats[number] = _Seat(waiter, self.now, waiter.n_prompt_tokens, waiter.n_done)
        if self.fates[number].admitted_at is None:
            self.fates[number].admitted_at = self.now
        for other in self._waiters:
            self.fates[other].n_overtaken += self.fates[other].admitted_at is None

    def _pause(self, number: int, *, is_short: bool = False) -> None:
        seat = self._seats.pop(number)
        n_new = seat.n_written - seat.waiter.n_done
        waiter = replace(
            seat.waiter,
            n_prompt_tokens=seat.waiter.n_prompt_tokens + n_new,
            most_tokens=seat.waiter.most_tokens - n_new,
            n_done=seat.n_written,
            n_pauses=seat.waiter.n_pauses + (not is_short),
            n_shortages=seat.waiter.n_shortages + is_short,
        )
        self.fates[number].n_pauses += 1
        self._waiters[number] = waiter
        self.queue.put_back(waiter)

    def _make_room(self) -> None:
        """The engine's own pause when predictions were too short: the least urgent goes back."""
        while len(self._seats) > 1 and self._n_free() < len(self._seats):
            self._pause(max(self._seats, key=lambda one: (-self._seats[one].waiter.priority, one)), is_short=True)

    def _run_batch(self) -> None:
        n_read = n_rows = 0
        n_budget = min(N_CHUNK, self._n_free())
        for seat in self._seats.values():
            if seat.n_unread:
                n_taken = min(seat.n_unread, n_budget - n_read)
                seat.n_unread -= n_taken
                n_read += n_taken
            else:
                seat.n_written += 1
                n_rows += 1
        self.now += STEP_S + ROW_S * n_rows + READ_S * n_read
        for number, seat in list(self._seats.items()):
            if seat.first_at is None and seat.n_written > seat.waiter.n_done:
                seat.first_at = self.now
            if seat.n_written >= min(self.fates[number].arrival.n_answer, self.fates[number].arrival.most_tokens):
                self._end(number, seat)

    def _end(self, number: int, seat: _Seat) -> None:
        n_beside = len(self._seats)
        del self._seats[number]
        self.fates[number].ended_at = self.now
        first_at = seat.first_at or self.now
        served = Served(
            seat.waiter,
            seat.waiter.n_prompt_tokens,
            seat.n_written,
            first_at - seat.started_at,
            self.now - first_at,
            n_beside,
        )
        self.queue.heard(served, self.now)


def poisson(rng: random.Random, per_s: float, from_s: float, to_s: float) -> list[float]:
    """Times of independent arrivals."""
    times = []
    at = from_s
    while (at := at + rng.expovariate(per_s)) < to_s:
        times.append(at)
    return times


def quantile(values: Iterable[float], share: float) -> float:
    """The value that this share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
