"""How do requests from any thread reach the one batch? A queue in front of it, one thread that steps, events back."""

import logging
import math
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

from echo_proxy.engine.batch import Batch, BatchParts
from echo_proxy.engine.chat import ChatRejected, ChatRequest
from echo_proxy.engine.queue import AdmissionQueue, Refusal, Room, Running, Waiter
from echo_proxy.engine.queue import Served as Ended
from echo_proxy.engine.sequence import Ask
from echo_proxy.engine.sequence import Sequence as Served
from echo_proxy.engine.work import EngineStatus, Event, Failed, Job, Overloaded

log = logging.getLogger("echo_proxy.local")

_CRASHED = 70
"""Exit status after an error that nobody foresaw."""
_RATE = 0.1
"""Share of the newest answer in the moving average of service times. guess, not yet measured"""


@dataclass(frozen=True, slots=True)
class EngineRules:
    """What the engine keeps to."""

    n_ctx: int
    """Longest prompt and answer together, in tokens."""
    n_parallel: int
    """Requests in the batch at once."""
    is_shared: bool
    """Whether all scopes share prefixes."""
    takes_hints: bool
    """Whether hints of requests are of use."""


class BatchingEngine:
    """Answers many requests at once with one model. Its public methods may be called from any thread."""

    def __init__(self, parts: BatchParts, queue: AdmissionQueue, rules: EngineRules, close: Callable[[], None]) -> None:
        """Start the thread, which alone uses the runner from now on; `close` frees it."""
        self._parts = parts
        self._rules = rules
        self._close_model = close
        self._numbers = count()
        self._changed = threading.Condition()
        # Guarded by `_changed`:
        self._queue = queue
        self._batch = Batch(parts)
        self._waiting: dict[int, Served] = {}
        self._waiters: dict[int, Waiter] = {}
        self._left: list[Served] = []
        self._n_served = 0
        self._n_refused = 0
        self._service_s = 0.0
        self._is_closing = False
        self._thread = threading.Thread(target=self._work, name="echo-engine", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ from other threads

    def submit(self, request: ChatRequest, deliver: Callable[[Event], None]) -> Job:
        """See Engine.submit."""
        job = Job(request, deliver)
        ask = self._ask(request)
        waiter = _waiter(request, ask)
        with self._changed:
            if self._is_closing:
                raise Overloaded("the model is being unloaded", 1.0)
            self._drop_cancelled()
            try:
                pushed_out = self._queue.put(waiter, self._running(), ask.arrived_at)
            except Overloaded:
                self._n_refused += 1
                raise
            self._waiting[ask.number] = Served(job, ask)
            self._waiters[ask.number] = waiter
            self._refuse(pushed_out)
            self._changed.notify()
        return job

    def status(self) -> EngineStatus:
        """See Engine.status."""
        with self._changed:
            self._drop_cancelled()
            now = self._parts.clock()
            counts = {**self._batch.counts, **self._parts.prefixes.counts, **self._parts.guesses.counts}
            return EngineStatus(
                n_served=self._n_served,
                n_waiting=len(self._waiting),
                n_running=len(self._batch.sequences),
                wait_s=self._queue.wait_s(0, self._running(), now),
                service_s=self._service_s,
                counts={**counts, "refused": self._n_refused},
            )

    def close(self) -> None:
        """See Engine.close."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()

    def _ask(self, request: ChatRequest) -> Ask:
        """The request in tokens. Raises ChatRejected."""
        language, service = self._parts.language, request.service
        prompt = language.prompt(request.messages)
        room = self._rules.n_ctx - len(prompt.tokens)
        if room <= 0:
            raise ChatRejected(
                f"messages: expected fewer than {self._rules.n_ctx} tokens, the context of this model, "
                f"got {len(prompt.tokens)}",
                "messages",
                "context_length_exceeded",
            )
        hints = tuple(language.tokenize(one) for one in service.hints) if self._rules.takes_hints else ()
        return Ask(
            number=next(self._numbers),
            prompt=prompt.tokens,
            stop=(*request.stop, *prompt.stop),
            most_tokens=min(request.max_tokens or room, room),
            domain="" if self._rules.is_shared else service.scope,
            hints=hints,
            arrived_at=self._parts.clock(),
        )

    # ------------------------------------------------------------------ the engine's thread

    def _work(self) -> None:
        try:
            while self._is_open():
                result = self._batch.step()
                with self._changed:
                    for served in result.ended:
                        self._note_end(served, is_whole=not result.has_failed)
                    for served in result.paused:
                        self._put_back(served)
            self._close_model()
        except BaseException:
            # Without its engine the process is of no use; its supervisor starts another.
            log.critical("the engine ended, so the process ends", exc_info=True)
            os._exit(_CRASHED)

    def _is_open(self) -> bool:
        """Wait for something to do and decide who is in the batch; False when the engine is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing or self._waiting or self._batch.sequences)
            self._drop_cancelled()
            if self._is_closing:
                self._fail_all(RuntimeError("the model was unloaded"))
                return False
            self._refuse(self._queue.expire(self._parts.clock()))
            self._choose()
            while self._left:  # only this thread may touch what they hold
                self._batch.forget(self._left.pop())
            return True

    def _choose(self) -> None:
        """Admit and pause as the queue says."""
        while self._waiting:
            choice = self._queue.choose(self._running(), self._room(), self._need, self._parts.clock())
            if choice.admit is not None:
                self._admit(self._waiting.pop(choice.admit))
            elif choice.pause is not None:
                served = next(one for one in self._batch.sequences if one.key == choice.pause)
                self._batch.pause(served)
                self._put_back(served)
            else:
                return

    def _admit(self, served: Served) -> None:
        try:
            self._batch.admit(served)
        except ChatRejected as error:
            served.job.deliver(Failed(error))
            self._note_end(served, is_whole=False)

    def _put_back(self, served: Served) -> None:
        waiter = replace(
            self._waiters[served.key],
            n_prompt_tokens=len(served.tokens),
            most_tokens=served.n_left,
            n_done=served.n_written,
            n_pauses=served.n_pauses,
        )
        self._waiters[served.key] = waiter
        self._waiting[served.key] = served
        self._queue.put_back(waiter)

    def _note_end(self, served: Served, *, is_whole: bool) -> None:
        now, timing = self._parts.clock(), served.timing
        next_at = timing.next_at or now
        ended = Ended(
            waiter=self._waiters[served.key],
            n_read=served.n_to_read,
            n_written=served.n_written,
            read_s=next_at - (timing.resumed_at or now),
            write_s=now - next_at,
            n_beside=len(self._batch.sequences) + 1,
            is_whole=is_whole,
        )
        self._queue.heard(ended, now)
        if is_whole:
            self._service_s += (_RATE if self._service_s else 1.0) * (now - timing.started_at - self._service_s)
        self._forget(served)

    def _forget(self, served: Served) -> None:
        del self._waiters[served.key]
        self._n_served += 1

    def _drop_cancelled(self) -> None:
        """A request whose caller has gone must hold neither a place in the queue nor in the batch."""
        for served in [one for one in self._waiting.values() if one.job.is_cancelled]:
            del self._waiting[served.key]
            self._queue.remove(served.key)
            self._left.append(served)
            self._forget(served)
        if threading.current_thread() is self._thread:
            for served in [one for one in self._batch.sequences if one.job.is_cancelled]:
                self._batch.leave(served)
                self._note_end(served, is_whole=False)

    def _refuse(self, refusals: tuple[Refusal, ...]) -> None:
        for refusal in refusals:
            served = self._waiting.pop(refusal.number)
            self._left.append(served)
            self._n_refused += 1
            self._forget(served)
            served.job.deliver(Failed(Overloaded(refusal.reason, refusal.retry_after_s)))

    def _fail_all(self, error: RuntimeError) -> None:
        for served in [*self._waiting.values(), *self._batch.sequences]:
            served.job.deliver(Failed(error))

    def _running(self) -> tuple[Running, ...]:
        return tuple(
            Running(self._waiters[one.key], one.n_written, one.timing.resumed_at, one.n_ready - one.n_shared)
            for one in self._batch.sequences
        )

    def _room(self) -> Room:
        runner, prefixes = self._parts.runner, self._parts.prefixes
        n_free = runner.n_cells - prefixes.n_cells_used + prefixes.n_cells_kept
        return Room(self._rules.n_parallel - len(self._batch.sequences), n_free)

    def _need(self, number: int) -> int:
        return self._batch.n_new_cells(self._waiting[number])


def _waiter(request: ChatRequest, ask: Ask) -> Waiter:
    service = request.service
    return Waiter(
        number=ask.number,
        scope=service.scope,
        priority=service.priority,
        arrived_at=ask.arrived_at,
        deadline_at=math.inf if service.deadline_s is None else ask.arrived_at + service.deadline_s,
        n_prompt_tokens=len(ask.prompt),
        most_tokens=ask.most_tokens,
    )
