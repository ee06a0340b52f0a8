"""Who is admitted to the batch, who is paused, and who is refused? Bookkeeping without clocks or threads.

The order is: priority; urgency, that is the slack to the deadline (EcoServe, https://arxiv.org/abs/2411.06364); fair
turns between scopes (VTC, https://arxiv.org/abs/2401.00588); shorter answers first, with ageing; arrival. Whoever
arrived first gets a turn after every 16 admissions of others, so nobody starves, whatever the priorities.

Paused requests are never refused, because part of their answer may have been sent: they may wait longer than others,
and a lost deadline only ends their hurry. Being the oldest, they get the turns just mentioned.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from math import inf

from echo_proxy.engine.forecast import Forecast
from echo_proxy.engine.queue_fairness import FairShare
from echo_proxy.engine.queue_line import Entry, Line
from echo_proxy.engine.queue_pause import Blocked, PauseRule
from echo_proxy.engine.queue_records import Choice, QueueLimits, Refusal, Room, Running, Served, Waiter
from echo_proxy.engine.queue_wait import fill_s, retry_after_s
from echo_proxy.engine.work import Overloaded

__all__ = ["AdmissionQueue", "Choice", "Forecast", "QueueLimits", "Refusal", "Room", "Running", "Served", "Waiter"]

TURN = 16
"""After so many admissions of others it is the oldest's turn; until twice as many, higher priorities may still pass
it while there is no room for it. Guess, not yet measured."""
_LOOK_AHEAD = 4
"""Requests that are looked at when the memory is too small for the next. Each costs a walk through the prefixes."""
_MAX_PASSES = 8
"""Smaller ones that may pass the next one before the memory is kept for it. Guess, not yet measured."""
_DRIFT = 1.5
"""Predictions of those that wait are renewed when the usual service time has changed by so much."""
_NOTHING = Choice()


class AdmissionQueue:
    """The requests that wait for the batch. Its caller sees to it that one thread at a time uses it."""

    def __init__(self, limits: QueueLimits, forecast: Forecast) -> None:
        self._limits = limits
        self._forecast = forecast
        self._shares = FairShare()
        self._line = Line(self._shares)
        self._pauses = PauseRule(forecast, limits.max_pauses)
        self._renewed_at_s = forecast.usual_service_s
        """The usual service time when predictions were last renewed."""
        self._now = 0.0
        self._n_since_oldest = 0
        self._passed: int | None = None
        self._n_passed = 0
        self._claim: int | None = None
        """For which one others were paused."""
        self._asked: set[int] = set()
        """Whose pause was asked for and has not happened yet."""

    def __len__(self) -> int:
        return len(self._line)

    # ------------------------------------------------------------------ in

    def put(self, waiter: Waiter, running: Sequence[Running], now: float) -> tuple[Refusal, ...]:
        """A new request waits from now on. Returns those that had to make way for it.

        Raises Overloaded: the queue is full of requests that are not less urgent, or it would probably wait too long
        or miss its deadline. Nobody is refused because of a prediction who would not have to wait, or before anything
        was heard.
        """
        self._now = now
        entry = self._entry(waiter, min(len(running) + len(self) + 1, self._limits.n_parallel))
        # What runs with less priority makes way at once for a deadline, otherwise after a wait as long as the service.
        patience_s = entry.service_s if waiter.deadline_at == inf else 0.0
        lanes_s = self._lanes_s(waiter.priority, patience_s, running, now)
        wait_s = self._probable_wait_s(lanes_s, self._line.ahead_s(entry))
        if wait_s <= 0:
            entry = replace(entry, give_up_at=min(waiter.deadline_at, waiter.arrived_at + self._limits.max_queue_s))
        elif not self._forecast.is_guess:
            self._turn_away_if_late(entry, wait_s, now)
        refusals = self._make_way(entry, wait_s, running)
        self._line.add(entry)
        return refusals

    def put_back(self, waiter: Waiter) -> None:
        """One that was paused waits again; it is never refused."""
        self._asked.discard(waiter.number)
        self._shares.settle(waiter, waiter.n_done, self._now)
        self._line.add(self._entry(waiter, self._limits.n_parallel, is_refusable=False))

    def _turn_away_if_late(self, entry: Entry, wait_s: float, now: float) -> None:
        too_long_s = wait_s - self._limits.max_queue_s
        if too_long_s > 0:
            raise Overloaded(
                f"expected a wait of at most {self._limits.max_queue_s:.0f} s in the queue, got about {wait_s:.0f} s",
                retry_after_s(too_long_s),
            )
        left_s = entry.waiter.deadline_at - now
        needed_s = wait_s + entry.service_s
        if needed_s > left_s:
            raise Overloaded(
                f"expected about {needed_s:.1f} s until the answer, more than the {left_s:.1f} s until its deadline",
                retry_after_s(needed_s - left_s),
            )

    def _make_way(self, entry: Entry, wait_s: float, running: Sequence[Running]) -> tuple[Refusal, ...]:
        n_free = max(self._limits.n_parallel - len(running), 0)
        if len(self) < self._limits.max_queue + n_free:
            return ()
        # Half of the wait: when half of those before it are gone, there is room for it and for others like it.
        retry_s = retry_after_s(wait_s / 2)
        least = self._line.to_push_out(entry)
        if least is None:
            raise Overloaded(f"the queue is full: {len(self)} requests wait that are as urgent", retry_s)
        self.remove(least.waiter.number)
        return (Refusal(least.waiter.number, "the queue is full of more urgent requests", retry_s),)

    # ------------------------------------------------------------------ out

    def remove(self, number: int) -> None:
        """Nobody waits for it any more. Nothing happens when it is not in the queue."""
        if self._line.get(number) is not None:
            self._line.pop(number)
            self._claim = None if self._claim == number else self._claim

    def expire(self, now: float) -> tuple[Refusal, ...]:
        """Take out those that waited too long or can no longer meet their deadline.

        A paused one stays; when its deadline is lost, it is only no longer in a hurry.
        """
        refusals: list[Refusal] = []
        while (entry := self._line.due(now)) is not None:
            if not entry.is_refusable:
                self._line.replace(replace(entry, is_late=True, give_up_at=inf))
                continue
            self.remove(entry.waiter.number)
            refusals.append(self._expired(entry, now))
        return tuple(refusals)

    def _expired(self, entry: Entry, now: float) -> Refusal:
        waited_s = now - entry.waiter.arrived_at
        if waited_s > self._limits.max_queue_s:
            reason = f"expected a wait of at most {self._limits.max_queue_s:.0f} s in the queue, got more"
        else:
            reason = f"its deadline can no longer be met after {waited_s:.1f} s in the queue"
        until_room_s = len(self) * self._forecast.usual_service_s / self._limits.n_parallel
        return Refusal(entry.waiter.number, reason, retry_after_s(until_room_s))

    # ------------------------------------------------------------------ choices

    def choose(self, running: Sequence[Running], room: Room, need: Callable[[int], int], now: float) -> Choice:
        """What to do now. To be asked again, with the batch and the room as they then are, until it is nothing.

        When nothing runs, somebody is admitted. Whoever is admitted has left the queue.

        Args:
            running: all in the batch.
            room: what is left.
            need: cells that a waiting one needs now, by its number: its prompt without what is shared.
            now: monotonic seconds.
        """
        self._now = now
        if not self._line or (room.n_slots <= 0 and not self._may_pause(running)):
            return _NOTHING
        n_free = room.n_cells - sum(map(self._forecast.remaining_tokens, running))
        entries = self._next(now)
        if room.n_slots > 0:
            for entry in entries:
                n_read = need(entry.waiter.number)
                if not running or n_read + entry.n_tokens <= n_free:
                    self._admit(entry, n_read, entries[0], running)
                    return Choice(admit=entry.waiter.number)
        return self._pause_for(max(entries, key=lambda one: one.waiter.priority), running, room.n_slots, n_free, need)

    def _next(self, now: float) -> list[Entry]:
        """The few to be looked at, in order."""
        claim = None if self._claim is None else self._line.get(self._claim)
        if claim is not None:
            return [claim]
        ordered = self._line.ordered(now, self._forecast.usual_service_s)
        if self._n_since_oldest < TURN:
            entries = _until_short(islice(ordered, _LOOK_AHEAD))
            is_kept_for = entries[0].waiter.number == self._passed and self._n_passed >= _MAX_PASSES
            return entries[:1] if is_kept_for else entries
        oldest = self._line.oldest
        if self._n_since_oldest >= 2 * TURN:
            return [oldest]
        passing = (one for one in islice(ordered, _LOOK_AHEAD) if one.waiter.priority > oldest.waiter.priority)
        return [oldest, *passing]

    def _admit(self, entry: Entry, n_read: int, first: Entry, running: Sequence[Running]) -> None:
        waiter = entry.waiter
        self._n_since_oldest = 0 if entry is self._line.oldest else self._n_since_oldest + 1
        if entry is not first:
            self._n_passed = self._n_passed + 1 if self._passed == first.waiter.number else 1
            self._passed = first.waiter.number
        self.remove(waiter.number)
        self._shares.keep_only({one.waiter.number for one in running})
        self._shares.begin(waiter, n_read, entry.n_tokens, self._now)

    # ------------------------------------------------------------------ pauses

    def _may_pause(self, running: Sequence[Running]) -> bool:
        top = self._line.top_priority
        return any(self._pauses.is_possible(one, top) for one in running)

    def _pause_for(
        self, entry: Entry, running: Sequence[Running], n_slots: int, n_free: float, need: Callable[[int], int]
    ) -> Choice:
        self._asked.intersection_update([one.waiter.number for one in running])
        victim = None
        if any(self._pauses.is_possible(one, entry.waiter.priority) for one in running):
            n_short = need(entry.waiter.number) + entry.n_tokens - n_free
            victim = self._pauses.victim(Blocked(entry, n_slots, n_short), running, self._asked, self._now)
        if victim is None:
            self._claim = None
            return _NOTHING
        self._claim = entry.waiter.number
        self._asked.add(victim)
        return Choice(pause=victim)

    # ------------------------------------------------------------------ predictions

    def wait_s(self, priority: int, running: Sequence[Running], now: float) -> float:
        """Seconds that a request of that priority that comes now will probably wait; 0 = none."""
        lanes_s = self._lanes_s(priority, self._forecast.usual_service_s, running, now)
        return self._probable_wait_s(lanes_s, self._line.work_s(priority))

    def heard(self, served: Served, now: float) -> None:
        """A request left the batch for good."""
        self._now = now
        self._forecast.hear(served)
        self._shares.settle(served.waiter, served.n_written, now)
        usual_s = self._forecast.usual_service_s
        if not self._renewed_at_s / _DRIFT <= usual_s <= self._renewed_at_s * _DRIFT:
            self._renewed_at_s = usual_s
            for entry in list(self._line):
                fresh = self._entry(entry.waiter, self._limits.n_parallel, entry.is_refusable)
                self._line.replace(replace(entry, n_tokens=fresh.n_tokens, service_s=fresh.service_s))

    def _entry(self, waiter: Waiter, n_running: int, is_refusable: bool = True) -> Entry:
        forecast = self._forecast
        # One that had to make way needs more than was thought; asking for more, it is not paused again and again.
        n_tokens = forecast.answer_tokens(waiter) * (1 + waiter.n_pauses + waiter.n_shortages)
        if waiter.n_shortages:  # the prediction is used up: what has lasted so long may last as long again
            n_tokens = max(n_tokens, waiter.n_done)
        least_s = 0.0 if forecast.is_guess else forecast.least_service_s(waiter, n_running)
        until = waiter.arrived_at + self._limits.max_queue_s if is_refusable else inf
        return Entry(
            waiter=waiter,
            n_tokens=min(n_tokens, max(waiter.most_tokens, 0)),
            service_s=forecast.service_s(waiter, n_running),
            give_up_at=min(waiter.deadline_at - least_s, until),
            is_refusable=is_refusable,
        )

    def _probable_wait_s(self, lanes_s: list[float], work_s: float) -> float:
        """Seconds until a lane is free after that work; 0 when there are more free ones than requests that wait."""
        return 0.0 if len(self) < lanes_s.count(0.0) else fill_s(lanes_s, work_s)

    def _lanes_s(self, priority: int, patience_s: float, running: Sequence[Running], now: float) -> list[float]:
        """When each lane will be free for that priority, in seconds from now; at least one."""
        lanes_s = []
        for one in running:
            left_s = self._forecast.remaining_s(one, len(running), now)
            lanes_s.append(min(left_s, patience_s) if self._pauses.is_possible(one, priority) else left_s)
        return lanes_s + [0.0] * (self._n_lanes() - len(running))

    def _n_lanes(self) -> int:
        """Requests that can usually run at once: as many as slots, or as the memory holds; at least 1."""
        usual_cells = self._forecast.usual_cells
        by_memory = self._limits.n_cells / usual_cells if usual_cells > 0 else inf
        return int(max(min(by_memory, self._limits.n_parallel), 1))


def _until_short(entries: Iterable[Entry]) -> list[Entry]:
    """Those before the first that ran out of cells, and that one: whoever passed it would take what it waits for."""
    told = []
    for entry in entries:
        told.append(entry)
        if entry.waiter.n_shortages:
            break
    return told
