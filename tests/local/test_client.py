import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import pytest_asyncio

from echo_proxy.engine.work import EngineStatus
from echo_proxy.errors import LocalModelError
from echo_proxy.limits.load import LoadBoard
from echo_proxy.local.client import Call, LocalClient, LocalModelAway, LocalModelRefusal, LocalModelTimeout
from echo_proxy.local.fleet import Fleet
from echo_proxy.local.groups import ModelGroup
from echo_proxy.local.health import ModelHealth
from echo_proxy.local.options import LocalModel
from echo_proxy.local.state import ModelState
from echo_proxy.local.supervisor import Supervisor
from echo_proxy.local.watch import LoadWatch, ModelLoad
from echo_proxy.types import Load
from tests.fakes import FrozenClock
from tests.local.children import ready_state, small_model, wait_for
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

    # Until then a connection may still be taken by the one that is ending.
    ready_state(fleet.ensure(RED), after=first.token)

    assert (await client.ask(_call(fleet, RED, "hello")))["model"] == "red"


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


async def test_a_process_that_hangs_keeps_its_queue_for_a_while(fleet: Fleet) -> None:
    """One that is too busy to say has its last word for as long as that holds, or else traffic would go where the queue
    is longest; however often it is asked, that word does not get younger."""
    status = EngineStatus(n_running=7)
    answers = [httpx.Response(200, json={"models": [ModelHealth("red", "ready", status=status).to_json()]})]

    def answer(request: httpx.Request) -> httpx.Response:
        if not answers:
            raise httpx.ReadTimeout("too slow")
        return answers.pop()

    clock, board = FrozenClock(), LoadBoard()
    watch = LoadWatch(fleet, clock.monotonic, httpx.MockTransport(answer))
    ready_state(fleet.ensure(RED))
    held = []
    for _ in range(12):
        told = await watch.queue_lengths()
        board.tell({name: Load(held=one.n_running) for name, one in told.items()}, clock.now())
        held.append(board.own(clock.now())["red"].held)
        clock.time += 1.0
    await watch.aclose()

    assert held == [7] * 10 + [0, 0]
    assert {one.name: one.n_running for one in fleet.status()}["red"] == 7


# ------------------------------------------------------------------ streams whose process ends

BEGUN = b'data: {"choices": [{"delta": {"content": "3"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


class Mortal:
    """A process on loopback, and its supervisor: each request gets the next answer, and with one that has no end the
    process ends; its successor has another token and is seen a little later."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.tokens: list[str] = []
        """Of the requests that came."""
        self.comes_back = True
        self.group = ModelGroup("mortal", (small_model("mortal", max_wait_s=600.0),))
        self.fingerprint = self.group.fingerprint
        self._port = 0
        self._n_deaths = 0
        self._n_looks = 0

    def state(self) -> ModelState:
        self._n_looks += 1
        n_seen = self._n_deaths if self._n_looks > 2 and self.comes_back else 0
        return ModelState("ready", self.fingerprint, port=self._port, token=f"token-{n_seen}")

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
        self.tokens.append(head.partition("bearer ")[2].partition("\r\n")[0])
        told = self.answers.pop(0)
        self._n_deaths, self._n_looks = self._n_deaths + (DONE not in told), 0
        writer.write(told)
        writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._answer, "127.0.0.1", 0) as server:
            self._port = server.sockets[0].getsockname()[1]
            yield


def _streamed(*events: bytes) -> bytes:
    """As the process sends it: in chunks, of which the empty one is the last."""
    chunks = [*events, b""] if DONE in events else events
    body = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks)
    return b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n" + body


async def _read(client: LocalClient, process: Mortal, *, is_sync: bool, timeout_s: float = 30.0) -> list[str]:
    """The texts of a stream."""
    call = Call(cast(Supervisor, process), b"{}", httpx.Timeout(timeout_s))
    async with process.running():
        if is_sync:
            chunks = await asyncio.to_thread(lambda: list(client.stream_sync(call)))
        else:
            chunks = [one async for one in client.stream(call)]
    return [one["choices"][0]["delta"]["content"] for one in chunks]


@pytest.mark.parametrize("is_sync", [False, True])
@pytest.mark.parametrize("lost", [b"", _streamed(), _streamed(BEGUN[:9])], ids=["nothing", "status", "half"])
async def test_a_stream_that_has_not_begun_comes_from_the_next_process(
    client: LocalClient, lost: bytes, is_sync: bool
) -> None:
    """Nothing was told yet; the old process is not asked again though the supervisor has not seen its end."""
    process = Mortal(lost, _streamed(BEGUN, BEGUN, DONE))

    assert await _read(client, process, is_sync=is_sync) == ["3", "3"]
    assert process.tokens == ["token-0", "token-1"]


@pytest.mark.parametrize("is_sync", [False, True])
async def test_a_stream_that_ends_two_processes_is_given_up(client: LocalClient, is_sync: bool) -> None:
    """Or else it would end them for ever."""
    process = Mortal(_streamed(), _streamed(), _streamed(BEGUN, DONE))

    with pytest.raises(LocalModelAway, match="ended in the middle"):
        await _read(client, process, is_sync=is_sync)
    assert len(process.tokens) == 2


@pytest.mark.parametrize("is_sync", [False, True])
async def test_a_stream_that_has_begun_is_not_sent_again(client: LocalClient, is_sync: bool) -> None:
    """No text comes twice."""
    process = Mortal(_streamed(BEGUN), _streamed(BEGUN, DONE))

    with pytest.raises(LocalModelAway, match="ended in the middle"):
        await _read(client, process, is_sync=is_sync)
    assert len(process.tokens) == 1


async def test_the_next_process_is_awaited_within_the_call_s_time(client: LocalClient) -> None:
    """Though the model's own limit is longer."""
    process = Mortal(_streamed(), _streamed(BEGUN, DONE))
    process.comes_back = False

    with pytest.raises(LocalModelError):
        await _read(client, process, is_sync=False, timeout_s=0.5)
    assert len(process.tokens) == 1


@pytest.mark.parametrize("is_sync", [False, True])
async def test_a_whole_answer_is_asked_for_once(client: LocalClient, is_sync: bool) -> None:
    """LiteLLM's retry asks another arm, which is there at once."""
    process = Mortal(b"", _streamed(BEGUN, DONE))
    call = Call(cast(Supervisor, process), b"{}", httpx.Timeout(30.0))

    async with process.running():
        with pytest.raises(LocalModelAway, match="ended in the middle"):
            await (asyncio.to_thread(client.ask_sync, call) if is_sync else client.ask(call))
    assert len(process.tokens) == 1


async def test_a_stream_that_crashes_its_process_does_so_twice(fleet: Fleet, client: LocalClient) -> None:
    """With real processes: the second is the last that it ends, and the third serves the others."""
    with pytest.raises(LocalModelAway, match="ended in the middle"):
        _ = [one async for one in client.stream(_call(fleet, RED, "crash", is_streamed=True))]
    third = await asyncio.to_thread(wait_for, lambda: (one := ready_state(fleet.ensure(RED))).n_restarts == 2 and one)

    assert (await client.ask(_call(fleet, BLUE, "hello")))["model"] == "blue"
    assert ready_state(fleet.ensure(BLUE)) == third
