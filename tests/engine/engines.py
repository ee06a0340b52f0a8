"""Engines without a model, for tests."""

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from echo_proxy.engine.batch import BatchParts
from echo_proxy.engine.batching import BatchingEngine, EngineRules
from echo_proxy.engine.chat import ChatRequest, Sampling, Service
from echo_proxy.engine.guesses import Drafting, Guesses
from echo_proxy.engine.lookup import LookupDrafter
from echo_proxy.engine.prefixes import Prefixes
from echo_proxy.engine.queue import AdmissionQueue, Forecast, QueueLimits
from echo_proxy.engine.schedule import StepLimits
from echo_proxy.engine.vault import Vault
from echo_proxy.engine.work import Event, Failed, Finished, Job, Piece
from tests.engine.language_fake import ALPHABET, END, FakeLanguage
from tests.engine.runner_fake import FakeRunner

GREEDY = Sampling(temperature=0.0)
DEADLINE_S = 60.0


def ask(text: str, *, max_tokens: int = 12, sampling: Sampling = GREEDY, **more: object) -> ChatRequest:
    """A request of one turn."""
    fields: dict[str, object] = {
        "stop": (),
        "grammar": "text",
        "json_schema": None,
        "is_streamed": False,
        "wants_usage": False,
        "service": Service(),
        **more,
    }
    return ChatRequest(({"role": "user", "content": text},), sampling, max_tokens, **fields)  # type: ignore[arg-type]


@dataclass
class Mail:
    """What an engine delivers for one request."""

    events: "queue.Queue[Event]" = field(default_factory=queue.Queue)
    pieces: list[Piece] = field(default_factory=list)

    def end(self) -> Finished | Failed:
        """Wait for the end."""
        while isinstance(event := self.events.get(timeout=DEADLINE_S), Piece):
            self.pieces.append(event)
        return event

    def finished(self) -> Finished:
        """Wait for an end that is an answer."""
        event = self.end()
        assert isinstance(event, Finished), event
        return event


@dataclass
class Bench:
    """An engine and what a test looks at."""

    engine: BatchingEngine
    runner: FakeRunner
    language: FakeLanguage

    def send(self, request: ChatRequest) -> tuple[Job, Mail]:
        """Submit it."""
        mail = Mail()
        return self.engine.submit(request, mail.events.put), mail

    def answer(self, request: ChatRequest) -> Finished:
        """Submit it and wait for the answer."""
        return self.send(request)[1].finished()

    def wait(self, holds: Callable[[], bool]) -> None:
        """Until it holds."""
        deadline = time.monotonic() + DEADLINE_S
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def text(self, request: ChatRequest) -> str:
        """What the model alone would answer, greedily."""
        prompt = self.language.prompt(request.messages).tokens
        return spelt(self.runner.continued(prompt, request.max_tokens or 0))


def spelt(tokens: list[int]) -> str:
    """The text of tokens, until the end."""
    end = tokens.index(END) if END in tokens else len(tokens)
    return "".join(ALPHABET[token] for token in tokens[:end])


def batch_parts(
    runner: FakeRunner,
    *,
    drafting: bool = False,
    ram_bytes: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> BatchParts:
    """What a batch over the fake runner works with."""
    language = FakeLanguage(runner)
    prefixes = Prefixes(runner, Vault(ram_bytes, 0, None, "fake"), min_saved=4)
    lookup = Drafting(LookupDrafter(language.is_end), 8, 2) if drafting else None
    guesses = Guesses(runner, language, prefixes, lookup, time.perf_counter)
    return BatchParts(runner, language, prefixes, guesses, StepLimits(runner.n_batch, 16), clock)


@contextmanager
def running(
    runner: FakeRunner | None = None,
    *,
    n_parallel: int = 4,
    n_ctx: int = 128,
    drafting: bool = False,
    is_shared: bool = True,
    ram_bytes: int = 0,
    clock: Callable[[], float] = time.monotonic,
    **limits: float,
) -> Iterator[Bench]:
    """An engine over the fake runner."""
    runner = runner or FakeRunner(n_seats=3 * n_parallel, n_cells=512, n_batch=32, n_vocab=len(ALPHABET))
    parts = batch_parts(runner, drafting=drafting, ram_bytes=ram_bytes, clock=clock)
    rules = QueueLimits(n_parallel=n_parallel, n_cells=runner.n_cells, **limits)  # type: ignore[arg-type]
    engine = BatchingEngine(
        parts, AdmissionQueue(rules, Forecast()), EngineRules(n_ctx, n_parallel, is_shared, True), runner.close
    )
    assert isinstance(parts.language, FakeLanguage)
    try:
        yield Bench(engine, runner, parts.language)
    finally:
        engine.close()
