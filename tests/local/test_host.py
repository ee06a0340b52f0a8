import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from echo_proxy.engine.chat import ChatRequest, parse_chat
from echo_proxy.engine.work import Event, Failed, Finished, Job, Overloaded
from echo_proxy.local.health import ModelHealth
from echo_proxy.local.host import ModelHost
from echo_proxy.local.options import LocalModel, LocalModelOptions
from echo_proxy.local.place import ModelUnavailable, WaitingJob
from tests.fakes import FrozenClock
from tests.local.engines import FakeLoader, HeldEngine, LoadedParrot, ParrotEngine

REQUEST = parse_chat({"messages": [{"role": "user", "content": "hi"}]})


class Stage:
    """A host without threads: the test says when it looks, and when loading and closing is done."""

    def __init__(self, max_loaded: int = 1, load: str = "first_call", errors: Any = None, **options: Any) -> None:
        self.clock = FrozenClock(100.0)
        self.loader = FakeLoader(errors or {})
        self.work: list[Callable[[], None]] = []
        models = [
            LocalModel(name, LocalModelOptions(**{"path": "/x", "load": load, **options})) for name in ("a", "b", "c")
        ]
        self.host = ModelHost(models, self.loader, max_loaded, now=self.clock.monotonic, spawn=self.work.append)
        self.events: dict[int, Event] = {}

    def ask(self, name: str, number: int, request: ChatRequest = REQUEST) -> Job:
        def deliver(event: Event) -> None:
            assert number not in self.events
            self.events[number] = event

        return self.host.submit(name, request, deliver)

    def settle(self) -> None:
        """Look and work until nothing changes."""
        self.host.look()
        while self.work:
            self.work.pop(0)()
            self.host.look()

    def answer(self, name: str) -> None:
        self.loader.loaded[name].engine.answer(name)

    def phases(self) -> str:
        return " ".join(one.phase for one in self.host.healths())

    def health(self, name: str) -> ModelHealth:
        return next(one for one in self.host.healths() if one.model == name)

    def error(self, number: int) -> Exception:
        event = self.events[number]
        assert isinstance(event, Failed)
        return event.error


def test_a_model_is_loaded_by_its_first_call() -> None:
    """Calls that come meanwhile share the load, and all are answered."""
    stage = Stage()
    stage.ask("a", 1)
    stage.host.look()
    stage.ask("a", 2)
    loading = stage.health("a")
    stage.settle()
    stage.answer("a")
    stage.answer("a")

    assert (loading.phase, loading.status.n_waiting) == ("loading", 2)
    assert stage.loader.loads == ["a"]
    assert stage.phases() == "ready unloaded unloaded"
    assert all(isinstance(event, Finished) for event in stage.events.values())
    assert len(stage.events) == 2


def test_models_of_the_start_are_loaded_without_a_call() -> None:
    """As many as may be; the rest waits to be asked."""
    stage = Stage(max_loaded=2, load="start")
    stage.settle()

    assert stage.phases() == "ready ready unloaded"
    assert stage.host.wait_started() is None


def test_the_one_used_longest_ago_is_swapped_out() -> None:
    """Never more than may be loaded; the sums of its engine survive."""
    stage = Stage(max_loaded=2)
    for number, name in enumerate("abac"):
        stage.clock.time += 1
        stage.ask(name, number)
        stage.settle()
        stage.answer(name)
    stage.settle()

    assert stage.phases() == "ready unloaded ready"
    assert stage.loader.most == 2
    assert stage.health("b").status.n_served == 1
    assert stage.health("b").status.counts == {"prompt_tokens": 7.0}
    stage.ask("b", 9)
    stage.settle()
    stage.answer("b")
    assert (stage.health("b").status.n_served, stage.health("b").n_loads) == (2, 2)
    assert stage.health("b").status.counts == {"prompt_tokens": 14.0}


def test_a_busy_model_is_not_swapped_out() -> None:
    """Who waits for its place waits until it has answered; after its turn new requests for it wait too."""
    stage = Stage()
    stage.ask("a", 1)
    stage.settle()
    stage.ask("b", 2)
    stage.settle()
    stage.ask("a", 3)
    in_turn = len(stage.loader.loaded["a"].engine.jobs)
    stage.clock.time += 1
    stage.settle()
    stage.ask("a", 4)
    after_turn = len(stage.loader.loaded["a"].engine.jobs)
    stage.answer("a")
    stage.answer("a")
    stage.settle()

    assert (in_turn, after_turn) == (2, 2)
    assert stage.phases() == "unloaded ready unloaded"
    stage.answer("b")
    stage.settle()
    stage.answer("a")
    assert sorted(stage.events) == [1, 2, 3, 4]


