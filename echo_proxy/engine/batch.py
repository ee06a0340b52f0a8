"""How do many requests share one model? Each step computes one batch of tokens for all of them; see `Batch.step`."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from echo_proxy.engine.chances import chance_of
from echo_proxy.engine.guesses import Guesses
from echo_proxy.engine.prefixes import Prefixes
from echo_proxy.engine.runner import Language, OutOfCells, Run, Runner
from echo_proxy.engine.schedule import StepLimits, plan_rows
from echo_proxy.engine.sequence import Sequence as Served
from echo_proxy.engine.tree import DraftTree
from echo_proxy.engine.verify import Verified
from echo_proxy.engine.work import Failed

log = logging.getLogger("echo_proxy.local")

_WORTH_WAITING = 32
"""Tokens that another request is reading just now and that are worth waiting for. guess, not yet measured"""


@dataclass(frozen=True, slots=True)
class BatchParts:
    """What a batch works with."""

    runner: Runner
    language: Language
    prefixes: Prefixes
    guesses: Guesses
    limits: StepLimits
    clock: Callable[[], float]
    """Monotonic seconds."""


@dataclass(slots=True)
class StepResult:
    """Who left the batch in a step."""

    ended: list[Served] = field(default_factory=list)
    """Answered or failed; their callers know."""
    paused: list[Served] = field(default_factory=list)
    """Their cells were needed; they go back to the queue."""
    has_failed: bool = False
    """Whether those that ended did so because the model failed."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A sequence's share in a step."""

    served: Served
    n_rows: int
    """Unread tokens that are read now."""
    tree: DraftTree | None
    """The newest token with the drafts behind it, when the next token is wanted now."""


