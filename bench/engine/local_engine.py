"""How does a benchmark ask an engine without HTTP between them?"""

import queue
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echo_proxy.engine.chat import parse_chat
from echo_proxy.engine.work import Engine, Failed, Finished
from echo_proxy.local.build import build_engine
from echo_proxy.local.options import parse_model


@dataclass(frozen=True, slots=True)
class Timed:
    """Answers in the order of their requests, and how long all of them took."""

    answers: tuple[Finished, ...]
    seconds: float

    @property
    def n_tokens(self) -> int:
        """Of all answers."""
        return sum(one.usage.n_completion_tokens for one in self.answers)


@contextmanager
def engine(options: Mapping[str, Any]) -> Iterator[Engine]:
    """The engine of a model with these options, in this process."""
    model = parse_model("bench", dict(options))
    with tempfile.TemporaryDirectory() as folder:
        built = build_engine(model.name, model.options, Path(folder))
        try:
            yield built.engine
        finally:
            built.close()


def ask(engine: Engine, bodies: Sequence[Mapping[str, Any]], n_clients: int = 1) -> Timed:
    """Answers to all bodies, with so many of them under way at a time."""
    ends: queue.SimpleQueue[tuple[int, object]] = queue.SimpleQueue()
    waiting = iter(enumerate(bodies))

    def send() -> None:
        for i, body in waiting:
            engine.submit(parse_chat(dict(body)), lambda event, i=i: ends.put((i, event)))  # type: ignore[misc]
            return

    began = time.perf_counter()
    for _ in range(n_clients):
        send()
    answers: dict[int, Finished] = {}
    while len(answers) < len(bodies):
        i, event = ends.get()
        if isinstance(event, Failed):
            raise event.error
        assert isinstance(event, Finished)
        answers[i] = event
        send()
    return Timed(tuple(answers[i] for i in range(len(bodies))), time.perf_counter() - began)
