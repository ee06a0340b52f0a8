"""What do llama.cpp's samplers work on? An array of tokens with their logits, which Python can fill and read."""

import ctypes
from typing import Any

import llama_cpp
import numpy as np

from echo_proxy.engine.runner import Logits

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Candidates:
    """The tokens that may come next, as llama.cpp's samplers see them."""

    def __init__(self, n_most: int) -> None:
        """Room for so many."""
        self._ids = np.arange(n_most, dtype=np.int32)
        self._items = np.zeros(n_most, _CANDIDATE)
        self._data: Any = self._items.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data))
        self._array = llama_cpp.llama_token_data_array()
        self._pointer = ctypes.pointer(self._array)

    def fill(self, logits: Logits) -> None:
        """All tokens, each with its logit; shape (n_most,)."""
        self._items["id"] = self._ids
        self._items["logit"] = logits
        self._reset(len(self._items))

    def fill_one(self, token: int) -> None:
        """This token only."""
        self._items[0] = (token, 0.0, 0.0)
        self._reset(1)

    def apply(self, sampler: Any) -> None:
        """Let a sampler change logits, drop tokens, or draw one."""
        llama_cpp.llama_sampler_apply(sampler, self._pointer)

    def forbid(self, tokens: list[int]) -> None:
        """Make these impossible, before any sampler has dropped or moved tokens."""
        self._items["logit"][tokens] = -np.inf

    def n_possible(self) -> int:
        """How many have not become impossible, before any sampler has dropped or moved tokens."""
        return int(np.count_nonzero(np.isfinite(self._items["logit"][: self._array.size])))

    def keep_possible(self) -> None:
        """Drop what has become impossible: some samplers calculate with it and get no numbers."""
        possible = self._items[: self._array.size][np.isfinite(self._items["logit"][: self._array.size])]
        self._items[: len(possible)] = possible
        self._reset(len(possible))

    @property
    def drawn(self) -> int:
        """The token that the last sampler drew. Samplers may have put the array elsewhere."""
        return int(self._array.data[self._array.selected].id)

    def _reset(self, size: int) -> None:
        self._array.data = self._data
        self._array.size = size
        self._array.selected = -1
        self._array.sorted = False
