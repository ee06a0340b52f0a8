"""How do many requests share one model? Each step computes one batch of tokens for all of them; see `Batch.step`."""

import logging
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from echo_proxy.engine.batch_seats import Seats
from echo_proxy.engine.chances import chance_of
from echo_proxy.engine.guesses import Guesses
from echo_proxy.engine.prefixes import Prefixes
from echo_proxy.engine.runner import Language, OutOfCells, Run, Runner
from echo_proxy.engine.schedule import StepLimits, plan_rows
from echo_proxy.engine.sequence import Sequence as Served
from echo_proxy.engine.tree import DraftTree
from echo_proxy.engine.verify import Verified
from echo_proxy.engine.work import Failed, Finished

log = logging.getLogger("echo_proxy.local")


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


@dataclass(frozen=True, slots=True)
class Ending:
    """How a request ended. Its caller has yet to be told."""

    served: Served
    event: Finished | Failed


@dataclass(slots=True)
class StepResult:
    """Who left the batch in a step."""

    ended: list[Ending] = field(default_factory=list)
    paused: list[Served] = field(default_factory=list)
    """The cells did not suffice for them too; they go back to the queue."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A sequence's share in a step."""

    served: Served
    n_rows: int
    """Unread tokens that are read now."""
    tree: DraftTree | None
    """The newest token with the drafts behind it, when the next token is wanted now."""

    @property
    def n_computed(self) -> int:
        """Its rows in the decode, drafts included."""
        return self.n_rows if self.tree is None else self.n_rows - 1 + self.tree.n_rows


