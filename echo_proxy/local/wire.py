"""How does an ASGI app read a request, notice that its caller has gone, and write an answer?

Written out instead of taken from a framework: at some hundred requests a second beside an engine that shares the
interpreter, routing and request objects cost more than the rest of the path.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

from starlette.types import Receive, Send

from echo_proxy.engine.work import Event


class ClientGone(Exception):
    """Nobody reads the answer any more."""


class BodyTooLong(Exception):
    """More was sent than is taken."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A whole answer."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    retry_after_s: int | None = None
    """Whole seconds."""


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """All of the request's body. Raises ClientGone, and BodyTooLong before more than `max_bytes` are kept."""
    parts: list[bytes] = []
    n_bytes = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        n_bytes += len(parts[-1])
        if n_bytes > max_bytes:
            raise BodyTooLong
        if not message.get("more_body", False):
            return b"".join(parts)


async def write(send: Send, reply: HttpReply) -> None:
    """Send a whole answer."""
    headers = [(b"content-type", reply.content_type), (b"content-length", str(len(reply.body)).encode())]
    if reply.retry_after_s is not None:
        headers.append((b"retry-after", str(reply.retry_after_s).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def begin_events(send: Send) -> None:
    """Begin an answer of server-sent events."""
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def write_events(send: Send, body: bytes, *, is_last: bool = False) -> None:
    """Send some of them at once."""
    await send({"type": "http.response.body", "body": body, "more_body": not is_last})


class Mailbox:
    """Events on their way from the engine's thread to the event loop.

    The loop is woken for the first event only; what arrives before it looks comes along in the same waking.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._is_abandoned = False

    def put(self, event: Event) -> None:
        """Called by the engine's thread."""
        self._events.append(event)
        if len(self._events) == 1:
            self._loop.call_soon_threadsafe(self._arrived.set)

    async def watch(self, receive: Receive) -> None:
        """Wait until the caller goes away; who takes then learns of it."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._is_abandoned = True
        self._arrived.set()

    async def take(self) -> list[Event]:
        """All that has arrived; at least one. Raises ClientGone."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if self._is_abandoned:
                raise ClientGone
            taken: list[Event] = []
            # Popping one by one: `put` sees the queue empty only after the last was taken, and then wakes us again.
            while self._events:
                taken.append(self._events.popleft())
            if taken:
                return taken
