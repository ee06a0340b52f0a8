"""Real processes of the bundled small model, or of models that only repeat what they hear, for tests."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

import echo_proxy
from echo_proxy.local.groups import ModelGroup
from echo_proxy.local.options import LocalModel, LocalModelOptions
from echo_proxy.local.order import Order, Reply
from echo_proxy.local.state import ModelState
from echo_proxy.local.supervisor import CHILD, Supervisor

T = TypeVar("T")

PAIR = Path(echo_proxy.__file__).parent / "assets" / "pair"
SMALL = PAIR / "small-q8_0.gguf"
TOKEN = "only-for-tests"
COUNT = [{"role": "user", "content": "Count from 3 to 8."}]
GREEDY: dict[str, Any] = {"messages": COUNT, "temperature": 0}
TOO_LONG = [{"role": "user", "content": "hello " * 2000}]
ENDLESS: dict[str, Any] = {"messages": COUNT, "temperature": 0, "response_format": {"type": "json_object"}}
"""The small model knows no JSON: it writes a string until its context is full, which takes a second or more."""


def wait_for(look: Callable[[], T | None], timeout_s: float = 60.0) -> T:
    """The first true thing that looking gives."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"expected something within {timeout_s:g} s"
        time.sleep(0.01)
    return found


def small_model(name: str = "small", **options: Any) -> LocalModel:
    """The bundled small model on one thread."""
    return LocalModel(name, LocalModelOptions(**{"path": str(SMALL), "n_threads": 1, "n_threads_batch": 1, **options}))


def ready_state(supervisor: Supervisor, after: str = "") -> ModelState:
    """The state of a process that can be asked, another than that with the token `after`."""

    def look() -> ModelState | None:
        state = supervisor.state()
        return state if state is not None and state.phase == "ready" and state.token != after else None

    return wait_for(look)


def is_running(pid: int) -> bool:
    """Whether that process exists and is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@contextmanager
def running_child(log: Path, **options: Any) -> Iterator[httpx.Client]:
    """A client of a process that serves the small model, without a supervisor."""
    with running_group(log, small_model(**options)) as client:
        yield client


@contextmanager
def running_group(log: Path, *models: LocalModel, command: Sequence[str] = CHILD) -> Iterator[httpx.Client]:
    """A client of a process that serves these models, without a supervisor."""
    with (
        log.open("ab") as output,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(Order(ModelGroup("process", models), TOKEN, log.parent / "prefixes").to_line())
        child.stdin.flush()
        reply = Reply.from_line(child.stdout.readline())
        assert reply.port, f"expected a port, got {reply}\n{log.read_text()}"
        with httpx.Client(
            base_url=f"http://127.0.0.1:{reply.port}",
            headers={"Authorization": f"Bearer {TOKEN}"},
            trust_env=False,
            timeout=30,
        ) as client:
            yield client
        child.stdin.close()
        assert child.wait(5) == 0
