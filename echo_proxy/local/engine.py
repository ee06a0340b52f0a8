"""How do requests reach the one model of this process? A bounded queue, one thread, events back.

`Engine` is the seam: an engine that batches sequences can take the place of `SequentialEngine`.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from echo_proxy.engine.chat import ChatRejected, ChatRequest

log = logging.getLogger("echo_proxy.local")

_CRASHED = 70
"""Exit status after an error that nobody foresaw."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of a streamed answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer."""

    text: str
    """All of it."""
    reason: Literal["stop", "length"]
    n_prompt_tokens: int
    n_completion_tokens: int


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer, or no more of it."""

    error: ChatRejected | RuntimeError


Event = Piece | Finished | Failed


class QueueFull(Exception):
    """As many requests wait as may wait."""


class Cancelled(Exception):
    """The caller has gone away."""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What an engine has to do."""

    n_served: int
    """Requests that ended, whether whole, failed or cancelled."""
    n_waiting: int
    """Requests in the queue."""
    n_running: int
    """Requests being served now."""


class Job:
    """A request on its way. `cancel` may be called from any thread, at any time."""

    __slots__ = ("_is_cancelled", "deliver", "request")

    def __init__(self, request: ChatRequest, deliver: Callable[[Event], None]) -> None:
        self.request = request
        self.deliver = deliver
        self._is_cancelled = False

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self._is_cancelled = True

    @property
    def is_cancelled(self) -> bool:
        """Whether to stop at the next token."""
        return self._is_cancelled


class Engine(Protocol):
    """Answers requests."""

    def submit(self, request: ChatRequest, deliver: Callable[[Event], None]) -> Job:
        """Take a request; `deliver` is called from another thread with Pieces, if it is streamed, and then with
        Finished or Failed; never after the job was cancelled and has left the model. Raises QueueFull."""
        ...

    def status(self) -> EngineStatus:
        """What it has to do now."""
        ...


class Model(Protocol):
    """One sequence of tokens at a time; used by one thread."""

    def answer(self, request: ChatRequest, is_cancelled: Callable[[], bool]) -> Iterator[Piece | Finished]:
        """Pieces, if it is streamed, and then Finished. Raises ChatRejected, Cancelled, RuntimeError."""
        ...


class SequentialEngine:
    """One request after the other, first come, first served."""

    def __init__(self, model: Model, max_queue: int) -> None:
        self._model = model
        self._max_queue = max_queue
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._is_running = False
        self._n_served = 0
        threading.Thread(target=self._work, name="echo-engine", daemon=True).start()

    def submit(self, request: ChatRequest, deliver: Callable[[Event], None]) -> Job:
        """Put a request into the queue. Raises QueueFull."""
        job = Job(request, deliver)
        with self._changed:
            self._drop_cancelled()
            # The first one is about to be taken when nothing runs: it does not wait.
            n_waiting = len(self._jobs) - (not self._is_running)
            if n_waiting >= self._max_queue:
                raise QueueFull(f"expected at most {self._max_queue} waiting requests, this one would be one more")
            self._jobs.append(job)
            self._changed.notify()
        return job

    def status(self) -> EngineStatus:
        """What there is to do now."""
        with self._changed:
            self._drop_cancelled()
            return EngineStatus(self._n_served, len(self._jobs), int(self._is_running))

    def _drop_cancelled(self) -> None:
        """A request whose caller has gone must not hold a place in the queue."""
        if any(job.is_cancelled for job in self._jobs):
            self._jobs = deque(job for job in self._jobs if not job.is_cancelled)

    def _work(self) -> None:
        try:
            while True:
                with self._changed:
                    self._is_running = False
                    self._changed.wait_for(lambda: bool(self._jobs))
                    job = self._jobs.popleft()
                    self._is_running = True
                self._serve(job)
                with self._changed:
                    self._n_served += 1
        finally:
            # Without its engine the process is of no use; its supervisor starts another.
            log.critical("the engine ended, so the process ends", exc_info=True)
            os._exit(_CRASHED)

    def _serve(self, job: Job) -> None:
        if job.is_cancelled:
            return
        try:
            for event in self._model.answer(job.request, lambda: job.is_cancelled):
                job.deliver(event)
        except Cancelled:
            pass
        except (ChatRejected, RuntimeError) as error:
            job.deliver(Failed(error))
