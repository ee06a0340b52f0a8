"""A Runner without a model: what would llama.cpp hold now, and was it asked for something that it cannot do?

`FakeRunner` keeps for each seat the list of its cells, one per position from 0 on; a shared cell is the same object
in several seats, so `n_used` counts it once, as the unified cache of llama.cpp does. Its logits are a function of the
tokens before and nothing else: whoever computes a text in other pieces, on another seat, on shared or restored
cells gets the same numbers, and whoever computes it on the wrong cells gets others. What llama.cpp would answer with
an abort, with garbage or with another text raises `RuleBroken` here:

- positions of a run follow on those that its seats hold; seats of one run share the cells of everything before;
- a decode has at least one and at most `n_batch` rows, tokens are in the vocabulary;
- a decode that lacks cells raises `OutOfCells` and changes nothing; so does a failure put into `failures`;
- `logits` are read only of wanted rows of the last decode; a view that was kept turns into NaN at the next one;
- `share` copies what the source has to the end of what the target has: its positions from `start` on are empty;
- `restore` wants an empty seat; without room, or for a state of another runner, it is False and changes nothing;
- a runner that is not sliceable shares nothing and forgets all or nothing;
- a closed runner does nothing.
"""

import hashlib
import struct
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from echo_proxy.engine.runner import Logits, OutOfCells, Run

Rule = Callable[[Sequence[int]], Logits]
"""The logits, shape (n_vocab,), of what follows these tokens."""

_MAGIC = b"fake"


class RuleBroken(AssertionError):
    """The runner was asked for what no Runner promises."""


@dataclass(eq=False, frozen=True, slots=True)
class Cell:
    """The state of one token; equal only to itself."""

    position: int
    token: int


def hashed(n_vocab: int) -> Rule:
    """Logits that look random, and depend on every token before and on their order."""

    def rule(tokens: Sequence[int]) -> Logits:
        digest = hashlib.blake2b(array("q", tokens).tobytes(), digest_size=8).digest()
        noise = np.random.default_rng(int.from_bytes(digest)).standard_normal(n_vocab, np.float32)
        return noise * np.float32(3)

    return rule


def following(n_vocab: int, successor: Callable[[Sequence[int]], int]) -> Rule:
    """Logits that are sure of one next token, for tests that script what the model says."""

    def rule(tokens: Sequence[int]) -> Logits:
        logits = np.zeros(n_vocab, np.float32)
        logits[successor(tokens)] = 20.0
        return logits

    return rule


