"""How is the proxy started, waited for and stopped, so that nothing is left behind?"""

import asyncio
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from echo_proxy.demo.setup import KEY_VARIABLE, SetupFiles
from echo_proxy.errors import EchoProxyError

_READY_S = 180.0
"""Importing LiteLLM alone takes 10 to 30 seconds on two cores."""
_POLL_S = 0.2
_STOP_S = 15.0
_SHOWN_LINES = 25


class DemoFailed(EchoProxyError):
    """The demo's proxy did not start, or ended too early; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the proxy is and how it is spoken to."""

    port: int
    key: str
    """LiteLLM's master key, made for this run."""

    @property
    def url(self) -> str:
        """Address without a path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """What every call needs."""
        return {"Authorization": f"Bearer {self.key}"}


def new_connection(port: int | None) -> Connection:
    """A connection with a new key, on the port or on a free one."""
    return Connection(port or _free_port(), f"sk-{secrets.token_urlsafe(32)}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def serve_command(files: SetupFiles, port: int) -> list[str]:
    """The command line that an operator would type."""
    policies = [part for path in files.policies for part in ("--policy", str(path))]
    return [
        sys.executable, "-m", "echo_proxy.cli", "serve",
        "--config", str(files.config), *policies, "--port", str(port),
    ]  # fmt: skip


def serve_environment(inherited: Mapping[str, str], folder: Path, key: str) -> dict[str, str]:
    """Variables of the proxy. Its store is the folder's, whatever the shell says: a demo must not touch real state."""
    kept = {name: value for name, value in inherited.items() if not name.startswith("ECHO_") and name != "DATABASE_URL"}
    return {
        **kept,
        "ECHO_STATE_DIR": str(folder),
        KEY_VARIABLE: key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no download of prices
    }


@asynccontextmanager
async def running(
    command: Sequence[str], environment: Mapping[str, str], connection: Connection, log: Path, ready_s: float = _READY_S
) -> AsyncIterator[None]:
    """The proxy, ready to serve; gone with all its children afterwards. Raises DemoFailed."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is ours to handle; and its group can be ended as one
        )
    try:
        await _wait_until_ready(process, connection, log, ready_s)
        yield
    finally:
        await _stop(process)


async def _wait_until_ready(
    process: asyncio.subprocess.Process, connection: Connection, log: Path, ready_s: float
) -> None:
    deadline = asyncio.get_running_loop().time() + ready_s
    # A proxy variable of the shell must not send loopback calls elsewhere.
    async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:
        while asyncio.get_running_loop().time() < deadline:
            if process.returncode is not None:
                raise DemoFailed(f"the proxy ended with status {process.returncode}; its log ends:\n{_tail(log)}")
            with suppress(httpx.TransportError):
                reply = await http.get(f"{connection.url}/echo/ready", headers=connection.headers)
                if reply.status_code == httpx.codes.OK:
                    return
            await asyncio.sleep(_POLL_S)
    raise DemoFailed(f"the proxy was not ready after {ready_s:.0f} s; its log ends:\n{_tail(log)}")


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Ask the proxy to end; then end what is left of its process group."""
    try:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _STOP_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_SHOWN_LINES:])
