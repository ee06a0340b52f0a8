"""How do local models speak OpenAI's language? An ASGI app over a ModelHost, for loopback only."""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from echo_proxy.engine.chat import ChatRejected, ChatRequest, parse_chat
from echo_proxy.engine.work import Event, Failed, Finished, Job, Overloaded, Piece
from echo_proxy.local.encoding import decode_json, encode_json
from echo_proxy.local.host import ModelHost
from echo_proxy.local.metrics import exposition
from echo_proxy.local.openai import ChunkWriter, Refusal, completion, event, refusal_of
from echo_proxy.local.options import LocalModel
from echo_proxy.local.wire import (
    BodyTooLong,
    ClientGone,
    HttpReply,
    Mailbox,
    begin_events,
    read_body,
    write,
    write_events,
)

_Endpoint = Callable[[Receive, Send], Awaitable[None]]
_LEAST_MAX_BODY = 4 * 2**20
_BYTES_PER_TOKEN = 64
"""No usual text has so many, also with each character escaped: a longer body does not fit into the context."""
_BYTES_BESIDE = 2**20
"""For schemas, biases and hints."""
_LONG_BODY = 32 * 2**10
"""From here on a body is read and turned into tokens beside the event loop, which all streams share. Below it that
takes about 0.2 ms (measured), less than the way to a thread and back may."""
_N_READERS = 2
"""Long bodies that are read at once; the others wait for a thread."""


def max_body(models: Iterable[LocalModel]) -> int:
    """Bytes of the longest body that the process of these models takes."""
    n_ctx = max(model.options.n_ctx or 0 for model in models)  # a default context needs less than the least
    return max(_BYTES_PER_TOKEN * n_ctx + _BYTES_BESIDE, _LEAST_MAX_BODY)