class FakeRunner:
    """A Runner, see above. Fields beside the protocol's are for tests to look at."""

    def __init__(
        self,
        n_seats: int = 4,
        n_cells: int = 256,
        n_batch: int = 64,
        n_vocab: int = 32,
        *,
        is_sliceable: bool = True,
        bytes_per_token: int = 16,
        rule: Rule | None = None,
    ) -> None:
        """
        Args:
            bytes_per_token: how large a saved state is, at least 4.
            rule: what the model says; default: `hashed`.
        """
        self.n_seats, self.n_cells, self.n_batch, self.n_vocab = n_seats, n_cells, n_batch, n_vocab
        self.is_sliceable = is_sliceable
        self.failures: deque[Exception] = deque()
        """The next decodes raise these, one each, before they compute anything."""
        self.decodes: list[tuple[Run, ...]] = []
        """All that were computed, oldest first, with their tokens copied."""
        self.n_saved = self.n_restored = 0
        self.is_closed = False
        self._rule = rule or hashed(n_vocab)
        self._bytes_per_token = bytes_per_token
        self._seats: list[list[Cell]] = [[] for _ in range(n_seats)]
        self._rows: dict[int, Logits] = {}

    # ------------------------------------------------------------------ what tests look at

    def tokens(self, seat: int) -> list[int]:
        """What the seat holds, from position 0 on."""
        return [cell.token for cell in self._seats[seat]]

    @property
    def n_used(self) -> int:
        """Cells that hold anything; one that several seats share counts once."""
        return self.n_used_by(range(self.n_seats))

    def n_used_by(self, seats: Iterable[int]) -> int:
        """Cells that any of these seats holds."""
        return len({id(cell) for seat in seats for cell in self._seats[seat]})

    def expected(self, tokens: Sequence[int]) -> int:
        """The likeliest token after these, as this model sees it."""
        return int(self._rule(tokens).argmax())

    def continued(self, tokens: Sequence[int], n: int) -> list[int]:
        """The greedy answer to these tokens, without using the runner."""
        text = list(tokens)
        for _ in range(n):
            text.append(self.expected(text))
        return text[len(tokens) :]

    # ------------------------------------------------------------------ Runner

    def decode(self, runs: Sequence[Run]) -> None:
        """See Runner."""
        self._check_open()
        n_rows = sum(len(run.tokens) for run in runs)
        _demand(0 < n_rows <= self.n_batch, f"expected 1 to {self.n_batch} rows, got {n_rows}")
        if self.failures:
            raise self.failures.popleft()
        if n_rows > self.n_cells - self.n_used:
            raise OutOfCells(f"expected {n_rows} free cells, got {self.n_cells - self.n_used}")
        before = [list(cells) for cells in self._seats]
        try:
            rows = self._computed(runs)
        except RuleBroken:
            self._seats = before
            raise
        for logits in self._rows.values():
            logits.fill(np.nan)
        self._rows = rows
        self.decodes.append(tuple(Run(tuple(run.tokens), run.start, run.seats, run.n_wanted) for run in runs))

    def _computed(self, runs: Sequence[Run]) -> dict[int, Logits]:
        rows: dict[int, Logits] = {}
        n_rows = 0
        for run in runs:
            self._check_run(run)
            first_wanted = len(run.tokens) - run.n_wanted
            for index, token in enumerate(run.tokens):
                cell = Cell(run.start + index, token)
                for seat in run.seats:
                    self._seats[seat].append(cell)
                if index >= first_wanted:
                    rows[n_rows] = self._rule(self.tokens(run.seats[0]))
                n_rows += 1
        return rows

    def _check_run(self, run: Run) -> None:
        _demand(len(run.tokens) > 0, "expected a run with tokens, got none")
        _demand(0 <= run.n_wanted <= len(run.tokens), f"expected at most {len(run.tokens)} wanted, got {run.n_wanted}")
        _demand(len(run.seats) > 0, "expected a run with seats, got none")
        _demand(len(set(run.seats)) == len(run.seats), f"expected different seats, got {run.seats}")
        wrong = [token for token in run.tokens if not 0 <= token < self.n_vocab]
        _demand(not wrong, f"expected tokens in [0, {self.n_vocab}), got {wrong}")
        first = self._cells(run.seats[0])
        for seat in run.seats:
            cells = self._cells(seat)
            _demand(len(cells) == run.start, f"expected seat {seat} to go on at {len(cells)}, got {run.start}")
            same = all(one is other for one, other in zip(first, cells, strict=True))
            _demand(same, f"expected seats {run.seats} to share the cells of everything before")

    def logits(self, row: int) -> Logits:
        """See Runner."""
        self._check_open()
        _demand(row in self._rows, f"expected one of the wanted rows {sorted(self._rows)}, got {row}")
        return self._rows[row]

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """See Runner."""
        self._check_open()
        cells, held = self._cells(source), self._cells(target)
        _demand(self.is_sliceable, "expected no share: this model is not sliceable")
        _demand(source != target, f"expected two seats, got {source} twice")
        _demand(0 <= start < end <= len(cells), f"expected positions in [0, {len(cells)}], got {start}..{end}")
        _demand(len(held) == start, f"expected seat {target} to end at {start}, it ends at {len(held)}")
        held.extend(cells[start:end])

    def cut(self, seat: int, start: int) -> None:
        """See Runner."""
        self._check_open()
        cells = self._cells(seat)
        _demand(start >= 0, f"expected a position, got {start}")
        whole = start == 0 or start >= len(cells)
        _demand(whole or self.is_sliceable, "expected a cut of everything: this model is not sliceable")
        del cells[start:]

    def save(self, seat: int) -> bytes:
        """See Runner."""
        self._check_open()
        tokens = self.tokens(seat)
        _demand(len(tokens) > 0, f"expected seat {seat} to hold something")
        self.n_saved += 1
        packed = struct.pack(f"<{len(tokens)}i", *tokens)
        padding = bytes(len(tokens) * (self._bytes_per_token - 4))
        return _MAGIC + struct.pack("<i", len(tokens)) + packed + padding

    def restore(self, seat: int, state: bytes) -> bool:
        """See Runner."""
        self._check_open()
        cells = self._cells(seat)
        _demand(not cells, f"expected seat {seat} to be empty, it holds {len(cells)} tokens")
        if state[:4] != _MAGIC or len(state) < 8:
            return False
        (n_tokens,) = struct.unpack_from("<i", state, 4)
        if len(state) != 8 + n_tokens * self._bytes_per_token or n_tokens > self.n_cells - self.n_used:
            return False
        tokens = struct.unpack_from(f"<{n_tokens}i", state, 8)
        cells.extend(Cell(position, token) for position, token in enumerate(tokens))
        self.n_restored += 1
        return True

    def close(self) -> None:
        """See Runner."""
        self._check_open()
        self.is_closed = True

    # ------------------------------------------------------------------

    def _cells(self, seat: int) -> list[Cell]:
        _demand(0 <= seat < self.n_seats, f"expected a seat in [0, {self.n_seats}), got {seat}")
        return self._seats[seat]

    def _check_open(self) -> None:
        _demand(not self.is_closed, "expected no call after close")


def _demand(holds: bool, message: str) -> None:
    if not holds:
        raise RuleBroken(message)