def test_a_model_gets_new_requests_again_when_nobody_waits_any_more() -> None:
    """The caller for whom it should have left has gone."""
    stage = Stage()
    stage.ask("a", 1)
    stage.settle()
    stage.clock.time += 1
    other = stage.ask("b", 2)
    stage.settle()
    stage.ask("a", 3)
    other.cancel()
    stage.settle()

    assert len(stage.loader.loaded["a"].engine.jobs) == 2
    assert stage.loader.loads == ["a"]


def test_two_models_under_load_take_turns() -> None:
    """A turn serves all that had waited, so swaps are few; and each request is answered."""
    stage, pick = Stage(), random.Random(1)
    for number in range(200):
        stage.ask(pick.choice("ab"), number)
        stage.clock.time += 0.02
        stage.settle()
        for one in stage.loader.loaded.values():
            if len(one.engine.jobs) > 3 or (one.engine.jobs and number % 2):
                one.engine.answer()
    while len(stage.events) < 200:
        stage.settle()
        for one in stage.loader.loaded.values():
            while one.engine.jobs:
                one.engine.answer()

    assert all(isinstance(event, Finished) for event in stage.events.values())
    assert stage.loader.most == 1
    assert len(stage.loader.loads) <= 20


def test_who_waits_too_long_is_told_when_to_come_again() -> None:
    """Also while another model is being loaded; a deadline counts too."""
    stage = Stage(max_wait_s=5.0)
    stage.ask("a", 1)
    hurry = parse_chat({"messages": [{"role": "user", "content": "hi"}], "echo_service": {"deadline_s": 2.0}})
    stage.ask("a", 2, hurry)
    stage.host.look()
    stage.clock.time += 2
    stage.host.look()
    hurried = list(stage.events)
    stage.clock.time += 3
    stage.host.look()
    error = stage.error(1)

    assert hurried == [2]
    assert isinstance(stage.error(2), Overloaded)
    assert isinstance(error, ModelUnavailable)
    assert error.retry_after_s == 1.0
    stage.settle()
    assert stage.phases() == "ready unloaded unloaded"


def test_a_failed_load_is_explained_and_tried_again_later() -> None:
    """Those who wait hear the reason; the pause grows; then a call tries again."""
    stage = Stage(errors={"a": ["no such file", "still none"]})
    stage.ask("a", 1)
    stage.settle()
    with pytest.raises(ModelUnavailable, match="no such file") as first:
        stage.ask("a", 2)
    stage.clock.time += 1.0
    stage.ask("a", 3)
    stage.settle()
    with pytest.raises(ModelUnavailable, match="still none") as second:
        stage.ask("a", 4)
    stage.clock.time += 2.0
    stage.ask("a", 5)
    stage.settle()

    assert "no such file" in str(stage.error(1))
    assert (first.value.retry_after_s, second.value.retry_after_s) == (1.0, 2.0)
    assert (stage.health("a").phase, stage.health("a").error) == ("ready", None)
    assert stage.health("a").status.counts["unavailable"] == 4


def test_a_model_of_the_start_is_tried_again_by_itself() -> None:
    """Nobody has to call for it."""
    stage = Stage(max_loaded=3, load="start", errors={"b": ["not yet"]})
    stage.settle()
    first = stage.phases()
    stage.clock.time += 1.0
    stage.settle()

    assert first == "ready failed ready"
    assert stage.phases() == "ready ready ready"


def test_a_process_without_any_model_says_why() -> None:
    """Then its supervisor cares for it."""
    stage = Stage(max_loaded=3, load="start", errors={name: [f"{name} is broken"] for name in "abc"})
    stage.settle()

    assert stage.host.wait_started() == "a is broken; b is broken; c is broken"