def build_server(host: ModelHost, token: str, max_body_bytes: int = _LEAST_MAX_BODY) -> ASGIApp:
    """The app. Every call needs the token: other users of the machine can reach loopback ports too."""
    return _Server(host, token, max_body_bytes)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A request on its way."""

    name: str
    """Of its model."""
    chat: ChatRequest
    job: Job


class _Server:
    def __init__(self, host: ModelHost, token: str, max_body_bytes: int) -> None:
        self._host = host
        self._expected = f"Bearer {token}".encode()
        self._max_body = max_body_bytes
        self._readers = ThreadPoolExecutor(_N_READERS, "echo-reader")
        self._endpoints: dict[tuple[str, str], _Endpoint] = {
            ("POST", "/v1/chat/completions"): self._chat,
            ("GET", "/v1/models"): self._models,
            ("GET", "/health"): self._health,
            ("GET", "/metrics"): self._metrics,
            ("POST", "/load"): self._load,
            ("POST", "/unload"): self._unload,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._endpoint(scope)(receive, send)
        except Refusal as refusal:
            await write(send, refusal.reply())
        except ClientGone:
            pass

    def _endpoint(self, scope: Scope) -> _Endpoint:
        """Raises Refusal."""
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not hmac.compare_digest(given, self._expected):
            raise Refusal(401, "expected the bearer token of this process", "invalid_api_key")
        endpoint = self._endpoints.get((scope["method"], scope["path"]))
        if endpoint is None:
            raise Refusal(404, f"expected another path, got {scope['method']} {scope['path']}")
        length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if int(length) > self._max_body:
            raise self._too_long(f"{int(length):,}")
        return endpoint

    # ------------------------------------------------------------------ looking

    async def _models(self, _: Receive, send: Send) -> None:
        told = [{"id": name, "object": "model", "created": 0, "owned_by": "local"} for name in self._host.names]
        await write(send, HttpReply(200, encode_json({"object": "list", "data": told})))

    async def _health(self, _: Receive, send: Send) -> None:
        models = [one.to_json() for one in self._host.healths()]
        sums = {name: sum(one[name] for one in models) for name in ("n_served", "n_waiting", "n_running")}
        await write(send, HttpReply(200, encode_json({**sums, "models": models})))

    async def _metrics(self, _: Receive, send: Send) -> None:
        body = exposition(self._host.healths())
        await write(send, HttpReply(200, body, b"text/plain; version=0.0.4; charset=utf-8"))

    # ------------------------------------------------------------------ loading

    async def _load(self, receive: Receive, send: Send) -> None:
        name = self._name_in(_content(await self._body(receive)))
        self._host.load(name)
        await write(send, HttpReply(202, encode_json({"model": name})))

    async def _unload(self, receive: Receive, send: Send) -> None:
        name = self._name_in(_content(await self._body(receive)))
        if not self._host.unload(name):
            raise Refusal(409, f"expected model {name!r} to have nothing to do, it is busy", "model_busy", "model")
        await write(send, HttpReply(202, encode_json({"model": name})))

    def _name_in(self, body: object) -> str:
        """The model that a body names, or the only one. Raises Refusal."""
        name = body.get("model") if isinstance(body, dict) else None
        if name is None and len(self._host.names) == 1:
            return self._host.names[0]
        if name not in self._host.names:
            known = ", ".join(self._host.names)
            raise Refusal(404, f"model: expected one of {known}, got {name!r}", "model_not_found", "model")
        return str(name)

    # ------------------------------------------------------------------ answering

    async def _chat(self, receive: Receive, send: Send) -> None:
        raw = await self._body(receive)
        mailbox, arrived_at = Mailbox(), self._host.now()
        if len(raw) < _LONG_BODY:
            taken = self._take(raw, mailbox.put, arrived_at)
        else:
            loop = asyncio.get_running_loop()
            taken = await loop.run_in_executor(self._readers, self._take, raw, mailbox.put, arrived_at)
        watching = asyncio.ensure_future(mailbox.watch(receive))
        try:
            await _answer(taken.name, taken.chat, mailbox, send)
        finally:
            watching.cancel()
            taken.job.cancel()

    def _take(self, raw: bytes, deliver: Callable[[Event], None], arrived_at: float) -> _Taken:
        """Give the request to its model; with a long prompt this takes long. Raises Refusal."""
        content = _content(raw)
        name = self._name_in(content)
        try:
            chat = parse_chat(content)
            return _Taken(name, chat, self._host.submit(name, chat, deliver, arrived_at))
        except (ChatRejected, Overloaded, RuntimeError) as error:
            raise refusal_of(error) from error

    async def _body(self, receive: Receive) -> bytes:
        """Raises ClientGone, Refusal."""
        try:
            return await read_body(receive, self._max_body)
        except BodyTooLong as error:
            raise self._too_long("more") from error

    def _too_long(self, came: str) -> Refusal:
        # The code makes LiteLLM try a model with a longer context.
        message = f"expected a body of at most {self._max_body:,} bytes, which no prompt for these models needs, "
        return Refusal(413, f"{message}got {came}", "context_length_exceeded")


def _content(raw: bytes) -> Any:
    """Raises Refusal."""
    try:
        return decode_json(raw)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"expected a JSON body, got: {error}") from error


async def _answer(name: str, chat: ChatRequest, mailbox: Mailbox, send: Send) -> None:
    """Raises ClientGone, and Refusal as long as nothing was sent."""
    events = await mailbox.take()
    first = events[0]
    if isinstance(first, Failed):
        raise refusal_of(first.error)
    has_logprobs = chat.n_logprobs is not None
    if chat.is_streamed:
        await _stream(ChunkWriter(name, has_logprobs=has_logprobs), chat, mailbox, send, events)
    elif isinstance(first, Finished):
        await write(send, HttpReply(200, encode_json(completion(name, first, has_logprobs=has_logprobs))))
    else:
        raise Refusal(500, f"expected the end of an answer, got {type(first).__name__}", "engine_failed")


async def _stream(writer: ChunkWriter, chat: ChatRequest, mailbox: Mailbox, send: Send, events: list[Event]) -> None:
    """One chunk for all that has come since the last one. Raises ClientGone."""
    await begin_events(send)
    while True:
        body, last = b"", events[-1]
        pieces = [one for one in events if isinstance(one, Piece)]
        if pieces:
            chances = [chance for piece in pieces for chance in piece.chances]
            body = writer.text("".join(piece.text for piece in pieces), chances)
        if isinstance(last, Failed):
            # The status line has gone out; an error event is how OpenAI's clients learn of it.
            body += event(refusal_of(last.error).content())
        elif isinstance(last, Finished):
            body += writer.end(last, has_usage=chat.wants_usage)
        is_last = not isinstance(last, Piece)
        await write_events(send, body, is_last=is_last)
        if is_last:
            return
        events = await mailbox.take()
