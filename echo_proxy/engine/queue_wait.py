"""When will there be room? Arithmetic on what is predicted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

MAX_RETRY_S = 60


@dataclass(frozen=True, slots=True)
class Leaving:
    """A running request as it will probably end."""

    in_s: float
    n_cells: float
    """That will be free then, those that it has yet to write included."""


def fill_s(lanes_s: Sequence[float], work_s: float) -> float:
    """Seconds until work that is spread over lanes has been done, lanes becoming free at different times.

    Args:
        lanes_s: when each lane is free, in seconds from now; at least one.
        work_s: seconds of one lane; it may be cut as fine as you like, so the result errs on the short side.
    """
    ordered = sorted(lanes_s)
    level = ordered[0]
    for n_lanes, next_s in enumerate(ordered[1:], start=1):
        gap = (next_s - level) * n_lanes
        if gap >= work_s:
            return level + work_s / n_lanes
        work_s -= gap
        level = next_s
    return level + work_s / len(ordered)


def room_in_s(leaving: Sequence[Leaving], n_slots: int, n_cells_short: float) -> float:
    """Seconds until there are a slot and the cells that are short, if nobody else takes them.

    Args:
        leaving: all that run.
        n_slots: free ones.
        n_cells_short: cells beyond those that are free; 0 or less = enough are free.
    """
    n_gone = 0.0
    for n_left, one in enumerate(sorted(leaving, key=lambda one: one.in_s), start=1):
        n_gone += one.n_cells
        if n_slots + n_left > 0 and n_gone >= n_cells_short:
            return one.in_s
    return max((one.in_s for one in leaving), default=0.0)


def retry_after_s(until_room_s: float) -> float:
    """Whole seconds for a caller to wait, [1, 60]."""
    return float(min(max(math.ceil(until_room_s), 1), MAX_RETRY_S)) if until_room_s < MAX_RETRY_S else MAX_RETRY_S