class Batch:
    """The requests that are being answered. Used by the engine's thread."""

    def __init__(self, parts: BatchParts) -> None:
        self._parts = parts
        self.sequences: list[Served] = []
        """In order of admission."""
        self.counts: Counter[str] = Counter()

    # ------------------------------------------------------------------ who is in

    def admit(self, served: Served) -> None:
        """Take a request in. Raises ChatRejected when its sampling cannot be done."""
        if served.sampler is None:
            served.sampler = self._parts.language.sampler(served.job.request)
            served.timing.started_at = self._parts.clock()
        served.timing.resumed_at, served.timing.next_at = self._parts.clock(), 0.0
        self.sequences.append(served)
        self._take_seats()

    def n_new_cells(self, served: Served) -> int:
        """Cells that it would need for what is still to be read."""
        match = self._parts.prefixes.look(served.ask.domain, served.tokens)
        return len(served.tokens) - match.n_ready

    def pause(self, served: Served) -> None:
        """Take it out, so that it can go on later where it was."""
        prefixes = self._parts.prefixes
        self.sequences.remove(served)
        if served.seat is not None:
            saved = tuple(served.tokens[: served.n_ready])
            served.pinned = saved if prefixes.pause(served.seat, saved) else ()
        served.seat, served.n_ready = None, 0
        served.n_pauses += 1
        self._parts.guesses.forget(served.key)
        self.counts["pauses"] += 1

    def leave(self, served: Served) -> None:
        """It is over, for whatever reason; what the model has read of it is kept as a prefix."""
        self.sequences.remove(served)
        if served.seat is not None:
            self._parts.prefixes.retire(served.seat, served.tokens[: served.n_ready])
            served.seat = None
        self.forget(served)

    def forget(self, served: Served) -> None:
        """Free what a request holds outside the model's cells."""
        self._unpin(served)
        if served.sampler is not None:
            served.sampler.close()
        self._parts.guesses.forget(served.key)

    def _take_seats(self) -> None:
        for served in self.sequences:
            if served.seat is None:
                self._take_seat(served)

    def _take_seat(self, served: Served) -> None:
        """Sit down, unless another one is just reading the same beginning: then its cells can be shared soon."""
        prefixes, domain = self._parts.prefixes, served.ask.domain
        match = prefixes.look(domain, served.tokens)
        if match.n_coming - match.n_ready >= _WORTH_WAITING:
            return
        seating = prefixes.seat(domain, served.tokens)
        if seating is None:
            return
        served.seat = seating.seat
        served.n_ready = served.n_shared = seating.n_cached
        served.n_to_read = served.n_unread
        self._unpin(served)
        if not served.n_pauses:
            served.tally.cached = seating.n_cached
            self.counts["prompt_tokens"] += len(served.ask.prompt)
            self.counts["cached_tokens"] += seating.n_cached

    def _unpin(self, served: Served) -> None:
        if served.pinned:
            self._parts.prefixes.unpin(served.ask.domain, served.pinned)
            served.pinned = ()

    # ------------------------------------------------------------------ one step

    def step(self) -> StepResult:
        """Compute one batch: the next token of every answer, guesses of those after it, and some of the prompts."""
        result = StepResult()
        self._take_seats()
        began = self._parts.clock()
        parts = self._decoded(result)
        if not parts:
            return result
        row = 0
        for part in parts:
            row = self._take_in(part, row, result)
        now = self._parts.clock()
        self._parts.guesses.note_step(row, now - began)
        self.counts["steps"] += 1
        self.counts["rows"] += row
        return result

    def _decoded(self, result: StepResult) -> Sequence[_Part]:
        """Have the model compute what is planned; with less and less of it while its cells do not suffice."""
        with_drafts = True
        while True:
            parts = self._plan(with_drafts)
            runs = [run for part in parts for run in self._runs(part)]
            try:
                if runs:
                    self._make_room(sum(len(run.tokens) for run in runs))
                    self._parts.runner.decode(runs)
                return parts
            except OutOfCells:
                self._undo(parts)
                self.counts["out_of_cells"] += 1
                if with_drafts and any(part.tree and part.tree.n_drafted for part in parts):
                    with_drafts = False
                elif not self._parts.prefixes.make_room(self._parts.runner.n_cells):
                    self._give_way(result)
            except RuntimeError as error:
                log.error("a step of %d sequences failed", len(self.sequences), exc_info=True)
                self._undo(parts)
                self._fail_all(error, result)

    def _plan(self, with_drafts: bool) -> list[_Part]:
        seated = [one for one in self.sequences if one.seat is not None]
        rows = plan_rows([one.n_unread for one in seated], self._parts.limits)
        ready = [one for one, n in zip(seated, rows, strict=True) if n == one.n_unread]
        trees = self._parts.guesses.trees(ready, sum(rows), with_drafts=with_drafts)
        return [_Part(one, n, trees.get(one.key)) for one, n in zip(seated, rows, strict=True) if n]

    def _runs(self, part: _Part) -> list[Run]:
        served = part.served
        assert served.seat is not None  # those without a seat are not planned
        n_plain = part.n_rows - (part.tree is not None)
        plain = served.tokens[served.n_ready : served.n_ready + n_plain]
        runs = [Run(plain, served.n_ready, (served.seat,), 0)] if plain else []
        return runs + list(part.tree.runs if part.tree else ())

    def _make_room(self, n_rows: int) -> None:
        """Give up kept prefixes in time, so that decoding seldom fails for want of cells."""
        prefixes = self._parts.prefixes
        if prefixes.n_cells_used + n_rows > self._parts.runner.n_cells:
            prefixes.make_room(n_rows)

    def _undo(self, parts: Sequence[_Part]) -> None:
        for part in parts:
            if part.tree is not None:
                self._parts.guesses.drop(part.tree)

    def _give_way(self, result: StepResult) -> None:
        """The one that came last goes back to the queue; a single one can never have what it needs."""
        if len(self.sequences) == 1:
            self._fail_all(RuntimeError("the context has too few cells for this request"), result)
            return
        last = self.sequences[-1]
        self.pause(last)
        result.paused.append(last)

    def _fail_all(self, error: RuntimeError, result: StepResult) -> None:
        for served in list(self.sequences):
            if served.seat is not None:
                self._parts.prefixes.drop(served.seat)
                served.seat = None
            self.leave(served)
            served.job.deliver(Failed(error))
            result.ended.append(served)
        result.has_failed = True

    # ------------------------------------------------------------------ after a step

    def _take_in(self, part: _Part, row: int, result: StepResult) -> int:
        """What a step did for one sequence; returns the row after its own."""
        served, prefixes = part.served, self._parts.prefixes
        assert served.seat is not None
        if part.tree is None:
            served.n_ready += part.n_rows
            prefixes.advance(served.seat, served.n_ready)
            return row + part.n_rows
        row += part.n_rows - 1
        verified = self._parts.guesses.verify(served, part.tree, row)
        reason = self._write(served, verified)
        self._parts.guesses.settle(served, part.tree, verified)
        served.n_ready += part.n_rows + verified.n_accepted
        prefixes.advance(served.seat, min(served.n_ready, len(served.ask.prompt)))
        prefixes.grew(served.seat, served.n_ready)
        self._tell(served, reason, result)
        return row + part.tree.n_rows

    def _write(self, served: Served, verified: Verified) -> Literal["stop", "length"] | None:
        """Add what was drawn to the answer; returns why it ends, if it does."""
        n_rivals, language = served.job.request.n_logprobs, self._parts.language
        if not served.timing.next_at:
            served.timing.next_at = self._parts.clock()
            served.timing.first_at = served.timing.first_at or served.timing.next_at
        for token, at in zip(verified.tokens, verified.rows, strict=True):
            wants = n_rivals is not None
            chance = chance_of(token, self._parts.runner.logits(at), n_rivals or 0, language) if wants else None
            reason = served.write(token, language, chance)
            self.counts["completion_tokens"] += reason != "stop"
            if reason is not None:
                return reason
        return None

    def _tell(self, served: Served, reason: Literal["stop", "length"] | None, result: StepResult) -> None:
        now = self._parts.clock()
        finished = served.finished(reason, now) if reason is not None else None
        if served.job.request.is_streamed and not served.job.is_cancelled:
            piece = served.piece()
            if piece is not None:
                served.job.deliver(piece)
        if finished is None:
            return
        if served.n_ready > len(served.tokens):  # a stop text or the limit came before the end of a draft
            assert served.seat is not None
            served.n_ready = len(served.tokens)
            self._parts.runner.cut(served.seat, served.n_ready)
        self.leave(served)
        served.job.deliver(finished)
        result.ended.append(served)
