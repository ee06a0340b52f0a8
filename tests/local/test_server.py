import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from echo_proxy.engine.work import Event, Failed, Finished, Overloaded, Piece
from echo_proxy.local.host import ModelHost
from echo_proxy.local.server import build_server, max_body
from tests.local.children import TOKEN, running_group, small_model, wait_for
from tests.local.engines import USAGE, FakeLoader
from tests.local.parrot_child import COMMAND

HELLO: dict[str, Any] = {"model": "red", "messages": [{"role": "user", "content": "say it again"}]}


def _saying(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "red", "messages": [{"role": "user", "content": text}], **more}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A process with two models that are there, one that comes with its first call, and one that never does."""
    models = [
        small_model("red"),
        small_model("blue"),
        small_model("late", load="first_call"),
        small_model("broken", load="first_call"),
    ]
    with running_group(tmp_path_factory.mktemp("child") / "log", *models, command=COMMAND) as http:
        yield http


def _ask(client: httpx.Client, body: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json=body)


def _chunks(client: httpx.Client, **body: Any) -> list[dict[str, Any]]:
    with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def _error(response: httpx.Response) -> tuple[int, str | None, str]:
    error = response.json()["error"]
    return response.status_code, error["param"], error["code"]


def _health(client: httpx.Client, model: str) -> dict[str, Any]:
    return next(one for one in client.get("/health").json()["models"] if one["model"] == model)


def _is_idle(client: httpx.Client) -> bool:
    return bool(client.get("/health").json()["n_running"] == 0)


def test_the_named_model_answers(client: httpx.Client) -> None:
    """Text, reason, counts and the model's own name come back."""
    answer = _ask(client, {**HELLO, "model": "blue"}).json()

    assert answer["model"] == "blue"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "say it again "},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["total_tokens"]) == (3, 6)


def test_an_unknown_model_is_not_found(client: httpx.Client) -> None:
    """The error says which there are; with several, none is meant by saying nothing."""
    unknown = _ask(client, {**HELLO, "model": "green"})

    assert _error(unknown) == (404, "model", "model_not_found")
    assert "expected one of red, blue, late, broken, got 'green'" in unknown.text
    assert _error(_ask(client, {"messages": HELLO["messages"]}))[0] == 404


def test_the_only_model_needs_no_name(tmp_path: Path) -> None:
    """A process with one model answers for it."""
    with running_group(tmp_path / "log", small_model("red"), command=COMMAND) as http:
        answer = _ask(http, {"messages": HELLO["messages"]}).json()

    assert answer["model"] == "red"


def test_a_model_comes_with_its_first_call(client: httpx.Client) -> None:
    """Before, it is not in memory."""
    before = _health(client, "late")["phase"]
    answer = _ask(client, {**HELLO, "model": "late"})

    assert before == "unloaded"
    assert answer.status_code == 200
    assert (_health(client, "late")["phase"], _health(client, "late")["n_loads"]) == ("ready", 1)


def test_a_model_that_cannot_be_loaded_harms_no_other(client: httpx.Client) -> None:
    """Its callers learn why and when to come again."""
    response = _ask(client, {**HELLO, "model": "broken"})

    assert _error(response) == (503, None, "model_unavailable")
    assert "it is broken" in response.text
    assert int(response.headers["retry-after"]) >= 1
    assert _ask(client, HELLO).status_code == 200
    assert "it is broken" in _health(client, "broken")["error"]


def test_streamed_answer_equals_the_whole_one(client: httpx.Client) -> None:
    """Pieces add up to the answer, under one id, with one role, one reason and the counts at the end."""
    whole = _ask(client, HELLO).json()
    chunks = _chunks(client, **HELLO, stream_options={"include_usage": True})
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]

    assert "".join(delta.get("content", "") for delta in deltas) == whole["choices"][0]["message"]["content"]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert [delta.get("role") for delta in deltas].count("assistant") == 1
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]][-1] == "stop"
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], whole["usage"])
    assert "decode_s" in chunks[-2]["echo"]
    assert not any("usage" in chunk for chunk in _chunks(client, **HELLO))


def test_logprobs_are_told_in_both_forms(client: httpx.Client) -> None:
    """Each token once, with its bytes and rivals; what is impossible has a number that JSON knows."""
    asked = {**HELLO, "logprobs": True, "top_logprobs": 1}
    whole = _ask(client, asked).json()["choices"][0]["logprobs"]["content"]
    told = [chunk["choices"][0]["logprobs"] for chunk in _chunks(client, **asked)]

    assert [one["token"] for one in whole] == ["say ", "it ", "again "]
    assert whole[1] == {
        "token": "it ",
        "logprob": -0.5,
        "bytes": list(b"it "),
        "top_logprobs": [{"token": "x", "logprob": -9999.0, "bytes": list(b"x")}],
    }
    assert [one for logprobs in told if logprobs for one in logprobs["content"]] == whole


