"""How does a local model speak OpenAI's language? An ASGI app over an Engine, for loopback only."""

import asyncio
import hmac
import json
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive

from echo_proxy.engine.chat import ChatRejected, ChatRequest, parse_chat
from echo_proxy.local.engine import Engine, Event, Failed, Finished, Job, Piece, QueueFull

_RETRY_AFTER_S = 1
_DISCONNECTED = Response(status_code=499)
"""Nobody reads it: the client has gone."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What the app tells about its model."""

    name: str
    n_ctx: int
    """Tokens of context."""


class Mailbox:
    """Events on their way from the engine's thread to the event loop.

    The loop is woken for the first event only; what arrives before it looks comes along in the same waking.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()

    def put(self, event: Event) -> None:
        """Called by the engine's thread."""
        self._events.append(event)
        if len(self._events) == 1:
            self._loop.call_soon_threadsafe(self._arrived.set)

    async def take(self) -> list[Event]:
        """All that has arrived; at least one."""
        await self._arrived.wait()
        self._arrived.clear()
        taken: list[Event] = []
        # Popping one by one: `put` sees the queue empty only after the last was taken, and then wakes us again.
        while self._events:
            taken.append(self._events.popleft())
        return taken or await self.take()


def build_server(model: ServedModel, engine: Engine, token: str) -> Starlette:
    """The app. Every call needs the token: other users of the machine can reach loopback ports too."""
    endpoints = _Endpoints(model, engine)

    def guard(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        expected = f"Bearer {token}".encode()

        async def guarded(request: Request) -> Response:
            given = request.headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, expected):
                return _error(401, "expected the bearer token of this process", "invalid_api_key")
            return await endpoint(request)

        return guarded

    return Starlette(
        routes=[
            Route("/v1/chat/completions", guard(endpoints.chat), methods=["POST"]),
            Route("/v1/models", guard(endpoints.models)),
            Route("/health", guard(endpoints.health)),
        ]
    )


class _Endpoints:
    def __init__(self, model: ServedModel, engine: Engine) -> None:
        self._model = model
        self._engine = engine

    async def models(self, _: Request) -> Response:
        one = {"id": self._model.name, "object": "model", "created": 0, "owned_by": "local"}
        return JSONResponse({"object": "list", "data": [one]})

    async def health(self, _: Request) -> Response:
        status = self._engine.status()
        return JSONResponse(
            {
                "model": self._model.name,
                "n_ctx": self._model.n_ctx,
                "n_served": status.n_served,
                "n_waiting": status.n_waiting,
                "n_running": status.n_running,
            }
        )

    async def chat(self, request: Request) -> Response:
        try:
            chat = parse_chat(json.loads(await request.body()))
        except ValueError as error:
            return _error(400, f"expected a JSON body, got: {error}")
        except ChatRejected as error:
            return _rejected(error)
        except ClientDisconnect:
            return _DISCONNECTED
        mailbox = Mailbox()
        try:
            job = self._engine.submit(chat, mailbox.put)
        except QueueFull as error:
            return _error(429, str(error), "queue_full", headers={"Retry-After": str(_RETRY_AFTER_S)})
        return await self._reply(request, chat, job, mailbox)

    async def _reply(self, request: Request, chat: ChatRequest, job: Job, mailbox: Mailbox) -> Response:
        """The answer, or the beginning of it. The job is cancelled when the caller goes away first."""
        is_handed_on = False
        try:
            events = await _unless_disconnected(mailbox.take(), request.receive)
            if events is None:
                return _DISCONNECTED
            first = events[0]
            if isinstance(first, Failed):
                return _failed(first)
            if chat.is_streamed:
                is_handed_on = True
                body = _stream(self._model.name, chat, job, mailbox, events)
                return StreamingResponse(body, media_type="text/event-stream")
            if isinstance(first, Finished):
                return _json(_completion(self._model.name, first))
            return _error(500, f"expected the end of an answer, got {type(first).__name__}")
        finally:
            if not is_handed_on:
                job.cancel()


async def _unless_disconnected(work: Awaitable[list[Event]], receive: Receive) -> list[Event] | None:
    """The work's result, or None when the client went away first."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        watching.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _stream(
    name: str, chat: ChatRequest, job: Job, mailbox: Mailbox, events: list[Event]
) -> AsyncIterator[bytes]:
    """Server-sent events; Starlette closes this iterator when the client goes away."""
    head = {"id": _new_id(), "object": "chat.completion.chunk", "created": int(time.time()), "model": name}
    delta: dict[str, str] = {"role": "assistant"}
    try:
        while True:
            text = "".join(event.text for event in events if isinstance(event, Piece))
            if text:
                yield _event({**head, "choices": [_choice({**delta, "content": text}, None)]})
                delta = {}
            last = events[-1]
            if isinstance(last, Failed):
                # The status line has gone out; an error event is how OpenAI's clients learn of it.
                yield _event({"error": {"message": str(last.error), "type": "server_error", "code": "engine_failed"}})
                return
            if isinstance(last, Finished):
                yield _event({**head, "choices": [_choice(delta, last.reason)]})
                if chat.wants_usage:
                    yield _event({**head, "choices": [], "usage": _usage(last)})
                yield b"data: [DONE]\n\n"
                return
            events = await mailbox.take()
    finally:
        job.cancel()


def _event(content: object) -> bytes:
    return b"data: " + _dump(content) + b"\n\n"


def _choice(delta: dict[str, str], reason: str | None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}


def _completion(name: str, answer: Finished) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer.text}
    return {
        "id": _new_id(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": name,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": answer.reason}],
        "usage": _usage(answer),
    }


def _usage(answer: Finished) -> dict[str, int]:
    return {
        "prompt_tokens": answer.n_prompt_tokens,
        "completion_tokens": answer.n_completion_tokens,
        "total_tokens": answer.n_prompt_tokens + answer.n_completion_tokens,
    }


def _new_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"


def _failed(event: Failed) -> Response:
    if isinstance(event.error, ChatRejected):
        return _rejected(event.error)
    return _error(500, f"llama.cpp failed: {event.error}", "engine_failed")


def _rejected(error: ChatRejected) -> Response:
    return _error(400, str(error), error.code, error.field)


def _error(
    status: int, message: str, code: str = "invalid_request_error", field: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:  # fmt: skip
    kind = "invalid_request_error" if status < 500 else "server_error"
    content = {"error": {"message": message, "type": kind, "param": field, "code": code}}
    return JSONResponse(content, status, headers)


def _json(content: object) -> Response:
    return Response(_dump(content), media_type="application/json")


def _dump(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
