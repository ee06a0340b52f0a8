"""How does a model in llama.cpp compute rows of several sequences at once, and keep their states?"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import llama_cpp
import numpy as np

from echo_proxy.engine.runner import Logits, OutOfCells, Run
from echo_proxy.llama.library import Weights, last_errors
from echo_proxy.llama.rows import Rows

CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]

_CACHE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "bf16": 30}
"""ggml's numbers."""
_MOST_ROWS_AT_ONCE = 512
"""Rows that are computed together, llama.cpp's own default: more costs memory and gains little."""
_NO_CELLS, _INVALID = 1, -1
_FAILURES = {
    2: "the computation was aborted",
    _INVALID: "the rows do not follow what their seats hold",
    -2: "no memory for the computation",
    -3: "the computation failed",
}


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """What a context is made with."""

    n_seats: int
    n_cells: int
    """llama.cpp rounds it up to a multiple of 256."""
    n_batch: int = 512
    n_threads: int = 1
    """Threads of a decode of one row."""
    n_threads_batch: int = 1
    """Threads of all others."""
    flash_attn: bool = False
    type_k: CacheType = "f16"
    type_v: CacheType = "f16"
    min_rows: int = 1
    """A decode of fewer is filled up with rows that nobody needs."""
    offload: bool = True
    """Whether the cells are on the GPU, when layers are."""


class LlamaRunner:
    """See Runner."""

    def __init__(self, weights: Weights, options: ContextOptions) -> None:
        """Make a context. Raises RuntimeError when llama.cpp cannot, with its reason."""
        weights.hold()
        self._weights = weights
        self.context: Any = llama_cpp.llama_init_from_model(weights.model, _params(options))
        """llama.cpp's pointer; None after close."""
        if not self.context:
            weights.release()
            raise RuntimeError(f"llama.cpp made no context: {last_errors()}")
        self._memory: Any = llama_cpp.llama_get_memory(self.context)
        self.n_vocab = int(llama_cpp.llama_vocab_n_tokens(weights.vocab))
        self.n_seats = options.n_seats
        self.n_cells = int(llama_cpp.llama_n_ctx(self.context))
        self.n_batch = options.n_batch
        self.is_sliceable = not weights.is_recurrent
        self.fingerprint = _fingerprint(weights, options)
        """The same where saved states can be restored."""
        self._min_rows = options.min_rows
        self._rows = Rows(max(options.n_batch, options.min_rows), options.n_seats, self.n_cells)
        self._wanted: dict[int, int] = {}
        self._logits: Any = None
        self._likeliest: list[int] | None = None

    def decode(self, runs: Sequence[Run]) -> None:
        """See Runner.decode. After a RuntimeError the seats of the runs end where the runs began.

        Raises ValueError when there are more rows than n_batch, or more are wanted than there are.
        """
        self._wanted, self._logits, self._likeliest = {}, None, None
        self._rows.fill(runs)
        n_rows = self._rows.n_used
        if not n_rows:
            return
        if n_rows > self.n_batch:
            raise ValueError(f"expected at most {self.n_batch} rows, got {n_rows}")
        status = self._decode_padded() if n_rows < self._min_rows else _NO_CELLS
        if status == _NO_CELLS:  # also when only the padding found no cells
            status = llama_cpp.llama_decode(self.context, self._rows.batch(n_rows))
        if status == _NO_CELLS:
            raise OutOfCells(f"no cells for {n_rows} rows")
        if status:
            self._fail(runs, status)
        self._wanted = {row: index for index, row in enumerate(self._rows.wanted())}

    def logits(self, row: int) -> Logits:
        """See Runner.logits. Raises ValueError for a row that was not wanted."""
        view: Logits = self._all_logits()[self._index(row)]
        return view

    def likeliest(self, row: int) -> int:
        """The token with the highest logit at a wanted row of the last decode; of equal ones the first."""
        if self._likeliest is None:
            # All rows at once: each call of numpy lets go of the interpreter's lock, and waits to get it back.
            self._likeliest = self._all_logits().argmax(axis=1).tolist()
        return self._likeliest[self._index(row)]

    def _index(self, row: int) -> int:
        index = self._wanted.get(row)
        if index is None:
            raise ValueError(f"expected a wanted row of the last decode, one of {sorted(self._wanted)}, got {row}")
        return index

    def _all_logits(self) -> Any:
        """Shape (n_wanted, n_vocab): llama.cpp keeps those of the wanted rows one after the other."""
        if self._logits is None:
            pointer = llama_cpp.llama_get_logits(self.context)
            self._logits = np.ctypeslib.as_array(pointer, shape=(len(self._wanted), self.n_vocab))
            self._logits.flags.writeable = False
        return self._logits

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """See Runner.share. Raises ValueError for a part of a sequence that cannot be sliced."""
        if not self.is_sliceable and (start, end) != (0, self.length(source)):
            raise ValueError(f"expected all of a sequence that cannot be sliced, got positions {start} to {end}")
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, start, end)

    def cut(self, seat: int, start: int) -> None:
        """See Runner.cut. Raises ValueError for a part of a sequence that cannot be sliced."""
        if not llama_cpp.llama_memory_seq_rm(self._memory, seat, start or -1, -1):
            raise ValueError(f"expected to forget all of a sequence that cannot be sliced, got position {start}")

    def length(self, seat: int) -> int:
        """Number of positions that the seat has."""
        return int(llama_cpp.llama_memory_seq_pos_max(self._memory, seat)) + 1

    def save(self, seat: int) -> bytes:
        """See Runner.save."""
        buffer = np.empty(llama_cpp.llama_state_seq_get_size(self.context, seat), np.uint8)
        n_bytes = llama_cpp.llama_state_seq_get_data(self.context, _bytes(buffer), len(buffer), seat)
        return buffer[:n_bytes].tobytes()

    def restore(self, seat: int, state: bytes) -> bool:
        """See Runner.restore; the seat is empty after False. The state must be one that `save` made, unchanged."""
        source = np.frombuffer(state, np.uint8)
        if llama_cpp.llama_state_seq_set_data(self.context, _bytes(source), len(source), seat):
            return True
        self.cut(seat, 0)
        return False

    def close(self) -> None:
        """See Runner.close. Again is no harm."""
        if self.context is not None:
            llama_cpp.llama_free(self.context)
            self.context = self._memory = self._logits = self._likeliest = None
            self._wanted = {}
            self._weights.release()

    def _decode_padded(self) -> int:
        """With rows of a scratch seat of its own behind the last, which is empty before and after.

        They are wanted, because the last layers are computed for wanted rows only.
        """
        n_missing = self._min_rows - self._rows.n_used
        self._rows.add(Run((0,) * n_missing, 0, (self.n_seats,), n_missing))
        status = int(llama_cpp.llama_decode(self.context, self._rows.batch(self._min_rows)))
        llama_cpp.llama_memory_seq_rm(self._memory, self.n_seats, -1, -1)
        return status

    def _fail(self, runs: Sequence[Run], status: int) -> None:
        """Forget what was computed in part. Raises RuntimeError."""
        if status != _INVALID:  # which computes nothing
            for run in runs:
                for seat in run.seats:
                    self.cut(seat, run.start if self.is_sliceable else 0)
        reason = _FAILURES.get(status, f"llama.cpp failed with status {status}")
        raise RuntimeError(f"decode: {reason}: {last_errors()}")