def test_an_error_in_a_stream_is_an_event(client: httpx.Client) -> None:
    """The status line has gone out, so the last event says it."""
    with client.stream("POST", "/v1/chat/completions", json=_saying("broken", stream=True)) as response:
        lines = [line for line in response.iter_lines() if line]

    assert response.status_code == 200
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "engine_failed"


def test_bad_bodies_are_refused_by_name(client: httpx.Client) -> None:
    """No JSON, no object, no known field."""
    assert client.post("/v1/chat/completions", content=b"{").status_code == 400
    assert client.post("/v1/chat/completions", content=b"[" * 100_000).status_code == 400
    assert _ask(client, [1]).status_code == 404
    assert _error(_ask(client, {**HELLO, "tools": [{}]})) == (400, "tools", "invalid_request_error")
    assert client.get("/v1/chat/completions").status_code == 404


def test_a_body_that_no_prompt_needs_is_refused(client: httpx.Client) -> None:
    """Whether its length is told before or not; the code is that of a prompt that is too long, and others go on."""
    body = json.dumps(_saying("x" * 5_000_000)).encode()
    told = client.post("/v1/chat/completions", content=body)
    untold = client.post("/v1/chat/completions", content=iter([body[:3_000_000], body[3_000_000:]]))

    assert _error(told) == _error(untold) == (413, None, "context_length_exceeded")
    assert f"at most 4,194,304 bytes, which no prompt for these models needs, got {len(body):,}" in told.text
    assert untold.json()["error"]["message"].endswith("got more")
    assert client.post("/load", content=body).status_code == 413
    assert _ask(client, HELLO).status_code == 200


def test_a_longer_context_takes_longer_bodies() -> None:
    """The largest of the process counts."""
    assert max_body([small_model(n_ctx=512)]) == 4 * 2**20
    assert max_body([small_model(), small_model("b", n_ctx=100_000)]) == 64 * 100_000 + 2**20


def test_half_an_emoji_is_no_error(client: httpx.Client) -> None:
    """A caller's text may be cut anywhere; it says so with an escape, which JSON allows."""
    for body in (_saying("cut \ud83d"), _saying("cut \ud83d" + "x" * 40_000), _saying("hi", stop=["\ud83d"])):
        response = client.post("/v1/chat/completions", content=json.dumps(body))

        assert response.status_code == 200
    unknown = client.post("/v1/chat/completions", content=json.dumps({**HELLO, "\ud83d": 1}))
    assert _error(unknown) == (400, "\ufffd", "invalid_request_error")


def test_calls_without_the_token_are_refused(client: httpx.Client) -> None:
    """Other users of the machine reach the port too."""
    for path in ("/health", "/metrics", "/v1/models", "/nowhere"):
        for given in ("", "Bearer wrong", f"Bearer {TOKEN}x"):
            assert client.get(path, headers={"Authorization": given}).status_code == 401
    assert client.post("/unload", headers={"Authorization": ""}, json={"model": "red"}).status_code == 401


def test_clients_that_go_away_free_the_model(client: httpx.Client) -> None:
    """An answer without end stops when nobody reads it, streamed or not, and is not waited for to begin."""
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=_saying("endless"), timeout=0.2)
    wait_for(lambda: _is_idle(client), timeout_s=15)
    with client.stream("POST", "/v1/chat/completions", json=_saying("endless", stream=True)) as response:
        assert next(response.iter_lines()).startswith("data: ")
    wait_for(lambda: _is_idle(client), timeout_s=15)

    assert _ask(client, HELLO).status_code == 200


def test_an_operator_loads_and_unloads(client: httpx.Client) -> None:
    """What is unloaded comes back when it is asked, or when it is told to."""
    assert client.post("/unload", json={"model": "blue"}).status_code == 202
    assert wait_for(lambda: _health(client, "blue")["phase"] == "unloaded")
    assert client.post("/load", json={"model": "blue"}).status_code == 202
    assert wait_for(lambda: _health(client, "blue")["phase"] == "ready")
    assert _error(client.post("/load", json={"model": "green"})) == (404, "model", "model_not_found")
    with client.stream("POST", "/v1/chat/completions", json=_saying("endless", stream=True)) as response:
        lines = response.iter_lines()  # kept: without it the response would be closed at once
        next(lines)
        assert _error(client.post("/unload", json={"model": "red"})) == (409, "model", "model_busy")


