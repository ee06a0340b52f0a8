import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from echo_proxy.engine.chat import ChatRejected, ChatRequest, parse_chat
from echo_proxy.local.engine import Cancelled, Event, Failed, Finished, Piece, QueueFull, SequentialEngine
from tests.local.children import wait_for

REQUEST = parse_chat({"messages": [{"role": "user", "content": "hi"}], "stream": True})
END = Finished("ab", "stop", 1, 2)


class GatedModel:
    """Says `a`, waits until the test opens the gate or the caller goes away, then ends."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def answer(self, request: ChatRequest, is_cancelled: Callable[[], bool]) -> Iterator[Piece | Finished]:
        yield Piece("a")
        while not self.gate.wait(0.005):
            if is_cancelled():
                raise Cancelled
        yield END


class BrokenModel:
    """Fails as it is told."""

    def __init__(self, *errors: ChatRejected | RuntimeError) -> None:
        self.errors = list(errors)

    def answer(self, request: ChatRequest, is_cancelled: Callable[[], bool]) -> Iterator[Piece | Finished]:
        if self.errors:
            raise self.errors.pop(0)
        yield END


def test_events_arrive_in_order() -> None:
    """Pieces first, then the end."""
    model = GatedModel()
    engine = SequentialEngine(model, max_queue=1)
    events: queue.Queue[Event] = queue.Queue()
    engine.submit(REQUEST, events.put)
    model.gate.set()

    assert [events.get(timeout=5), events.get(timeout=5)] == [Piece("a"), END]
    assert wait_for(lambda: engine.status().n_served == 1)


def test_queue_refuses_what_is_too_much() -> None:
    """One runs, max_queue wait, the next is refused; a cancelled one gives its place back."""
    model = GatedModel()
    engine = SequentialEngine(model, max_queue=1)
    events: queue.Queue[Event] = queue.Queue()
    engine.submit(REQUEST, events.put)
    assert events.get(timeout=5) == Piece("a")
    waiting = engine.submit(REQUEST, events.put)
    assert (engine.status().n_running, engine.status().n_waiting) == (1, 1)

    with pytest.raises(QueueFull, match="expected at most 1 waiting"):
        engine.submit(REQUEST, events.put)
    waiting.cancel()
    assert engine.status().n_waiting == 0
    engine.submit(REQUEST, events.put)
    model.gate.set()


def test_a_queue_of_none_serves_one_at_a_time() -> None:
    """max_queue 0 means: now or never."""
    engine = SequentialEngine(BrokenModel(), max_queue=0)
    events: queue.Queue[Event] = queue.Queue()
    engine.submit(REQUEST, events.put)

    assert events.get(timeout=5) == END


def test_a_cancelled_request_frees_the_model() -> None:
    """The next request is served although the first never ended."""
    model = GatedModel()
    engine = SequentialEngine(model, max_queue=1)
    first: queue.Queue[Event] = queue.Queue()
    job = engine.submit(REQUEST, first.put)
    assert first.get(timeout=5) == Piece("a")
    second: queue.Queue[Event] = queue.Queue()
    engine.submit(REQUEST, second.put)
    job.cancel()

    assert second.get(timeout=5) == Piece("a")
    assert first.empty()
    model.gate.set()


def test_errors_reach_their_caller_only() -> None:
    """A refused or failed request is told so, and the next one is served."""
    rejected, broken = ChatRejected("no"), RuntimeError("llama_decode returned 1")
    engine = SequentialEngine(BrokenModel(rejected, broken), max_queue=5)
    events: queue.Queue[Event] = queue.Queue()
    for _ in range(3):
        engine.submit(REQUEST, events.put)

    assert [events.get(timeout=5) for _ in range(3)] == [Failed(rejected), Failed(broken), END]
