"""Engines and models without llama.cpp, for tests of what stands around them."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from echo_proxy.engine.chat import ChatRequest
from echo_proxy.engine.work import EngineStatus, Event, Failed, Finished, Job, Overloaded, Piece, TokenChance, Usage
from echo_proxy.errors import LocalModelError
from echo_proxy.local.options import LocalModel

USAGE = Usage(
    7, 2, n_cached_tokens=3, n_drafted_tokens=4, n_accepted_tokens=1, queue_s=0.5, prefill_s=0.25, decode_s=1.0
)


@dataclass
class HeldEngine:
    """Answers when the test says so."""

    jobs: list[Job] = field(default_factory=list)
    n_served: int = 0
    is_closed: bool = False
    busy_s: float = 0.0
    error: Exception | None = None
    """Raised by `submit`."""
    arrivals: list[float | None] = field(default_factory=list)
    """When each request came."""
    on_submit: Callable[[], None] = lambda: None
    """Called by `submit`."""

    def submit(self, request: ChatRequest, deliver: Callable[[Event], None], arrived_at: float | None = None) -> Job:
        assert not self.is_closed
        if self.error is not None:
            raise self.error
        self.on_submit()
        self.arrivals.append(arrived_at)
        job = Job(request, deliver)
        self.jobs.append(job)
        return job

    def status(self) -> EngineStatus:
        self.jobs = [job for job in self.jobs if not job.is_cancelled]
        counts = {"prompt_tokens": 7.0 * self.n_served}
        return EngineStatus(self.n_served, 0, len(self.jobs), 0.25, 0.125, self.busy_s, counts)

    def answer(self, text: str = "ok") -> None:
        """End the oldest job."""
        self.jobs.pop(0).deliver(Finished(text, "stop", USAGE))
        self.n_served += 1

    def close(self) -> None:
        assert not self.jobs
        self.is_closed = True


@dataclass
class LoadedFake:
    """A model in memory."""

    engine: HeldEngine
    n_ctx: int = 64

    def close(self) -> None:
        self.engine.close()


@dataclass
class FakeLoader:
    """Loads engines that the test holds."""

    errors: dict[str, list[str]] = field(default_factory=dict)
    """What goes wrong with the next attempts, by model."""
    loads: list[str] = field(default_factory=list)
    """Names of the models, in the order in which they were loaded."""
    loaded: dict[str, LoadedFake] = field(default_factory=dict)
    engine_error: Exception | None = None
    """Raised by `submit` of the engines."""
    most: int = 0
    """Models that were in memory at once."""

    def __call__(self, model: LocalModel) -> LoadedFake:
        self.loads.append(model.name)
        if self.errors.get(model.name):
            raise LocalModelError(self.errors[model.name].pop(0))
        one = self.loaded[model.name] = LoadedFake(HeldEngine(error=self.engine_error))
        self.most = max(self.most, sum(not each.engine.is_closed for each in self.loaded.values()))
        return one


_FAILURES: dict[str, RuntimeError | Overloaded] = {
    "broken": RuntimeError("no more"),
    "full": Overloaded("pushed out", 2.0),
}


NATIVE = b"root ::= secret\n/x/ggml.c:12: GGML_ASSERT(a == b) failed\n"
"""What a library in C prints in its last moment, after a caller's words."""


class ParrotEngine:
    """Says the last message again, word by word; `endless` never ends, `broken` and `full` break in the middle, `crash`
    ends the process, `abort` does so after words that a library in C would say, and `stuck` is a step without end."""

    def __init__(self, crash: Callable[[], None]) -> None:
        self._crash = crash
        self._guard = threading.Lock()
        self._running: set[Job] = set()
        self._n_served = 0
        self._busy_s = 0.0

    def submit(self, request: ChatRequest, deliver: Callable[[Event], None], arrived_at: float | None = None) -> Job:
        job = Job(request, deliver)
        with self._guard:
            self._running.add(job)
        threading.Thread(target=self._say, args=(job,), daemon=True).start()
        return job

    def status(self) -> EngineStatus:
        with self._guard:
            counts = {"prompt_tokens": self._n_served}
            return EngineStatus(self._n_served, 0, len(self._running), 0.5, 0.25, self._busy_s, counts)

    def close(self) -> None:
        assert not self._running

    def _say(self, job: Job) -> None:
        text = job.request.messages[-1]["content"]
        if text in ("crash", "abort"):
            if text == "abort":
                os.write(2, NATIVE)
            self._crash()
        if text == "stuck":
            self._busy_s = 1e6
            return
        words = [f"{word} " for word in text.split()]
        for word in words if job.request.is_streamed else ():
            job.deliver(Piece(word, _chances(job.request, [word])))
        while text == "endless" and not job.is_cancelled:
            time.sleep(0.005)
        with self._guard:
            self._running.discard(job)
            self._n_served += 1
        if text in _FAILURES:
            job.deliver(Failed(_FAILURES[text]))
        elif not job.is_cancelled:
            usage = Usage(len(words), len(words))
            job.deliver(Finished("".join(words), "stop", usage, _chances(job.request, words)))


@dataclass
class LoadedParrot:
    """It in memory."""

    engine: ParrotEngine
    n_ctx: int = 64

    def close(self) -> None:
        self.engine.close()


def _chances(request: ChatRequest, words: list[str]) -> tuple[TokenChance, ...]:
    if request.n_logprobs is None:
        return ()
    rivals = tuple(TokenChance("x", b"x", float("-inf")) for _ in range(request.n_logprobs))
    return tuple(TokenChance(word, word.encode(), -0.5, rivals) for word in words)