class Batch:
    """The requests that are being answered. Used by the engine's thread."""

    def __init__(self, parts: BatchParts) -> None:
        self._parts = parts
        self.sequences: list[Served] = []
        """In order of admission."""
        self.counts: Counter[str] = Counter()
        self._seats = Seats(parts.prefixes, self.counts)

    # ------------------------------------------------------------------ who is in

    def prepare(self, served: Served) -> None:
        """Make what it needs to draw tokens. Whatever this raises, ChatRejected or not, it is the request's own
        fault, and the batch is as before."""
        if served.sampler is None:
            served.sampler = self._parts.language.sampler(served.job.request)
            served.timing.started_at = self._parts.clock()

    def admit(self, served: Served) -> None:
        """Take in a request that was prepared."""
        served.timing.resumed_at, served.timing.next_at = self._parts.clock(), 0.0
        self.sequences.append(served)
        self._seats.take(served)

    def n_new_cells(self, served: Served) -> int:
        """Cells that one that waits needs for its tokens so far."""
        return self._seats.n_new_cells(served)

    @property
    def n_promised_cells(self) -> int:
        """Cells that those who are in need for their tokens so far and have not written yet."""
        return sum(map(self._seats.n_promised_cells, self.sequences))

    def pause(self, served: Served) -> None:
        """Take it out for the sake of another, so that it can go on later where it was."""
        served.n_pauses += 1
        self._set_aside(served)

    def _set_aside(self, served: Served) -> None:
        self.sequences.remove(served)
        self._seats.set_aside(served)
        self._parts.guesses.forget(served.key)
        self.counts["pauses"] += 1

    def leave(self, served: Served) -> None:
        """It is over, for whatever reason; what the model has read of it is kept as a prefix."""
        self.sequences.remove(served)
        self._seats.leave(served)
        self.forget(served)

    def forget(self, served: Served) -> None:
        """Free what a request holds outside the model's cells."""
        self._seats.unpin(served)
        if served.sampler is not None:
            served.sampler.close()
        self._parts.guesses.forget(served.key)

    # ------------------------------------------------------------------ one step

    def step(self) -> StepResult:
        """Compute one batch: the next token of every answer, guesses of those after it, and some of the prompts.

        What one request causes ends that request. When the model fails, those end that are in. Whatever else is
        raised is nobody's in particular, and nothing can be relied on afterwards.
        """
        result = StepResult()
        for served in self.sequences:
            self._seats.take(served)
        began = self._parts.clock()
        parts = self._decoded(result)
        if not parts:
            return result
        row = 0
        for part in parts:
            self._take_in(part, row, result)
            row += part.n_computed
        now = self._parts.clock()
        self._parts.guesses.note_step(row, now - began)
        self.counts["steps"] += 1
        self.counts["rows"] += row
        return result

    def _decoded(self, result: StepResult) -> Sequence[_Part]:
        """Have the model compute what is planned, and return that; with less and less of it while its cells do not
        suffice. Nothing is left when the model fails."""
        with_drafts = True
        while parts := self._plan(with_drafts=with_drafts):
            try:
                self._decode(parts)
                return parts
            except OutOfCells:
                self._undo(parts)
                with_drafts = False
                self._need_less(parts, result)
            except RuntimeError as error:
                log.error("a step of %d sequences failed", len(self.sequences), exc_info=True)
                self._undo(parts)
                for served in list(self.sequences):
                    self._fail(served, error, result)
        return ()

    def _decode(self, parts: Sequence[_Part]) -> None:
        prefixes, runner = self._parts.prefixes, self._parts.runner
        runs = [run for part in parts for run in self._runs(part)]
        n_rows = sum(len(run.tokens) for run in runs)
        if prefixes.n_cells_used + n_rows > runner.n_cells:
            prefixes.make_room(n_rows)  # in time, so that decoding seldom fails for want of cells
        runner.decode(runs)

    def _need_less(self, parts: Sequence[_Part], result: StepResult) -> None:
        """Give up what is needed least, as these parts did not fit: first their drafts, of which there are no more in
        this step; then all kept texts; then one request."""
        self.counts["out_of_cells"] += 1
        had_drafts = any(part.tree is not None and part.tree.n_drafted for part in parts)
        if not had_drafts and not self._parts.prefixes.give_up_kept():
            self._give_way(result)

    def _plan(self, *, with_drafts: bool) -> list[_Part]:
        seated = self._seated()
        rows = plan_rows([one.n_unread for one in seated], self._parts.limits)
        ready = [one for one, n in zip(seated, rows, strict=True) if n == one.n_unread]
        trees = self._parts.guesses.trees(ready, sum(rows), with_drafts=with_drafts)
        return [_Part(one, n, trees.get(one.key)) for one, n in zip(seated, rows, strict=True) if n]

    def _seated(self) -> list[Served]:
        return [one for one in self.sequences if one.seat is not None]

    def _runs(self, part: _Part) -> list[Run]:
        served = part.served
        assert served.seat is not None  # those without a seat are not planned
        n_plain = part.n_rows - (part.tree is not None)
        plain = served.tokens[served.n_ready : served.n_ready + n_plain]
        runs = [Run(plain, served.n_ready, (served.seat,), 0)] if plain else []
        return runs + list(part.tree.runs if part.tree else ())

    def _undo(self, parts: Sequence[_Part]) -> None:
        for part in parts:
            if part.tree is not None:
                self._parts.guesses.drop(part.tree)

    def _give_way(self, result: StepResult) -> None:
        """One goes back to the queue: of the least priority, the one that came last. Those without a seat hold no
        cells. A single one can never have what it needs."""
        seated = self._seated()
        if len(seated) == 1:
            self._fail(seated[0], RuntimeError("the context has too few cells for this request"), result)
            return
        least = min(one.job.request.service.priority for one in seated)
        last = next(one for one in reversed(seated) if one.job.request.service.priority == least)
        last.n_shortages += 1
        self._set_aside(last)
        result.paused.append(last)

    def _fail(self, served: Served, error: RuntimeError, result: StepResult) -> None:
        """It ends with an error; what is in its seat may be broken."""
        self._seats.drop(served)
        self.leave(served)
        result.ended.append(Ending(served, Failed(error)))

    def _fail_alone(self, served: Served, error: Exception, result: StepResult) -> None:
        self._fail(served, failure(error), result)

    # ------------------------------------------------------------------ after a step

    def _take_in(self, part: _Part, row: int, result: StepResult) -> None:
        """What a step did for one sequence, whose first row this is."""
        served, prefixes = part.served, self._parts.prefixes
        assert served.seat is not None
        if part.tree is None:
            served.n_ready += part.n_rows
            prefixes.advance(served.seat, served.n_ready)
            self._seats.unpin_if_read(served)
            return
        try:
            verified = self._parts.guesses.verify(served, part.tree, row + part.n_rows - 1)
            reason = self._write(served, verified)
        except Exception as error:  # noqa: BLE001 - its sampler and its text are its own, so it ends alone
            self._parts.guesses.drop(part.tree)
            self._fail_alone(served, error, result)
            return
        self._parts.guesses.settle(served, part.tree, verified)
        served.n_ready += part.n_rows + verified.n_accepted
        prefixes.advance(served.seat, min(served.n_ready, len(served.ask.prompt)))
        prefixes.grew(served.seat, served.n_ready)
        self._seats.unpin_if_read(served)
        self._tell(served, reason, result)

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
        """Send what was written; the end itself is told after it was counted."""
        finished = served.finished(reason, self._parts.clock()) if reason is not None else None
        if served.job.request.is_streamed and not served.job.is_cancelled:
            try:
                self._send(served)
            except Exception as error:  # noqa: BLE001 - a caller that cannot be told anything ends alone
                self._fail_alone(served, error, result)
                return
        if finished is None:
            return
        if served.n_ready > len(served.tokens):  # a stop text or the limit came before the end of a draft
            assert served.seat is not None
            served.n_ready = len(served.tokens)
            self._parts.runner.cut(served.seat, served.n_ready)
        self.leave(served)
        result.ended.append(Ending(served, finished))

    def _send(self, served: Served) -> None:
        piece = served.piece()
        if piece is not None:
            served.job.deliver(piece)


def failure(error: Exception) -> RuntimeError:
    """What a caller is told of an error that its request has caused, whatever it was."""
    # Its message may quote the request, and a log keeps no texts: the caller alone is told.
    where = traceback.extract_tb(error.__traceback__)[-1]
    log.error("a request failed: %s in %s, line %s", type(error).__name__, where.filename, where.lineno)
    return RuntimeError(f"this request failed: {type(error).__name__}: {error}")
