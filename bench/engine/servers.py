"""Which servers are compared? Ours, llama-cpp-python's and llama.cpp's own, each with the same file and threads."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from echo_proxy.local.fleet import Fleet
from echo_proxy.local.options import parse_model

_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Address:
    """A server that is ready."""

    name: str
    port: int
    headers: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def ours(folder: Path, options: Mapping[str, Any], name: str = "echo") -> Iterator[Address]:
    """The model's process as the proxy starts it."""
    fleet = Fleet(folder)
    supervisor = fleet.ensure(parse_model(name, dict(options)))
    try:
        state = _wait(lambda: state if (state := supervisor.state()) and state.phase == "ready" else None, name)
        assert state.port is not None
        yield Address(name, state.port, {"Authorization": f"Bearer {state.token}"})
    finally:
        fleet.shutdown()


@contextmanager
def llama_cpp_server(path: Path, n_ctx: int) -> Iterator[Address]:
    """llama-cpp-python's server: one request at a time."""
    port = _free_port()
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(path), "--port", str(port)]
    command += [
        "--n_ctx",
        str(n_ctx),
        "--n_threads",
        "1",
        "--n_threads_batch",
        "1",
        "--verbose",
        "false",
        "--type_k",
        "8",
    ]
    command += ["--interrupt_requests", "false"]  # by default it cuts a stream as soon as another request comes
    with _process(command, port, "/v1/models"):
        yield Address("llama_cpp.server", port)


@contextmanager
def llama_server(binary: Path, path: Path, n_ctx: int, n_parallel: int) -> Iterator[Address]:
    """llama.cpp's server, with as many slots, a unified cache and prompt caching as it has by default."""
    port = _free_port()
    command = [str(binary), "-m", str(path), "--port", str(port), "-c", str(n_ctx), "-np", str(n_parallel)]
    command += ["-t", "1", "-tb", "1", "-fa", "off", "-ctk", "q8_0", "--no-webui", "--kv-unified"]
    with _process(command, port, "/health"):
        yield Address("llama-server", port)


@contextmanager
def _process(command: list[str], port: int, path: str) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(lambda: _answers(port, path), command[0])
        yield
    finally:
        process.kill()
        process.wait()


def _wait(look: Any, name: str) -> Any:
    deadline = time.monotonic() + _START_S
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"expected {name} to be ready within {_START_S:g} s")
        time.sleep(0.05)
    return found


def _answers(port: int, path: str) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
