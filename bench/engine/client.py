"""How does a load generator ask a model server so quickly that it measures the server and not itself?

A few lines of HTTP/1.1 over kept connections: the usual clients take longer for a request than the small model does.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, and when."""

    status: int
    text: str
    first_s: float
    """From sending to the first text of the answer."""
    whole_s: float
    """From sending to its end."""
    n_tokens: int
    """Completion tokens as the server counts them; the chunks with text where it does not."""


class Connection:
    """One kept connection; one request at a time."""

    def __init__(self, port: int, headers: Mapping[str, str]) -> None:
        self._port = port
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, body: Mapping[str, Any]) -> Reply:
        """A streamed chat completion, read to its end."""
        content = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n{self._headers}"
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        began = time.perf_counter()
        try:
            reader, status, headers = await self._send(head.encode() + content)
        except (asyncio.IncompleteReadError, ConnectionError):  # the server has closed the connection meanwhile
            self.close()
            reader, status, headers = await self._send(head.encode() + content)
        reply = _Reply(began)
        async for chunk in _body(reader, headers):
            reply.feed(chunk)
        if headers.get("connection") == "close":
            self.close()
        return reply.done(status)

    async def _send(self, request: bytes) -> tuple[asyncio.StreamReader, int, dict[str, str]]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        status, headers = await self._head(reader)
        return reader, status, headers

    async def _head(self, reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines[1:] if line)
        return int(lines[0].split()[1]), {name.lower(): value.strip().lower() for name, _, value in pairs}

    def close(self) -> None:
        """End the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> Any:
    if "content-length" in headers:
        yield await reader.readexactly(int(headers["content-length"]))
        return
    while size := int(await reader.readline(), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readline()


class _Reply:
    def __init__(self, began: float) -> None:
        self._began = began
        self._first = 0.0
        self._buffer = b""
        self._texts: list[str] = []
        self._n_tokens: int | None = None

    def feed(self, chunk: bytes) -> None:
        lines = (self._buffer + chunk).split(b"\n")
        self._buffer = lines.pop()
        for line in lines:
            if line.startswith(b"data: {"):
                self._take(json.loads(line[6:]))

    def _take(self, event: Mapping[str, Any]) -> None:
        for choice in event.get("choices") or ():
            text = (choice.get("delta") or {}).get("content")
            if text:
                self._first = self._first or time.perf_counter()
                self._texts.append(text)
        if event.get("usage"):
            self._n_tokens = int(event["usage"]["completion_tokens"])

    def done(self, status: int) -> Reply:
        now = time.perf_counter()
        n_tokens = len(self._texts) if self._n_tokens is None else self._n_tokens
        text = "".join(self._texts) if status == 200 else self._buffer.decode("utf-8", "replace")
        return Reply(status, text, (self._first or now) - self._began, now - self._began, n_tokens)


async def drive(port: int, headers: Mapping[str, str], bodies: list[Mapping[str, Any]], n_clients: int) -> list[Reply]:
    """All replies, in the order of the bodies, asked by so many clients that each wait for their answer."""
    replies: dict[int, Reply] = {}
    waiting = iter(enumerate(bodies))

    async def client() -> None:
        connection = Connection(port, headers)
        for i, body in waiting:
            replies[i] = await connection.ask(body)
        connection.close()

    await asyncio.gather(*(client() for _ in range(n_clients)))
    return [replies[i] for i in range(len(bodies))]
