"""Exact search over vectors in memory, by scope and partition."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from echo_proxy.types import Embedding

EVERYBODY = 0
"""Number of the reader of a row that everybody may see."""
NOBODY = -1
_FIRST_ROWS = 16
_ROUNDING = 1e-6
"""float32 distances of equal vectors differ from 0 by less."""


class Bucket:
    """The vectors of one scope and partition. Rows are kept densely; the arrays double when they are full."""

    def __init__(self, dimensions: int) -> None:
        self._n = 0
        self._seqs = np.zeros(_FIRST_ROWS, dtype=np.int64)  # (capacity,)
        self._ends = np.zeros(_FIRST_ROWS)  # (capacity,), expiry in seconds since the epoch
        self._readers = np.zeros(_FIRST_ROWS, dtype=np.int64)  # (capacity,), number of the only reader; 0 = everybody
        self._vectors = np.zeros((_FIRST_ROWS, dimensions), dtype=np.float32)  # (capacity, dimensions)

    def __len__(self) -> int:
        return self._n

    def append(self, seq: int, expires_at: float, vector: Embedding, reader: int = EVERYBODY) -> None:
        """Add a row; NOBODY reads it but who reads all."""
        if self._n == len(self._seqs):
            self._grow()
        self._seqs[self._n], self._ends[self._n], self._vectors[self._n] = seq, expires_at, vector
        self._readers[self._n] = reader
        self._n += 1

    def nearest(
        self, vector: Embedding, k: int, max_distance: float, now: float, reader: int | None = None
    ) -> list[tuple[int, float]]:
        """(seq, distance) of unexpired rows within the distance that the reader may see (None = all), nearest first,
        k at most."""
        distances = np.clip(1.0 - self._vectors[: self._n] @ vector, 0.0, 2.0)  # (n,)
        distances[self._ends[: self._n] <= now] = math.inf
        if reader is not None:
            readers = self._readers[: self._n]
            distances[(readers != EVERYBODY) & (readers != reader)] = math.inf
        rows = _smallest(distances, k)
        return [
            (int(self._seqs[row]), float(distances[row])) for row in rows if distances[row] <= max_distance + _ROUNDING
        ]

    def keep(self, seqs: Sequence[int]) -> None:
        """Forget all other rows."""
        kept = np.isin(self._seqs[: self._n], seqs)  # (n,)
        n_kept = int(kept.sum())
        for array in (self._seqs, self._ends, self._readers, self._vectors):
            array[:n_kept] = array[: self._n][kept]
        self._n = n_kept

    def _grow(self) -> None:
        self._seqs = np.concatenate([self._seqs, np.zeros_like(self._seqs)])
        self._ends = np.concatenate([self._ends, np.zeros_like(self._ends)])
        self._readers = np.concatenate([self._readers, np.zeros_like(self._readers)])
        self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])


def _smallest(distances: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Indices of the k smallest, ascending."""
    if k < len(distances):
        near = np.argpartition(distances, k - 1)[:k]
        return near[np.argsort(distances[near], kind="stable")]
    return np.argsort(distances, kind="stable")
