import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from echo_proxy.local.client import Call, LocalClient, LocalModelAway, LocalModelRefusal, LocalModelTimeout
from echo_proxy.local.fleet import Fleet
from echo_proxy.local.health import ModelHealth
from echo_proxy.local.options import LocalModel
from echo_proxy.local.watch import LoadWatch, ModelLoad
from tests.fakes import FrozenClock
from tests.local.children import ready_state, small_model
from tests.local.parrot_child import COMMAND

MODELS = [
    small_model("red", process="both"),
    small_model("blue", process="both"),
    small_model("broken", process="both", load="first_call"),
    small_model("lazy", load="first_call"),
    small_model("broken-alone", max_wait_s=20.0),
]
RED, BLUE, BROKEN, LAZY, ALONE = MODELS


@pytest.fixture
def fleet(tmp_path: Path) -> Any:
    """Three processes of models that repeat what they hear."""
    one = Fleet(tmp_path, COMMAND)
    one.warm_up(MODELS)
    yield one
    one.shutdown()


@pytest_asyncio.fixture
async def client() -> AsyncIterator[LocalClient]:
    """Its connections are closed afterwards."""
    one = LocalClient()
    yield one
    one.close()
    await one.aclose()


def _call(fleet: Fleet, model: LocalModel, text: str, timeout_s: float = 30.0, *, is_streamed: bool = False) -> Call:
    body = {"model": model.name, "messages": [{"role": "user", "content": text}], "stream": is_streamed}
    return Call(fleet.ensure(model), json.dumps(body).encode(), httpx.Timeout(timeout_s), model)


async def test_models_of_one_process_are_asked_by_name(fleet: Fleet, client: LocalClient) -> None:
    """Whole and streamed, with and without an event loop; a lazy process comes with its first call."""
    answers = [await client.ask(_call(fleet, model, "hello")) for model in (RED, BLUE, LAZY)]
    chunks = [one async for one in client.stream(_call(fleet, BLUE, "hello you", is_streamed=True))]
    sync = await asyncio.to_thread(client.ask_sync, _call(fleet, RED, "hello"))
    sync_chunks = await asyncio.to_thread(
        lambda: list(client.stream_sync(_call(fleet, RED, "hello you", is_streamed=True)))
    )

    assert [one["model"] for one in answers] == ["red", "blue", "lazy"]
    assert sync["choices"] == answers[0]["choices"]
    for told in (chunks, sync_chunks):
        assert "".join(one["choices"][0]["delta"].get("content", "") for one in told) == "hello you "


async def test_a_crash_is_told_at_once_to_those_who_wait(fleet: Fleet, client: LocalClient) -> None:
    """All models of the process lose their requests; the next ones are served by its successor."""
    first = ready_state(fleet.ensure(RED))
    stream = client.stream(_call(fleet, BLUE, "endless", is_streamed=True))
    await anext(stream)
    waiting = asyncio.ensure_future(client.ask(_call(fleet, BLUE, "endless")))
    with pytest.raises(LocalModelAway, match="local model red ended in the middle"):
        await client.ask(_call(fleet, RED, "crash"))
    with pytest.raises(LocalModelAway):
        await waiting
    with pytest.raises(LocalModelAway):
        await anext(stream)

    assert (await client.ask(_call(fleet, RED, "hello")))["model"] == "red"
    assert ready_state(fleet.ensure(RED)).token != first.token


async def test_refusals_carry_their_status_and_pause(fleet: Fleet, client: LocalClient) -> None:
    """A model that cannot be loaded says when to come again; one without a process says why."""
    with pytest.raises(LocalModelRefusal, match="it is broken") as refused:
        await client.ask(_call(fleet, BROKEN, "hello"))
    with pytest.raises(LocalModelRefusal, match="no more") as late:
        _ = [one async for one in client.stream(_call(fleet, RED, "broken", is_streamed=True))]
    with pytest.raises(LocalModelRefusal, match="pushed out") as pushed_out:
        _ = [one async for one in client.stream(_call(fleet, RED, "full", is_streamed=True))]
    with pytest.raises(LocalModelAway, match=r"could not be started: .*it is broken"):
        await client.ask(_call(fleet, ALONE, "hello"))

    assert (refused.value.status, refused.value.code) == (503, "model_unavailable")
    assert int(refused.value.retry_after or 0) >= 1
    assert (late.value.status, late.value.code) == (500, "engine_failed")
    assert (pushed_out.value.status, pushed_out.value.retry_after) == (429, "2")


async def test_an_answer_that_takes_too_long_is_given_up(fleet: Fleet, client: LocalClient) -> None:
    """The caller's timeout counts."""
    ready_state(fleet.ensure(RED))

    with pytest.raises(LocalModelTimeout, match=r"red did not answer within 0\.2 s"):
        await client.ask(_call(fleet, RED, "endless", timeout_s=0.2))


async def test_the_watch_sees_queues_once_a_second(fleet: Fleet, client: LocalClient) -> None:
    """Only of processes that are there; the fleet tells it on, and nothing is asked twice within a second."""
    clock = FrozenClock()
    watch = LoadWatch(fleet, clock.monotonic)
    ready_state(fleet.ensure(RED))
    idle = await watch.queue_lengths()
    stream = client.stream(_call(fleet, RED, "endless", is_streamed=True))
    await anext(stream)
    same = await watch.queue_lengths()
    clock.time += 1.0
    busy = await watch.queue_lengths()
    statuses = {one.name: one for one in fleet.status()}
    await stream.aclose()
    await watch.aclose()

    assert set(idle) == {"red", "blue", "broken"}
    assert same == idle
    assert busy["red"] == ModelLoad(n_waiting=0, n_running=1, wait_s=0.5, service_s=0.25)
    assert (statuses["red"].phase, statuses["red"].n_running, statuses["red"].n_ctx) == ("ready", 1, 64)
    assert (statuses["broken"].phase, statuses["lazy"].phase) == ("unloaded", "unloaded")
    assert statuses["red"].counts == {"prompt_tokens": 0}


async def test_the_watch_forgets_a_process_that_is_gone(fleet: Fleet) -> None:
    """It raises nothing, and no old number is told."""
    clock = FrozenClock()
    watch = LoadWatch(fleet, clock.monotonic)
    ready_state(fleet.ensure(RED))
    there = await watch.queue_lengths()
    await asyncio.to_thread(fleet.shutdown)
    clock.time += 1.0
    gone = await watch.queue_lengths()
    await watch.aclose()

    assert "red" in there
    assert gone == {}


async def test_a_process_that_is_too_busy_to_say_is_as_busy_as_before(fleet: Fleet) -> None:
    """Its last word stays, or else traffic would go where the queue is longest."""
    answers = [httpx.Response(200, json={"models": [ModelHealth("red", "ready").to_json()]})]

    def answer(request: httpx.Request) -> httpx.Response:
        if not answers:
            raise httpx.ReadTimeout("too slow")
        return answers.pop()

    clock = FrozenClock()
    watch = LoadWatch(fleet, clock.monotonic, httpx.MockTransport(answer))
    ready_state(fleet.ensure(RED))
    first = await watch.queue_lengths()
    clock.time += 1.0
    second = await watch.queue_lengths()
    await watch.aclose()

    assert first == second == {"red": ModelLoad(0, 0, 0.0, 0.0)}
    assert answers == []