def _params(options: ContextOptions) -> Any:
    n_seats = options.n_seats + (options.min_rows > 1)  # and the scratch seat
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = (options.n_cells + 255) // 256 * 256
    # llama.cpp aborts the process when a batch has not a row for each seat.
    params.n_batch = max(options.n_batch, options.min_rows, n_seats)
    params.n_ubatch = min(params.n_batch, _MOST_ROWS_AT_ONCE)
    params.n_seq_max = n_seats
    params.n_outputs_max = params.n_outputs_max_per_seq = 0  # any row may be wanted
    params.n_threads = options.n_threads
    params.n_threads_batch = options.n_threads_batch
    params.flash_attn_type = int(
        llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED if options.flash_attn else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    )
    params.type_k = _CACHE_TYPES[options.type_k]
    params.type_v = _CACHE_TYPES[options.type_v]
    params.offload_kqv = options.offload
    params.kv_unified = True
    params.swa_full = True  # a sliding window that forgets could not be cut
    return params


def _fingerprint(weights: Weights, options: ContextOptions) -> str:
    layout = (weights.fingerprint, options.type_k, options.type_v, options.flash_attn, llama_cpp.__version__)
    return hashlib.sha256(repr(layout).encode()).hexdigest()[:32]


def _bytes(array: Any) -> Any:
    return array.ctypes.data_as(llama_cpp.llama_state_seq_get_data.argtypes[1])
