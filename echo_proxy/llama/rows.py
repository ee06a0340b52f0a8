"""How do the rows of a decode get into llama.cpp's arrays without a Python loop over tokens?"""

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from echo_proxy.engine.runner import OutOfCells, Run


class Rows:
    """llama.cpp's batch over numpy arrays that live as long as the context."""

    def __init__(self, n_rows: int, n_seats: int, n_positions: int) -> None:
        """Room for so many rows, each of up to n_seats seats, at positions below n_positions."""
        self.n_used = 0
        self._counting = np.arange(n_positions, dtype=np.int32)
        self._tokens = np.zeros(n_rows, np.int32)
        self._positions = np.zeros(n_rows, np.int32)
        self._n_seats = np.zeros(n_rows, np.int32)
        self._seats = np.zeros((n_rows, n_seats), np.int32)
        self._is_wanted = np.zeros(n_rows, np.int8)
        # Where each row's seats begin never changes, so the pointers are written once.
        starts = self._seats.ctypes.data + self._seats.strides[0] * np.arange(n_rows)
        self._seat_pointers = starts.astype(np.uintp)
        self._batch = llama_cpp.llama_batch(
            n_tokens=0,
            token=_pointer(self._tokens, ctypes.c_int32),
            embd=None,
            pos=_pointer(self._positions, ctypes.c_int32),
            n_seq_id=_pointer(self._n_seats, ctypes.c_int32),
            seq_id=_pointer(self._seat_pointers, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(self._is_wanted, ctypes.c_int8),
        )

    def fill(self, runs: Sequence[Run]) -> None:
        """Hold the rows of these runs in place of the last ones."""
        self.n_used = 0
        for run in runs:
            self.add(run)

    def add(self, run: Run) -> None:
        """Hold these rows too.

        Raises OutOfCells when its positions are beyond all cells, and ValueError when there is no room for the rows, or
        more are wanted than there are.
        """
        start, n_seats = self.n_used, len(run.seats)
        end = start + len(run.tokens)
        if end > len(self._tokens):
            raise ValueError(f"expected at most {len(self._tokens)} rows, got {end}")
        if not 0 <= run.n_wanted <= end - start:
            raise ValueError(f"expected to want 0 to {end - start} rows of a run of as many, got {run.n_wanted}")
        if run.start + end - start > len(self._counting):
            raise OutOfCells(f"expected positions below {len(self._counting)}, got {run.start + end - start - 1}")
        self._tokens[start:end] = run.tokens
        self._positions[start:end] = self._counting[run.start : run.start + end - start]
        self._n_seats[start:end] = n_seats
        self._seats[start:end, :n_seats] = run.seats if n_seats > 1 else run.seats[0]
        self._is_wanted[start : end - run.n_wanted] = 0
        self._is_wanted[end - run.n_wanted : end] = 1
        self.n_used = end

    def wanted(self) -> list[int]:
        """Numbers of the wanted rows."""
        rows: list[int] = np.flatnonzero(self._is_wanted[: self.n_used]).tolist()
        return rows

    def batch(self, n_rows: int) -> Any:
        """llama.cpp's view of the first rows."""
        self._batch.n_tokens = n_rows
        return self._batch


def _pointer(array: NDArray[Any], kind: type[Any]) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
