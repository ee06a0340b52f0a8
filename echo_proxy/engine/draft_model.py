"""What would a smaller model write next? It has a runner of its own, and reads and writes for all sequences at once.

It knows of each sequence what it has read of it. When it is asked again, it forgets what turned out otherwise, reads
what is new, and writes on, always its likeliest token, until it is told to stop.
"""

import logging
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field

import numpy as np

from echo_proxy.engine.runner import Draft, DraftAsk, Logits, OutOfCells, Run, Runner, Verdict

log = logging.getLogger("echo_proxy.local")


@dataclass(frozen=True, slots=True)
class Glance:
    """A model's view of the next token."""

    token: int
    """Its likeliest."""
    chance: float
    """Its probability."""
    logits: Logits
    """Shape (n_vocab,), valid until the next decode."""


def glance(logits: Logits) -> Glance:
    """The likeliest token, without a sort."""
    token = int(logits.argmax())
    return Glance(token, 1.0 / float(np.exp(logits - logits[token]).sum()), logits)


Unsure = Callable[[int, Glance, int], bool]
"""Called with a sequence's key, the view of its next token and how many the draft has: whether to stop before it."""


@dataclass(slots=True)
class _Reader:
    """What the model has read of one sequence."""

    seat: int
    read: list[int] = field(default_factory=list)
    """The tokens in its cells."""
    n_settled: int = 0
    """So many of them were the sequence's own when it was last asked for, and so they are for ever."""
    asked_at: int = 0

    def n_right(self, tokens: Sequence[int]) -> int:
        """How many of the read tokens are the sequence's first ones."""
        n_right, most = self.n_settled, min(len(self.read), len(tokens))
        while n_right < most and self.read[n_right] == tokens[n_right]:
            n_right += 1
        return n_right


@dataclass(slots=True)
class _Writing:
    """A draft that is being written."""

    key: int
    reader: _Reader
    unread: list[int]
    most_tokens: int
    tokens: list[int] = field(default_factory=list)
    is_done: bool = False


class LittleModel:
    """A small model that reads sequences and writes on."""

    def __init__(self, runner: Runner, is_end: Callable[[int], bool]) -> None:
        """The runner belongs to this object from now on. Raises ValueError when it cannot take back tokens."""
        if not runner.is_sliceable:
            raise ValueError("expected a draft model that can forget its last tokens, got a recurrent one")
        self._runner = runner
        self._is_end = is_end
        self._readers: dict[int, _Reader] = {}
        self._free = list(range(runner.n_seats))
        self._n_calls = 0

    def write(self, asks: Sequence[DraftAsk], unsure: Unsure) -> list[tuple[int, ...]]:
        """For each ask the tokens that it would write, at most `most_tokens`; none where it has no seat or no room."""
        self._n_calls += 1
        keys = {ask.key for ask in asks}
        writings = [self._begin(ask, keys) for ask in asks]
        active = [one for one in writings if one is not None]
        while active:
            try:
                self._round(active, unsure)
            except OutOfCells:
                self._make_room(keys, active)
            except RuntimeError:
                log.warning("the draft model failed; it starts anew", exc_info=True)
                for key in list(self._readers):
                    self.forget(key)
                return [() for _ in asks]
            active = [one for one in active if not one.is_done]
        return [tuple(one.tokens) if one is not None else () for one in writings]

    def forget(self, key: int) -> None:
        """The sequence has ended, or its cells are needed."""
        reader = self._readers.pop(key, None)
        if reader is not None:
            self._runner.cut(reader.seat, 0)
            self._free.append(reader.seat)

    def close(self) -> None:
        """Free the memory."""
        self._runner.close()

    # ------------------------------------------------------------------ seats

    def _begin(self, ask: DraftAsk, keys: Set[int]) -> _Writing | None:
        """Take a seat and forget there what turned out otherwise."""
        reader = self._readers.get(ask.key) or self._seated(ask.key, keys)
        if reader is None:
            return None
        reader.asked_at = self._n_calls
        reader.n_settled = reader.n_right(ask.tokens)
        # The newest token is always read again if need be: what follows it is wanted.
        n_kept = min(reader.n_settled, len(ask.tokens) - 1)
        if n_kept < len(reader.read):
            self._runner.cut(reader.seat, n_kept)
            del reader.read[n_kept:]
        return _Writing(ask.key, reader, list(ask.tokens[n_kept:]), ask.most_tokens)

    def _seated(self, key: int, keys: Set[int]) -> _Reader | None:
        if not self._free:
            self._forget_idle(keys)
        if not self._free:
            return None
        reader = self._readers[key] = _Reader(self._free.pop())
        return reader

    def _forget_idle(self, keys: Set[int]) -> bool:
        """Give up the sequence that was asked for longest ago, if there is one beside these; returns whether."""
        idle = [key for key in self._readers if key not in keys]
        if idle:
            self.forget(min(idle, key=lambda key: self._readers[key].asked_at))
        return bool(idle)

    def _make_room(self, keys: Set[int], active: list[_Writing]) -> None:
        """Others give way first, then the last of those that are being written."""
        if not self._forget_idle(keys):
            last = active[-1]
            last.is_done = True
            self.forget(last.key)

    # ------------------------------------------------------------------ rounds

    def _round(self, active: Sequence[_Writing], unsure: Unsure) -> None:
        """One decode: as much as fits of what each has to read, and a look at what follows."""
        parts: list[tuple[_Writing, Run]] = []
        free = self._runner.n_batch
        for one in active:
            tokens = one.unread[:free]
            if tokens:
                is_whole = len(tokens) == len(one.unread)
                parts.append((one, Run(tokens, len(one.reader.read), (one.reader.seat,), int(is_whole))))
                free -= len(tokens)
        self._runner.decode([run for _, run in parts])
        row = 0
        for one, run in parts:
            row += len(run.tokens)
            one.reader.read += run.tokens
            del one.unread[: len(run.tokens)]
            if run.n_wanted:
                self._write_one(one, glance(self._runner.logits(row - 1)), unsure)

    def _write_one(self, one: _Writing, view: Glance, unsure: Unsure) -> None:
        if unsure(one.key, view, len(one.tokens)):
            one.is_done = True
            return
        one.tokens.append(view.token)
        one.unread.append(view.token)
        one.is_done = len(one.tokens) == one.most_tokens or self._is_end(view.token)


class ModelDrafter:
    """Drafts what a smaller model finds likeliest."""

    def __init__(self, runner: Runner, is_end: Callable[[int], bool], least_chance: float = 0.3) -> None:
        """
        Args:
            runner: of a model that numbers tokens as the large one does; belongs to this object from now on.
            is_end: whether the answer ends with a token.
            least_chance: a draft ends before a token that is less likely, [0, 1]. guess, not yet measured

        Raises ValueError when the runner cannot take back tokens.
        """
        self._little = LittleModel(runner, is_end)
        self._least_chance = least_chance

    def draft(self, asks: Sequence[DraftAsk]) -> list[list[Draft]]:
        """See Drafter."""
        written = self._little.write(asks, lambda _, view, __: view.chance < self._least_chance)
        return [[Draft(tokens, "model")] if tokens else [] for tokens in written]

    def hear(self, verdict: Verdict) -> None:
        """Nothing is learned: what was refused shows in the sequence when it is asked for again."""

    def forget(self, key: int) -> None:
        """See Drafter."""
        self._little.forget(key)

    def close(self) -> None:
        """See Drafter."""
        self._little.close()
