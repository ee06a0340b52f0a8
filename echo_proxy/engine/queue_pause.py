"""Shall a running request make way for one that waits, and which?

Pausing by saving state costs less than starting over (Kim et al. 2024, INFERMAX, https://arxiv.org/abs/2411.07447),
but it costs, so there must be something to gain, and nobody is paused again and again.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from echo_proxy.engine.forecast import Forecast
from echo_proxy.engine.queue_line import Entry
from echo_proxy.engine.queue_records import Running
from echo_proxy.engine.queue_wait import Leaving, room_in_s

_WORTH = 2.0
"""What is gained must be so many times the cost of a pause; also how long, in costs, a request runs undisturbed.
Guess, not yet measured."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """The next of the queue, for which there is no room."""

    entry: Entry
    n_slots: int
    """Free ones."""
    n_cells_short: float
    """Cells beyond those that are free; 0 or less = enough are free."""


@dataclass(frozen=True, slots=True)
class _Victim:
    running: Running
    leaving: Leaving
    cost_s: float
    """Of reading everything again; a saved state costs less."""
    is_harmed: bool
    """It would lose its deadline."""


class PauseRule:
    """Decides about pauses."""

    def __init__(self, forecast: Forecast, max_pauses: int) -> None:
        self._forecast = forecast
        self._max_pauses = max_pauses

    def is_possible(self, running: Running, priority: int) -> bool:
        """Whether that priority could ever pause it, gain aside."""
        return running.waiter.priority < priority and running.waiter.n_pauses < self._max_pauses

    def victim(self, blocked: Blocked, running: Sequence[Running], asked: Collection[int], now: float) -> int | None:
        """Number of the one to be paused; None = waiting is better.

        Args:
            blocked: who asks.
            running: all that run.
            asked: of them, those whose pause was asked for already.
            now: monotonic seconds.
        """
        leaving = [self._leaving(one, len(running), now) for one in running]
        wait_s = room_in_s(leaving, blocked.n_slots, blocked.n_cells_short)
        victims = [
            self._victim(one, end, blocked, now)
            for one, end in zip(running, leaving, strict=True)
            if self.is_possible(one, blocked.entry.waiter.priority) and one.waiter.number not in asked
        ]
        worth = [one for one in victims if _is_worth(one, blocked.entry, wait_s, now)]
        if not worth or sum(one.leaving.n_cells for one in worth) < blocked.n_cells_short:
            return None
        return min(worth, key=lambda one: _loss(one, blocked)).running.waiter.number

    def _leaving(self, one: Running, n_running: int, now: float) -> Leaving:
        n_cells = one.n_cells + self._forecast.remaining_tokens(one)
        return Leaving(self._forecast.remaining_s(one, n_running, now), n_cells)

    def _victim(self, one: Running, leaving: Leaving, blocked: Blocked, now: float) -> _Victim:
        waiter = one.waiter
        cost_s = self._forecast.read_s(waiter.n_prompt_tokens + one.n_written - waiter.n_done)
        ends_at = now + leaving.in_s
        is_harmed = ends_at <= waiter.deadline_at < ends_at + cost_s + blocked.entry.service_s
        return _Victim(one, leaving, cost_s, is_harmed)


def _is_worth(victim: _Victim, entry: Entry, wait_s: float, now: float) -> bool:
    """It has run a while and would run for long, and without it the other would wait long or too long."""
    would_miss = now + wait_s > entry.start_by
    least_s = _WORTH * victim.cost_s
    return (
        now - victim.running.started_at >= least_s
        and victim.leaving.in_s >= least_s
        and (would_miss or wait_s > max(entry.service_s, least_s))
    )


def _loss(victim: _Victim, blocked: Blocked) -> tuple[int, bool, bool, float]:
    """The smallest is paused: least priority, then least harm, then one that suffices alone, then the longest."""
    is_too_small = victim.leaving.n_cells < blocked.n_cells_short
    return victim.running.waiter.priority, victim.is_harmed, is_too_small, -victim.leaving.in_s
