"""What does one more request cost those that come after it?

Not guessed from sums of later rewards, which are noise for the most part: counted. Later requests are taken as they
were dealt out, once behind the additional request and once without it; what differs is its harm. That others would have
been dealt out differently is left out, so harm is overstated where there was room elsewhere; training ends with trying
how much of it to believe.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapreplace

import numpy as np

from echo_proxy.types import Vector

_LONGEST = 400
"""Later requests that are looked at: in an overload that does not end the harm would never end either, but those far
behind are late anyway. # guess, not yet measured"""


@dataclass(frozen=True, slots=True)
class Dealt:
    """The requests that one deployment was given, in order of time, each field of shape (n,)."""

    at: Vector
    occupied_s: Vector
    latest_begin_s: Vector
    """Latest moment at which a slot must take it up for an answer in time."""
    quality: Vector
    """Expected, of an answer in time."""
    slack_s: float

    def after(self, now: float) -> "list[tuple[float, float, float, float]]":
        """Those that came later than a moment, as plain numbers."""
        first = int(np.searchsorted(self.at, now, side="right"))
        rows = slice(first, first + _LONGEST)
        fields = (self.at[rows], self.occupied_s[rows], self.latest_begin_s[rows], self.quality[rows])
        return list(zip(*(field.tolist() for field in fields), strict=True))


def harm(free_at: Sequence[float], now: float, occupied_s: float, dealt: Dealt) -> float:
    """Quality in time that later requests lose when a request is put before them.

    Args:
        free_at: when each slot becomes free, a heap.
        now: moment at which the request comes.
        occupied_s: for how long it will occupy a slot.
        dealt: what the deployment was given.
    """
    without, behind = list(free_at), list(free_at)
    heapreplace(behind, max(behind[0], now) + occupied_s)
    lost = 0.0
    for at, occupied, latest, quality in dealt.after(now):
        begins, delayed = max(without[0], at), max(behind[0], at)
        if delayed > begins:
            lost += quality * (_kept(begins - latest, dealt.slack_s) - _kept(delayed - latest, dealt.slack_s))
        elif behind[0] <= at and _is_same(without, behind, at):
            break
        heapreplace(without, begins + occupied)
        heapreplace(behind, delayed + occupied)
    return lost


def _kept(late_s: float, slack_s: float) -> float:
    if late_s <= 0:
        return 1.0
    return max(1 - late_s / slack_s, 0.0) if slack_s > 0 else 0.0


def _is_same(a: list[float], b: list[float], now: float) -> bool:
    """Whether from now on both queues are alike."""
    return sorted(x for x in a if x > now) == sorted(x for x in b if x > now)