def test_a_model_that_nobody_needs_leaves_the_memory() -> None:
    """After its time, but never while it answers."""
    stage = Stage(unload_after_s=10.0)
    stage.ask("a", 1)
    stage.settle()
    stage.clock.time += 50
    stage.settle()
    while_busy = stage.phases()
    stage.answer("a")
    stage.clock.time += 9.9
    stage.settle()
    too_early = stage.phases()
    stage.clock.time += 0.1
    stage.settle()

    assert (while_busy, too_early) == ("ready unloaded unloaded",) * 2
    assert stage.phases() == "unloaded unloaded unloaded"
    assert stage.loader.loaded["a"].engine.is_closed


def test_nobody_loads_a_model_for_a_caller_that_has_gone() -> None:
    """Nor does it hold a place among those who wait."""
    stage = Stage(max_queue=0, n_parallel=1)
    stage.ask("a", 1).cancel()
    stage.ask("a", 2).cancel()
    stage.settle()

    assert stage.loader.loads == []
    assert stage.events == {}


def test_a_request_can_be_cancelled_after_it_was_handed_on() -> None:
    """The engine hears of it."""
    stage = Stage()
    job = stage.ask("a", 1)
    stage.settle()
    engine = stage.loader.loaded["a"].engine
    job.cancel()

    assert engine.status().n_running == 0


def test_a_request_that_is_cancelled_while_it_is_handed_on_ends() -> None:
    """Its caller goes away just when the engine takes it: the engine hears of it all the same."""
    engine = HeldEngine()
    job = WaitingJob(REQUEST, lambda event: None, 0.0, 1.0)
    engine.on_submit = job.cancel
    failed = job.hand_on(engine)

    assert failed is None
    assert engine.status().n_running == 0


def test_as_many_wait_for_a_load_as_for_an_engine() -> None:
    """Those that it would take and those that may queue; one more is told to come again."""
    stage = Stage(max_queue=1, n_parallel=1)
    stage.ask("a", 1)
    stage.ask("a", 2)

    with pytest.raises(Overloaded, match="at most 2 requests"):
        stage.ask("a", 3)
    assert stage.health("a").status.counts == {"refused": 1}


def test_what_the_engine_refuses_is_told() -> None:
    """Those who waited hear it as an event, the others at once."""
    stage = Stage()
    stage.loader.engine_error = Overloaded("full", 3.0)
    stage.ask("a", 1)
    stage.settle()

    assert isinstance(stage.error(1), Overloaded)
    with pytest.raises(Overloaded, match="full"):
        stage.ask("a", 2)


def test_what_nobody_foresaw_fails_one_request_only() -> None:
    """Whether it waited for the model or not; the model and its host go on."""
    stage = Stage()
    stage.loader.engine_error = ZeroDivisionError("of a template")
    stage.ask("a", 1)
    stage.settle()
    with pytest.raises(RuntimeError, match="ZeroDivisionError: of a template"):
        stage.ask("a", 2)
    stage.loader.loaded["a"].engine.error = None
    stage.ask("a", 3)
    stage.answer("a")

    assert str(stage.error(1)) == "ZeroDivisionError: of a template"
    assert isinstance(stage.events[3], Finished)


def test_its_words_stay_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """An error may quote the prompt; the log tells where it happened."""
    stage = Stage()
    stage.loader.engine_error = ValueError("my secret")
    stage.ask("a", 1)
    stage.settle()

    assert "ValueError in " in caplog.text
    assert "secret" not in caplog.text


def test_a_deadline_counts_from_the_arrival() -> None:
    """The engine hears when the request came, not when the model was there."""
    stage = Stage()
    stage.ask("a", 1)
    stage.clock.time += 7
    stage.settle()
    stage.ask("a", 2)
    stage.host.submit("a", REQUEST, lambda event: None, 90.0)

    assert stage.loader.loaded["a"].engine.arrivals == [100.0, 107.0, 90.0]


def test_a_deadline_that_ends_while_loading_is_told_as_such() -> None:
    """The model did not come too late for others."""
    stage = Stage(max_wait_s=5.0)
    hurry = parse_chat({"messages": [{"role": "user", "content": "hi"}], "echo_service": {"deadline_s": 2.0}})
    stage.ask("a", 1, hurry)
    stage.host.look()
    stage.clock.time += 2
    stage.host.look()

    assert isinstance(stage.error(1), Overloaded)
    assert "its deadline can no longer be met after 2.0 s" in str(stage.error(1))


