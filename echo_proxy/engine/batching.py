"""How do requests from any thread reach the one batch? A queue in front of it, one thread that steps, events back."""

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from echo_proxy.engine.batch import Batch, BatchParts, StepResult, failure
from echo_proxy.engine.chat import ChatRejected, ChatRequest
from echo_proxy.engine.intake import EngineRules, Intake, waiter_of
from echo_proxy.engine.queue import AdmissionQueue, Choice, Refusal, Room, Running, Waiter
from echo_proxy.engine.queue import Served as Ended
from echo_proxy.engine.sequence import Ask
from echo_proxy.engine.sequence import Sequence as Served
from echo_proxy.engine.work import EngineStatus, Event, Failed, Finished, Job, Overloaded

log = logging.getLogger("echo_proxy.local")

__all__ = ["BatchingEngine", "EngineRules"]

_CRASHED = 70
"""Exit status after an error that nobody foresaw."""
_RATE = 0.1
"""Share of the newest answer in the moving average of service times. guess, not yet measured"""
_News = tuple[Job, Event]
"""Who is to be told what, once the lock is free."""


class BatchingEngine:
    """Answers many requests at once with one model. Its public methods may be called from any thread.

    Who may touch what: the engine's own thread alone uses the batch and all that belongs to the model. The queue and
    whatever else other threads need to know is guarded by one lock. Nobody computes, reads files or calls others back
    while holding it, so a model that hangs keeps nobody from asking how the engine is. Methods below the line "the
    engine's thread" are that thread's; those that end in `_locked` are called with the lock held, by any.
    """

    def __init__(self, parts: BatchParts, queue: AdmissionQueue, rules: EngineRules, close: Callable[[], None]) -> None:
        """Start the thread, which alone uses the runner from now on; `close` frees it."""
        self._parts = parts
        self._rules = rules
        self._close_model = close
        self._intake = Intake(parts.language, rules)
        # The engine's thread alone:
        self._batch = Batch(parts)
        # Guarded by `_changed`:
        self._changed = threading.Condition()
        self._queue = queue
        self._waiting: dict[int, Served] = {}
        """Those in the queue."""
        self._waiters: dict[int, Waiter] = {}
        """What the queue knows of each request that has not ended."""
        self._running: dict[int, Running] = {}
        """The batch, as it was before the present step."""
        self._left: list[Served] = []
        """Those that left the queue for good; what they hold is still to be freed by the engine's thread."""
        self._counts: Mapping[str, float] = {}
        self._n_served = 0
        self._n_refused = 0
        self._service_s = 0.0
        self._busy_since: float | None = None
        self._is_closing = False
        self._thread = threading.Thread(target=self._work, name="echo-engine", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ from other threads

    def submit(self, request: ChatRequest, deliver: Callable[[Event], None], arrived_at: float | None = None) -> Job:
        """See Engine.submit."""
        job = Job(request, deliver)
        ask = self._intake.ask(request, self._parts.clock() if arrived_at is None else arrived_at)
        with self._changed:
            refused = self._put_locked(job, ask)
            self._changed.notify()
        _tell(refused)
        return job

    def status(self) -> EngineStatus:
        """See Engine.status."""
        with self._changed:
            self._drop_cancelled_locked()
            now, running = self._parts.clock(), tuple(self._running.values())
            return EngineStatus(
                n_served=self._n_served,
                n_waiting=len(self._waiting),
                n_running=len(running),
                wait_s=self._queue.wait_s(0, running, now),
                service_s=self._service_s,
                busy_s=0.0 if self._busy_since is None else now - self._busy_since,
                counts={**self._counts, "refused": self._n_refused},
            )

    def close(self) -> None:
        """See Engine.close."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()

    def _put_locked(self, job: Job, ask: Ask) -> list[_News]:
        """Queue it; returns what those are to be told who had to go for it. Raises Overloaded."""
        if self._is_closing:
            raise Overloaded("the model is being unloaded", 1.0)
        self._drop_cancelled_locked()
        now = self._parts.clock()
        waiter = waiter_of(job.request, ask, now)
        try:
            pushed_out = self._queue.put(waiter, tuple(self._running.values()), now)
        except Overloaded:
            self._n_refused += 1
            raise
        self._waiting[ask.number] = Served(job, ask)
        self._waiters[ask.number] = waiter
        return self._refused_locked(pushed_out)

    # ------------------------------------------------------------------ the lock is held

    def _drop_cancelled_locked(self) -> None:
        """A request whose caller has gone must not hold a place in the queue."""
        for served in [one for one in self._waiting.values() if one.job.is_cancelled]:
            del self._waiting[served.key]
            self._queue.remove(served.key)
            self._dismiss_locked(served)

    def _refused_locked(self, refusals: Sequence[Refusal]) -> list[_News]:
        told: list[_News] = []
        for refusal in refusals:
            served = self._waiting.pop(refusal.number)
            self._n_refused += 1
            self._dismiss_locked(served)
            told.append((served.job, Failed(Overloaded(refusal.reason, refusal.retry_after_s))))
        return told

    def _dismiss_locked(self, served: Served) -> None:
        """It left the queue for good."""
        del self._waiters[served.key]
        self._n_served += 1
        self._left.append(served)
        self._changed.notify()  # the engine's thread frees what it holds, such as a pinned state

    # ------------------------------------------------------------------ the engine's thread

    def _work(self) -> None:
        try:
            while self._is_awake():
                self._leave_cancelled()
                while self._has_moved():
                    pass
                self._note(self._batch.step())
            self._end_all(RuntimeError("the model was unloaded"))
            self._close_model()
        except BaseException:
            # Without its engine the process is of no use; its supervisor starts another.
            log.critical("the engine ended, so the process ends", exc_info=True)
            os._exit(_CRASHED)

    def _is_awake(self) -> bool:
        """Wait for something to do, and clear the queue of what is over; False when the engine is to end."""
        with self._changed:
            self._busy_since = None
            self._changed.wait_for(lambda: self._is_closing or self._waiting or self._left or self._batch.sequences)
            if not self._is_closing:
                self._busy_since = self._parts.clock()
            self._drop_cancelled_locked()
            refused = self._refused_locked(self._queue.expire(self._parts.clock()))
            left, self._left = self._left, []
        for served in left:
            self._batch.forget(served)
        _tell(refused)
        return not self._is_closing

    def _leave_cancelled(self) -> None:
        for served in [one for one in self._batch.sequences if one.job.is_cancelled]:
            self._batch.leave(served)
            self._note_end(served, is_whole=False)

    def _has_moved(self) -> bool:
        """Admit or pause one, as the queue says; False = the batch is as the queue wants it."""
        with self._changed:
            self._look_locked()
            if not self._waiting:
                return False
            running = tuple(self._running.values())
            choice = self._queue.choose(running, self._room(), self._n_new_cells, self._parts.clock())
            chosen = None if choice.admit is None else self._waiting.pop(choice.admit)
            if chosen is not None:
                self._running[chosen.key] = self._as_running(chosen)
        if chosen is not None:
            self._admit(chosen)
        elif choice.pause is not None:
            served = next(one for one in self._batch.sequences if one.key == choice.pause)
            self._batch.pause(served)
            self._put_back(served)
        return choice != Choice()

    def _admit(self, served: Served) -> None:
        try:
            self._batch.prepare(served)
        except ChatRejected as error:
            self._refuse(served, error)
        except Exception as error:  # noqa: BLE001 - such as no memory for its grammar: it ends alone
            self._refuse(served, failure(error))
        else:
            self._batch.admit(served)

    def _refuse(self, served: Served, error: ChatRejected | RuntimeError) -> None:
        self._batch.forget(served)
        self._note_end(served, is_whole=False)
        _tell([(served.job, Failed(error))])

    def _note(self, result: StepResult) -> None:
        """Count what a step did, and tell it: in this order, so that whoever was told finds it counted."""
        for ending in result.ended:
            self._note_end(ending.served, is_whole=isinstance(ending.event, Finished))
        for served in result.paused:
            self._put_back(served)
        _tell([(one.served.job, one.event) for one in result.ended])

    def _note_end(self, served: Served, *, is_whole: bool) -> None:
        now, timing = self._parts.clock(), served.timing
        next_at = timing.next_at or now
        with self._changed:
            ended = Ended(
                waiter=self._waiters.pop(served.key),
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
            self._n_served += 1
            self._look_locked()

    def _put_back(self, served: Served) -> None:
        with self._changed:
            waiter = replace(
                self._waiters[served.key],
                n_prompt_tokens=len(served.tokens),
                most_tokens=served.n_left,
                n_done=served.n_written,
                n_pauses=served.n_pauses,
                n_shortages=served.n_shortages,
            )
            self._waiters[served.key] = waiter
            self._waiting[served.key] = served
            self._queue.put_back(waiter)
            self._look_locked()

    def _end_all(self, error: RuntimeError) -> None:
        """Free what all requests hold, and tell them."""
        with self._changed:
            waiting, self._waiting = list(self._waiting.values()), {}
            left, self._left = self._left, []
        running = list(self._batch.sequences)
        for served in running:
            self._batch.leave(served)  # as a kept prefix, which may be saved before the model goes
        for served in (*waiting, *left):
            self._batch.forget(served)
        for served in (*running, *waiting):
            self._note_end(served, is_whole=False)
        _tell([(served.job, Failed(error)) for served in (*running, *waiting)])

    def _look_locked(self) -> None:
        """Let others see what the batch is and has done."""
        self._running = {one.key: self._as_running(one) for one in self._batch.sequences}
        self._counts = {**self._batch.counts, **self._parts.prefixes.counts, **self._parts.guesses.counts}

    def _as_running(self, one: Served) -> Running:
        return Running(self._waiters[one.key], one.n_written, one.timing.resumed_at, one.n_ready - one.n_shared)

    def _room(self) -> Room:
        runner, prefixes = self._parts.runner, self._parts.prefixes
        n_free = runner.n_cells - prefixes.n_cells_used + prefixes.n_cells_kept - self._batch.n_promised_cells
        return Room(self._rules.n_parallel - len(self._batch.sequences), n_free)

    def _n_new_cells(self, number: int) -> int:
        return self._batch.n_new_cells(self._waiting[number])


def _tell(news: Sequence[_News]) -> None:
    for job, event in news:
        try:
            job.deliver(event)
        except Exception:
            log.exception("a caller could not be told how its request ended")
