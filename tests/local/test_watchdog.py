import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from echo_proxy.engine.work import EngineStatus
from echo_proxy.local.fleet import Fleet
from echo_proxy.local.health import ModelHealth
from echo_proxy.local.options import LocalModel, LocalModelOptions
from echo_proxy.local.state import ModelState
from echo_proxy.local.watchdog import STUCK, Watchdog
from tests.local.children import ready_state, small_model
from tests.local.parrot_child import COMMAND

HUNG = """
import sys, threading
from echo_proxy.local.options import LocalModel, LocalModelOptions
from echo_proxy.local.watchdog import watch
class Hung:
    def healths(self):
        threading.Event().wait()
watch(Hung(), [LocalModel("a", LocalModelOptions(path="/x", max_step_s=0.1))], sys.stderr)
threading.Event().wait(60)
"""
"""A process in which even a look at the engine never ends."""


def _dog(busy_s: float) -> Watchdog:
    models = [LocalModel(name, LocalModelOptions(path="/x", max_step_s=s)) for name, s in (("slow", 100.0), ("a", 2.0))]
    return Watchdog(
        models, lambda: [ModelHealth(one.name, "ready", status=EngineStatus(busy_s=busy_s)) for one in models]
    )


def _ask(state: ModelState, text: str) -> None:
    body = {"messages": [{"role": "user", "content": text}]}
    headers = {"Authorization": f"Bearer {state.token}"}
    httpx.post(f"{state.url}/v1/chat/completions", json=body, headers=headers, trust_env=False, timeout=30)


def test_a_step_may_take_as_long_as_the_option_says() -> None:
    """Each model has its own."""
    assert _dog(2.0).look() is None
    assert _dog(2.1).look() == "a"
    assert _dog(100.1).look() == "slow"
    assert _dog(0.0).pause_s == 0.5
    assert _dog(0.0).longest_look_s > 100


def test_a_stuck_process_ends_even_if_nobody_can_look() -> None:
    """A lock that is never given back stops the watchdog too; its timer does not need it."""
    ended = subprocess.run([sys.executable, "-c", HUNG], capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 1
    assert "in healths" in ended.stderr


def test_a_stuck_process_is_started_again(tmp_path: Path) -> None:
    """Its supervisor sees an end with a status of its own, and the log tells why, without the prompt."""
    fleet = Fleet(tmp_path, COMMAND)
    try:
        supervisor = fleet.ensure(small_model(max_step_s=0.2))
        first = ready_state(supervisor)
        with pytest.raises(httpx.RemoteProtocolError):
            _ask(first, "stuck")
        second = ready_state(supervisor, first.token)

        assert second.n_restarts == 1
        assert f"status {STUCK}" in (second.error or "")
        assert "a step has taken" in supervisor.log_path.read_text()
        assert "stuck" not in supervisor.log_path.read_text().replace("max_step_s", "")
    finally:
        fleet.shutdown()