def test_the_process_describes_its_models(client: httpx.Client) -> None:
    """For operators and for Prometheus."""
    wait_for(lambda: _is_idle(client))
    before = _health(client, "red")
    _ask(client, HELLO)
    wait_for(lambda: _is_idle(client))
    lines = client.get("/metrics").text.splitlines()
    n_served = before["n_served"] + 1

    assert (before["n_ctx"], before["wait_s"], before["service_s"]) == (64, 0.5, 0.25)
    assert _health(client, "red")["n_served"] == n_served
    assert [one["id"] for one in client.get("/v1/models").json()["data"]] == ["red", "blue", "late", "broken"]
    assert f'echo_local_requests_total{{model="red"}} {n_served}' in lines
    assert f'echo_local_prompt_tokens_total{{model="red"}} {n_served}' in lines
    assert 'echo_local_queue_depth{model="blue"} 0' in lines
    assert 'echo_local_busy_seconds{model="red"} 0' in lines
    assert before["busy_s"] == 0
    assert lines.count("# TYPE echo_local_requests_total counter") == 1


# ---------------------------------------------------------------------- without a process


class Caller:
    """Calls the app as a server does, with an engine that the test holds."""

    def __init__(self) -> None:
        self.loader = FakeLoader()
        self.host = ModelHost([small_model("red")], self.loader, 1, spawn=lambda work: work())
        self.host.look()
        self.engine = self.loader.loaded["red"].engine
        self.app = build_server(self.host, TOKEN)
        self.sent: list[dict[str, Any]] = []

    async def ask(self, *, is_streamed: bool, events: list[Event], text: str = "say it again") -> None:
        """Send a request; the engine says the events at once."""
        task = asyncio.ensure_future(self.app(self._scope(), self._receiver(is_streamed, text), self._send))
        while not self.engine.jobs and not task.done():
            await asyncio.sleep(0)
        for event in events:
            self.engine.jobs[0].deliver(event)
        await task

    def _scope(self) -> dict[str, Any]:
        headers = [(b"authorization", f"Bearer {TOKEN}".encode())]
        return {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}

    def _receiver(self, is_streamed: bool, text: str) -> Any:
        body = json.dumps({"messages": [{"role": "user", "content": text}], "stream": is_streamed}).encode()
        messages = [{"type": "http.request", "body": body}]

        async def receive() -> Any:
            return messages.pop() if messages else await asyncio.Event().wait()

        return receive

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def error(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.sent[-1]["body"].split(b"data: ")[-1])
        return dict(told["error"])


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_full_queue_answers_429(is_streamed: bool) -> None:
    """Whether the engine says so at once or before the first piece; whole seconds, rounded up."""
    at_once, later = Caller(), Caller()
    at_once.engine.error = Overloaded("full", 1.2)
    await at_once.ask(is_streamed=is_streamed, events=[])
    await later.ask(is_streamed=is_streamed, events=[Failed(Overloaded("full", 0.0))])

    assert (at_once.status, at_once.headers[b"retry-after"], at_once.error["code"]) == (429, b"2", "queue_full")
    assert (later.status, later.headers[b"retry-after"]) == (429, b"1")


@pytest.mark.parametrize(("text", "is_beside"), [("short", False), ("long " * 10_000, True)])
async def test_a_long_prompt_is_read_beside_the_event_loop(text: str, is_beside: bool) -> None:
    """All streams share the loop, and a long prompt takes long to become tokens; a short one is not worth the way."""
    caller, seen = Caller(), list[threading.Thread]()
    caller.engine.on_submit = lambda: seen.append(threading.current_thread())
    await caller.ask(is_streamed=False, events=[Finished("ok", "stop", USAGE)], text=text)

    assert caller.status == 200
    assert [one is not threading.current_thread() for one in seen] == [is_beside]


async def test_what_nobody_foresaw_is_an_error_of_one_request() -> None:
    """The caller learns what it was."""
    caller = Caller()
    caller.engine.error = ZeroDivisionError("of a template")
    await caller.ask(is_streamed=False, events=[])

    assert (caller.status, caller.error["code"]) == (500, "engine_failed")
    assert "ZeroDivisionError: of a template" in caller.error["message"]


async def test_a_stream_that_is_pushed_out_ends_with_its_code() -> None:
    """After the first piece only an event can say it."""
    caller = Caller()
    await caller.ask(is_streamed=True, events=[Piece("a"), Failed(Overloaded("full", 2.5))])

    assert caller.status == 200
    assert (caller.error["code"], caller.error["retry_after_s"]) == ("queue_full", 3)


async def test_pieces_that_come_together_leave_as_one_chunk() -> None:
    """However fast the engine is, one write serves all that has come."""
    caller = Caller()
    await caller.ask(is_streamed=True, events=[Piece("a"), Piece("b"), Piece("c"), Failed(RuntimeError("end"))])

    assert len(caller.sent) == 2
    assert b'"content":"abc"' in caller.sent[1]["body"]
