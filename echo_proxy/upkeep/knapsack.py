"""Which things are worth most within a weight that they may have together?

A 0/1 knapsack. Ordered by value per weight, the first that fit together are all but optimal: what is lost is less than
the one that does not fit any more (Dantzig 1957, https://doi.org/10.1287/opre.5.2.266). The rest is exchanged around
that place by dynamic programming, which mostly ends with a proof that nothing better exists (Pisinger 1997,
https://doi.org/10.1287/opre.45.5.758, the expanding core).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from echo_proxy.types import Vector

_MAX_STATES = 10_000
"""Partial exchanges that are pursued at once. With the next: a million examples take about a second and end less than
a hundred-thousandth from the bound, also where it is hard to tell them apart; measured by bench.keeping.knapsack."""
_MAX_STEPS = 600
"""Things on both sides of the split that are tried."""
_CLOSE = 1e-9
"""Share of the value below which a better choice is not looked for: sums of a million floats are no more exact."""

Mask = NDArray[np.bool_]
Weights = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Choice:
    """What is kept, and how good that is."""

    is_kept: Mask
    """Shape (n,)."""
    weight: int
    """Of all that is kept."""
    value: float
    """Of all that is kept."""
    bound: float
    """No choice within the budget is worth more."""
    is_over: bool
    """What must be kept is heavier than the budget by itself."""

    @property
    def gap(self) -> float:
        """Share of the bound that may be missing at most, [0, 1]; 0 = proven to be the best."""
        return max(1.0 - self.value / self.bound, 0.0) if self.bound > 0 else 0.0


def choose(values: Vector, weights: Weights, budget: int, is_forced: Mask | None = None) -> Choice:
    """What to keep. Of things that are equal in value and weight the earlier one is kept.

    Args:
        values: shape (n,), finite, at least 0.
        weights: shape (n,), at least 1.
        budget: what is kept weighs at most so much, unless `is_forced` alone weighs more.
        is_forced: shape (n,), kept in any case; None = nothing.

    Raises:
        ValueError: shapes disagree, or a number is out of range.
    """
    forced = np.zeros(len(values), dtype=bool) if is_forced is None else is_forced  # (n,)
    _check(values, weights, forced)
    kept = forced.copy()
    room = budget - int(weights[forced].sum())
    free = np.flatnonzero(~forced)
    best = bound = 0.0
    if room > 0:
        chosen, bound = _best(values[free], weights[free], room)
        kept[free[chosen]] = True
        best = float(values[free[chosen]].sum())
    base = float(values[forced].sum())
    return Choice(kept, int(weights[kept].sum()), base + best, base + max(bound, best), room < 0)


def _check(values: Vector, weights: Weights, forced: Mask) -> None:
    if not values.shape == weights.shape == forced.shape or values.ndim != 1:
        raise ValueError(
            f"values, weights and is_forced must be columns of one length, got {values.shape}, {weights.shape} and "
            f"{forced.shape}"
        )
    if not np.all(np.isfinite(values) & (values >= 0)):
        raise ValueError("values must be finite and at least 0")
    if len(weights) and weights.min() < 1:
        raise ValueError(f"weights must be at least 1, got {weights.min()}")


def _best(values: Vector, weights: Weights, room: int) -> tuple[NDArray[np.int64], float]:
    """Indices of what is kept, and a bound on what could be."""
    order = np.argsort(-values / weights, kind="stable")  # (n,), best value per weight first
    total = np.cumsum(weights[order])  # (n,)
    split = int(np.searchsorted(total, room, side="right"))
    if split == len(order):
        return order, float(values.sum())
    left = room - int(total[split - 1] if split else 0)
    del total
    base = float(values[order[:split]].sum())
    bound = base + left * float(values[order[split]]) / float(weights[order[split]])
    first = max(split - _MAX_STEPS // 2, 0)
    core = order[first : split + _MAX_STEPS // 2]
    end = first + len(core)
    outside = (
        float(values[order[first - 1]] / weights[order[first - 1]]) if first else np.inf,
        float(values[order[end]] / weights[order[end]]) if end < len(order) else 0.0,
    )
    found = _Exchange(values[core], weights[core], split - first, left, outside, base * _CLOSE).run()
    is_kept = np.arange(len(order)) < first  # (n,), by place in the order
    is_kept[first + found.kept] = True
    _fill(is_kept, weights[order], left - found.weight)
    return order[is_kept], min(bound, base + found.value + base * _CLOSE) if found.is_proven else bound


def _fill(is_kept: Mask, weights: Weights, room: int) -> None:
    """Keep what is light enough for the room that is left, in order: it does no harm there."""
    rest = np.flatnonzero(~is_kept)
    while len(rest := rest[weights[rest] <= room]):
        n = int(np.searchsorted(np.cumsum(weights[rest]), room, side="right"))
        is_kept[rest[:n]] = True
        room -= int(weights[rest[:n]].sum())
        rest = rest[n:]


@dataclass(frozen=True, slots=True)
class _Exchanged:
    """The best exchange around the split, compared with keeping all before it and nothing after it."""

    kept: NDArray[np.int64]
    """Places in the core."""
    weight: int
    value: float
    is_proven: bool
    """There is no better one, also outside the core."""


@dataclass(frozen=True, slots=True)
class _Best:
    """The best state so far that fits."""

    worth: float
    weight: int
    n_steps: int
    """After which it was found."""
    state: int
    """Its place among the states of that step."""


class _Exchange:
    """Puts things after the split in and takes things before it out, one more of either kind at a time."""

    def __init__(
        self, values: Vector, weights: Weights, split: int, left: int, outside: tuple[float, float], close: float
    ) -> None:
        """Take the core, best value per weight first.

        Args:
            values: shape (n_core,), as is the next.
            split: so many fit together.
            left: room that they leave.
            outside: values per weight of the one before the core and of the one after it.
            close: worth that is not looked for.
        """
        self._values, self._weights = values, weights
        self._split, self._left, self._close = split, left, close
        self._density = np.concatenate([outside[:1], values / weights, outside[1:]])  # (n_core + 2,)
        self._worth = np.zeros(1)  # (n_states,), as is the next
        self._weight = np.zeros(1, dtype=np.int64)
        self._trail: list[tuple[int, NDArray[np.int32], Mask]] = []
        """By step: the place that was tried; by state: which one it came from, and whether the place was exchanged."""
        self._best = _Best(0.0, 0, 0, 0)

    def run(self) -> _Exchanged:
        """Until nothing better can exist, or the core ends."""
        after, before = self._split, self._split - 1
        n, density, is_complete = len(self._values), self._density, True
        while len(self._worth) and (after < n or before >= 0):
            if after < n:
                is_complete &= self._step(after, 1, density[after + 2], density[before + 1])
                after += 1
            if before >= 0 and len(self._worth):
                is_complete &= self._step(before, -1, density[after + 1], density[before])
                before -= 1
        return self._found(is_complete and len(self._worth) == 0)

    def _step(self, place: int, sign: int, next_in: float, next_out: float) -> bool:
        """All states, with this place exchanged and without; False when promising ones had to be given up.

        Args:
            place: in the core.
            sign: 1 puts it in, -1 takes it out.
            next_in: value per weight of what can be put in later, at most.
            next_out: value per weight of what can be taken out later, at least.
        """
        worth = np.concatenate([self._worth, self._worth + sign * self._values[place]])
        weight = np.concatenate([self._weight, self._weight + sign * self._weights[place]])
        rows = _undominated(worth, weight)
        room = self._left - weight[rows]
        top = rows[np.searchsorted(-room, 0, side="right") - 1]  # of those that fit the heaviest is worth most
        is_best = bool(weight[top] <= self._left and worth[top] > self._best.worth)
        least = max(self._best.worth, float(worth[top]) if is_best else 0.0) + self._close
        with np.errstate(invalid="ignore"):  # no room and nothing left to take out: 0 * inf, which is not looked at
            hope = worth[rows] + np.where(room >= 0, room * next_in, room * next_out)
        rows, hope = rows[hope > least], hope[hope > least]
        is_complete = len(rows) <= _MAX_STATES
        if not is_complete:
            rows = rows[np.sort(np.argpartition(-hope, _MAX_STATES)[:_MAX_STATES])]
        # The best one ends the list, so that its way can be found again although it may not be pursued.
        known = np.append(rows, top)
        n_before = len(self._worth)
        self._trail.append((place, (known % n_before).astype(np.int32), known >= n_before))
        if is_best:
            self._best = _Best(float(worth[top]), int(weight[top]), len(self._trail), len(rows))
        self._worth, self._weight = worth[rows], weight[rows]
        return is_complete

    def _found(self, is_proven: bool) -> _Exchanged:
        best, state = self._best, self._best.state
        is_kept = np.arange(len(self._values)) < self._split  # (n_core,)
        for place, parents, is_exchanged in reversed(self._trail[: best.n_steps]):
            is_kept[place] ^= is_exchanged[state]
            state = int(parents[state])
        weight, worth = best.weight, best.worth
        while not is_proven and (pair := self._swap(is_kept, self._left - weight)) is not None:
            is_kept[pair] ^= True
            weight += int(self._weights[pair[1]] - self._weights[pair[0]])
            worth += float(self._values[pair[1]] - self._values[pair[0]])
        return _Exchanged(np.flatnonzero(is_kept), weight, worth, is_proven)

    def _swap(self, is_kept: Mask, room: int) -> NDArray[np.int64] | None:
        """One that is kept and the one that had better be kept in its place; None when no such pair fits.

        Where everything is worth about the same per weight, too many states are given up to find these.
        """
        out, put = np.flatnonzero(is_kept), np.flatnonzero(~is_kept)
        if not len(out) or not len(put):
            return None
        gain = self._values[put][None, :] - self._values[out][:, None]  # (n_out, n_put)
        gain[self._weights[put][None, :] - self._weights[out][:, None] > room] = -np.inf
        best = np.unravel_index(np.argmax(gain), gain.shape)
        return np.array([out[best[0]], put[best[1]]]) if gain[best] > self._close else None


def _undominated(worth: Vector, weight: Weights) -> NDArray[np.int64]:
    """Rows, lightest first, each worth more than all that are lighter; of equals the first."""
    rows = np.lexsort((-worth, weight))
    best = np.maximum.accumulate(worth[rows])
    is_better = np.ones(len(rows), dtype=bool)
    is_better[1:] = worth[rows][1:] > best[:-1]
    return rows[is_better]