def test_the_host_is_free_while_a_prompt_is_read() -> None:
    """A long prompt takes long to become tokens: meanwhile others ask, and the model stays."""
    stage, seen = Stage(unload_after_s=1.0), list[object]()
    stage.ask("a", 1)
    stage.settle()
    stage.answer("a")
    stage.clock.time += 5
    engine = stage.loader.loaded["a"].engine

    def look_from_elsewhere() -> None:
        engine.on_submit = lambda: None
        for see in (stage.host.healths, stage.host.look, lambda: stage.host.submit("b", REQUEST, lambda event: None)):
            thread = threading.Thread(target=see, daemon=True)
            thread.start()
            thread.join(5)
            seen.append(thread.is_alive())
        seen.append(stage.host.unload("a"))

    engine.on_submit = look_from_elsewhere
    stage.ask("a", 2)

    assert seen == [False, False, False, False]
    assert not engine.is_closed
    stage.answer("a")


def test_an_operator_loads_and_unloads() -> None:
    """A busy model stays; a wish of an operator pushes out what has nothing to do."""
    stage = Stage()
    stage.host.load("a")
    stage.settle()
    stage.ask("a", 1)
    is_unloaded = stage.host.unload("a")
    stage.answer("a")
    stage.host.load("b")
    stage.settle()
    swapped = stage.phases()

    assert not is_unloaded
    assert swapped == "unloaded ready unloaded"
    assert stage.host.unload("b")
    stage.settle()
    assert stage.phases() == "unloaded unloaded unloaded"


def test_an_operator_does_not_wait_for_the_pause() -> None:
    """What was wrong is repaired: the model is tried at once."""
    stage = Stage(errors={"a": ["no such file"]})
    stage.host.load("a")
    stage.settle()
    failed = stage.phases()
    stage.host.load("a")
    stage.settle()

    assert failed == "failed unloaded unloaded"
    assert stage.phases() == "ready unloaded unloaded"


def test_a_closed_host_loads_nothing_more() -> None:
    """What was being loaded meanwhile is closed when it comes."""
    stage = Stage()
    stage.host.load("a")
    stage.host.look()
    stage.host.close()
    stage.host.load("b")
    stage.settle()

    assert stage.loader.loads == ["a"]
    assert stage.loader.loaded["a"].engine.is_closed


def test_threads_carry_a_host() -> None:
    """With its own thread and clock a call loads the model, and one that waits for its place is served after it."""
    arrived = {name: threading.Event() for name in "ab"}
    loader = FakeLoader()
    host = ModelHost([LocalModel(name, LocalModelOptions(path="/x", load="first_call")) for name in "ab"], loader, 1)
    host.start()
    for name, event in arrived.items():
        host.submit(name, REQUEST, lambda _, event=event: event.set())  # type: ignore[misc]
        while not (loader.loaded and loader.loaded["a"].engine.jobs):
            assert not event.wait(0.01)
    assert not arrived["b"].wait(0.1)  # longer than the host needs to see that a is busy
    loader.loaded["a"].engine.answer()
    while not ("b" in loader.loaded and loader.loaded["b"].engine.jobs):
        assert not arrived["b"].wait(0.01)
    loader.loaded["b"].engine.answer()
    host.close()

    assert all(event.wait(10) for event in arrived.values())
    assert all(one.engine.is_closed for one in loader.loaded.values())


def test_nobody_is_forgotten_when_many_threads_ask_for_three_models_in_one_place() -> None:
    """All are answered, though each of them may have to wait for the others' turns."""
    n_requests, answered = 120, threading.Semaphore(0)
    models = [LocalModel(name, LocalModelOptions(path="/x", load="first_call")) for name in "abc"]
    host = ModelHost(models, lambda model: LoadedParrot(ParrotEngine(lambda: None)), 1)
    host.start()

    def deliver(event: Event) -> None:
        assert isinstance(event, Finished)
        answered.release()

    def ask(first: int) -> None:
        for number in range(first, n_requests, 4):
            host.submit("abc"[number % 3], REQUEST, deliver)

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()

    assert all(answered.acquire(timeout=60) for _ in range(n_requests))
    assert sum(one.status.n_served for one in host.healths()) == n_requests
    host.close()
