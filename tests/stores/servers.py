"""Real servers for tests: processes on loopback, ended with the test."""

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from echo_proxy.stores import embedded

_DEADLINE_S = 60.0
PATIENT = {"connect_timeout_s": 20.0, "read_timeout_s": 20.0, "open_timeout_s": 60.0}
"""Of a RedisStore whose test is not about time: a busy disk makes Redis pause for seconds."""


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until it holds; fails after a deadline."""
    deadline = time.monotonic() + _DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"waited {_DEADLINE_S} s until {what}"
        time.sleep(0.02)


async def eventually(holds: Callable[[], object], what: str) -> None:
    """As `until`, for a coroutine that tells."""
    deadline = time.monotonic() + _DEADLINE_S
    while not await holds():  # type: ignore[misc]
        assert time.monotonic() < deadline, f"waited {_DEADLINE_S} s until {what}"
        await asyncio.sleep(0.02)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Script:
    """A Python program of its own, whose output goes to a file: a pipe would hang whoever reads it when it hangs."""

    def __init__(self, code: str, argument: str, output: Path) -> None:
        self._output = output
        with open(output, "wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, argument], stdin=subprocess.PIPE, stdout=file, env=environment()
            )

    def lines(self) -> list[str]:
        """The whole lines that it has printed so far."""
        return self._output.read_text().split("\n")[:-1]

    def until_lines(self, n: int) -> None:
        """Wait until it has printed n lines; fails when it ends before."""
        until(lambda: len(self.lines()) >= n or self.process.poll() is not None, f"the script prints {n} lines")
        assert len(self.lines()) >= n, f"the script must print {n} lines, it ended with {self.process.returncode}"

    def kill(self) -> None:
        """As kill -9, until it is gone."""
        self.process.kill()
        self.process.wait(_DEADLINE_S)
        if self.process.stdin is not None:
            self.process.stdin.close()


class Server:
    """A redis-server of one's own, with or without the search module."""

    def __init__(self, folder: Path, *options: str, has_search: bool = True, port: int | None = None) -> None:
        self.port = port or free_port()
        self._folder = folder
        self._command = [str(embedded._server()), *options]
        self._command += ["--port", str(self.port), "--dir", str(folder), "--bind", "127.0.0.1"]
        for module in embedded._modules() if has_search else ():
            self._command += ["--loadmodule", str(module)]

    def start(self) -> "Server":
        self._folder.mkdir(parents=True, exist_ok=True)
        with open(self._folder / "out.log", "ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        try:
            until(self.answers, "the server answers")
        except AssertionError:
            self.kill()
            raise
        return self

    def answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False

    def ask(self, *command: object) -> object:
        with redis.Redis(port=self.port, protocol=2, socket_timeout=5, retry=Retry(NoBackoff(), 0)) as client:
            return client.execute_command(*command)

    def kill(self) -> None:
        """As kill -9; harmless when it is gone."""
        self.process.kill()
        self.process.wait()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"


NewServer = Callable[..., Server]
"""What the fixture of that name gives: options > a server that has started."""


class TlsFront:
    """Ends TLS in front of a server that speaks none."""

    def __init__(self, certificate: Path, key: Path, port: int) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._target = port
        self._pipes: set[asyncio.Task[None]] = set()
        self.n_accepted = 0

    async def __aenter__(self) -> "TlsFront":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_accepted += 1
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
        for source, target in ((reader, inner_writer), (inner_reader, writer)):
            self._pipes.add(asyncio.create_task(_pump(source, target)))


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while chunk := await source.read(65536):
            target.write(chunk)
            await target.drain()
    finally:
        target.close()


def environment() -> dict[str, str]:
    """For a child that imports the package and the tests."""
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
