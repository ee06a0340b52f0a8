"""What may stay of a store, so that each writer keeps within its share and all together within their bytes?

Admission refuses a writer whose share is full, and a store that is cut down to its last byte is full again after the
next answer. If things went only when all together are too much, one writer alone would fill its share and then be
refused until its examples expire. So both bounds begin to hold before they are reached, and leave room when they do:
there is turnover between two rounds, and a round that has just been done has nothing to do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from echo_proxy.types import Vector
from echo_proxy.upkeep.knapsack import Choice, Mask, Weights, choose

_WRITER_FROM, _WRITER_TO = 0.9, 0.8
"""A writer above the first part of its share is cut down to the second. guess, not yet measured"""
_ALL_FROM, _ALL_TO = 0.95, 0.9
"""As above, of the bytes of all examples. guess, not yet measured"""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many bytes may be there."""

    max_bytes: int
    """Of all examples."""
    writer_share: float | None
    """Share of them that one writer may have, (0, 1]; None = writers are not looked at, and what is above `max_bytes`
    is cut to exactly that, with no room left."""

    @property
    def of_writer(self) -> float:
        """Bytes that one writer may have."""
        return self.max_bytes if self.writer_share is None else self.writer_share * self.max_bytes

    @property
    def all_from(self) -> float:
        """More than so many bytes are cut down to `all_to`."""
        return self.max_bytes if self.writer_share is None else _ALL_FROM * self.max_bytes

    @property
    def all_to(self) -> int:
        """See all_from."""
        return self.max_bytes if self.writer_share is None else int(_ALL_TO * self.max_bytes)

    def is_touched(self, writers: Sequence[str], n_bytes: Weights) -> bool:
        """Whether anything may have to go.

        Args:
            writers: n of them, one for each example.
            n_bytes: shape (n,).
        """
        return int(n_bytes.sum()) > self.all_from or next(self.crowded(writers, n_bytes), None) is not None

    def crowded(self, writers: Sequence[str], n_bytes: Weights) -> Iterator[NDArray[np.int64]]:
        """Rows of each writer that has too much, in their order."""
        if self.writer_share is None:
            return
        places: dict[str, int] = {}
        codes = np.array([places.setdefault(one, len(places)) for one in writers], dtype=np.int64)  # (n,)
        held = np.bincount(codes, weights=n_bytes, minlength=len(places))  # (n_writers,)
        order = np.argsort(codes, kind="stable")
        ends = np.cumsum(np.bincount(codes, minlength=len(places)))
        for place in np.flatnonzero(held > _WRITER_FROM * self.of_writer):
            yield order[ends[place - 1] if place else 0 : ends[place]]


@dataclass(frozen=True, slots=True)
class Kept:
    """What stays, and how good that is."""

    is_kept: Mask
    """Shape (n,)."""
    writers_bytes: int
    """Went because their writers had too much."""
    all_bytes: int
    """Went then because all together were too much."""
    is_over: bool
    """A bound is missed by what must be kept."""
    missed: float
    """Value that better choices, of each writer and then of all, could keep beyond this, at most."""


def keep_within(values: Vector, n_bytes: Weights, writers: Sequence[str], is_new: Mask, bounds: Bounds) -> Kept:
    """What stays: each writer is held to its share first, then all together to theirs, by the same values.

    Args:
        values: shape (n,), finite, at least 0.
        n_bytes: shape (n,), at least 1.
        writers: n of them.
        is_new: shape (n,), kept in any case.
        bounds: how much may be there.
    """
    is_kept = np.ones(len(values), dtype=bool)  # (n,)
    missed, is_over = 0.0, False
    for rows in bounds.crowded(writers, n_bytes):
        choice = choose(values[rows], n_bytes[rows], int(_WRITER_TO * bounds.of_writer), is_new[rows])
        is_kept[rows] = choice.is_kept
        missed += _missed(choice)
        is_over |= choice.weight > bounds.of_writer
    before, left = int(n_bytes.sum()), int(n_bytes[is_kept].sum())
    after = left
    if left > bounds.all_from:
        rows = np.flatnonzero(is_kept)
        choice = choose(values[rows], n_bytes[rows], bounds.all_to, is_new[rows])
        is_kept[rows] = choice.is_kept
        missed += _missed(choice)
        after = choice.weight
    return Kept(is_kept, before - left, left - after, is_over or after > bounds.max_bytes, missed)


def _missed(choice: Choice) -> float:
    return max(choice.bound - choice.value, 0.0)
