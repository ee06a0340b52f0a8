"""What does the engine need of a model? Protocols, so that batching, drafting and queueing know no llama.cpp.

A *row* is one token at one position, computed in one call together with all other rows. A *seat* is a number in
[0, n_seats) under which the model keeps the state of one sequence of tokens. A *cell* holds the state of one token;
seats that share the beginning of a text share its cells.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from echo_proxy.engine.chat import ChatRequest

Logits = NDArray[np.float32]
"""Shape (n_vocab,)."""


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive tokens of one text, as part of one decode."""

    tokens: Sequence[int]
    start: int
    """Position of the first; position 0 is the beginning of the prompt."""
    seats: tuple[int, ...]
    """Whose text they belong to; more than one only where those share everything before."""
    n_wanted: int
    """Of the last so many tokens the logits are wanted."""


class OutOfCells(Exception):
    """The cells do not suffice for this decode; nothing was computed."""


class Runner(Protocol):
    """A model with memory for several sequences. Used by one thread."""

    n_vocab: int
    n_seats: int
    n_cells: int
    """Tokens that all seats together can hold."""
    n_batch: int
    """Rows that one decode may have."""
    is_sliceable: bool
    """Whether `cut` and `share` work at any position; recurrent models can only forget everything."""

    def decode(self, runs: Sequence[Run]) -> None:
        """Compute the rows of all runs, in their order; rows are counted from 0 over all runs.

        Raises OutOfCells, and RuntimeError when llama.cpp fails.
        """
        ...

    def logits(self, row: int) -> Logits:
        """Of a wanted row of the last decode. A view, valid until the next decode."""
        ...

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """The target seat has the source's positions start..end-1 too; copies nothing."""
        ...

    def cut(self, seat: int, start: int) -> None:
        """The seat forgets its positions from start on; 0 = everything."""
        ...

    def save(self, seat: int) -> bytes:
        """The seat's state, to be restored into any seat of the same model and options."""
        ...

    def restore(self, seat: int, state: bytes) -> bool:
        """Put a saved state into an empty seat; False when there is no room or the state does not fit."""
        ...

    def close(self) -> None:
        """Free the memory."""
        ...


class Sampler(Protocol):
    """Draws the tokens of one answer; remembers them for penalties and grammar. Used by the engine's thread."""

    is_greedy: bool
    """Whether `draw` is plain argmax of the logits."""

    def draw(self, row: int) -> int:
        """The next token, drawn at that row of the runner's last decode, and remembered."""
        ...

    def accept(self, token: int) -> None:
        """Remember a token that was chosen otherwise."""
        ...

    def close(self) -> None:
        """Free the memory."""
        ...


class Language(Protocol):
    """How text becomes tokens and back. Thread-safe but for `sampler`."""

    n_vocab: int
    fingerprint: str
    """The same for models that number the same tokens the same way."""
    most_bytes_per_token: int
    """Length of the longest piece."""

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> "PromptTokens":
        """A dialogue as the model was trained to read it. Raises ChatRejected."""
        ...

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Plain text, without control tokens."""
        ...

    def piece(self, token: int) -> bytes:
        """A token's bytes; empty for control tokens."""
        ...

    def is_end(self, token: int) -> bool:
        """Whether the answer ends with it."""
        ...

    def check(self, request: ChatRequest) -> None:
        """Whether `sampler` can be made for it, as far as can be seen without the model. Raises ChatRejected, naming
        the field."""
        ...

    def sampler(self, request: ChatRequest) -> Sampler:
        """For one answer of the runner that belongs to this language. Raises ChatRejected, naming the field."""
        ...


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """A dialogue, ready to be read."""

    tokens: tuple[int, ...]
    stop: tuple[str, ...]
    """Texts that end an answer in this format."""


# ------------------------------------------------------------------ drafts


@dataclass(frozen=True, slots=True)
class DraftAsk:
    """A sequence whose next tokens are to be guessed."""

    key: int
    """Names the sequence as long as it lives."""
    tokens: Sequence[int]
    """Prompt and answer so far, the newest token included; it grows from call to call."""
    n_prompt: int
    most_tokens: int
    """Longest draft that could be used; at least 1."""
    most_drafts: int
    """How many different drafts could be checked at once; at least 1."""
    hints: tuple[tuple[int, ...], ...]
    """Texts that the answer may resemble beside the prompt itself, such as retrieved answers."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A guess of the next tokens."""

    tokens: tuple[int, ...]
    source: str
    """Which way of guessing it came from; acceptance is measured for each."""
    features: tuple[tuple[float, ...], ...] = ()
    """What the drafter knew of each token, when its agreement shall be learned."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the model said to a draft."""

    key: int
    draft: Draft
    n_accepted: int
    """Tokens that became part of the answer."""
    agreed: tuple[bool, ...]
    """For each token that was looked at, whether the model's own choice was the same; at most one more than
    n_accepted where acceptance is exact."""


class Drafter(Protocol):
    """Guesses what comes next, for all sequences of a step at once. Used by the engine's thread."""

    def draft(self, asks: Sequence[DraftAsk]) -> Sequence[Sequence[Draft]]:
        """For each ask its drafts, the likeliest first; at most `most_drafts`, none when there is no good guess."""
        ...

    def hear(self, verdict: Verdict) -> None:
        """What became of a draft."""
        ...

    def forget(self, key: int) -> None:
        """The sequence has ended."""
        ...

    def close(self) -> None:
        """Free the memory."""
        ...
