"""The proxy is started in a clean environment, its failure is shown, and nothing of it survives."""

import os
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from echo_proxy.demo.proxy import (
    Connection,
    DemoFailed,
    new_connection,
    running,
    serve_command,
    serve_environment,
)
from echo_proxy.demo.setup import KEY_VARIABLE, PAIR, SetupFiles, litellm_config, policy_path, write_setup
from echo_proxy.litellm.config import check_policy, read_litellm_config
from echo_proxy.policy_files import load_policies

READY_SERVER = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)

class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *parts):
        pass

    def do_GET(self):
        self.send_response(200 if self.headers["Authorization"] == "Bearer k" else 401)
        self.end_headers()

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


async def test_nothing_is_left_behind(tmp_path: Path) -> None:
    """Server and grandchild run inside the block and are gone after it, also when the block fails."""
    connection = Connection(new_connection(None).port, "k")
    log = tmp_path / "log"
    command = [sys.executable, "-c", READY_SERVER, str(connection.port)]

    processes: list[psutil.Process] = []

    async def fail_while_running() -> None:
        async with running(command, os.environ, connection, log):
            grandchild = psutil.Process(int(log.read_text()))
            processes.extend([grandchild, *grandchild.parents()[:1]])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_while_running()

    assert len(processes) == 2
    assert all(_is_gone(process) for process in processes)


def _is_gone(process: psutil.Process) -> bool:
    """Ended; nobody may be there to collect an orphan's status."""
    try:
        process.wait(timeout=10)
    except psutil.TimeoutExpired:
        return process.status() == psutil.STATUS_ZOMBIE
    return True


async def test_the_end_of_the_log_is_shown(tmp_path: Path) -> None:
    """A proxy that cannot start says why."""
    command = [sys.executable, "-c", "import sys; print('the port is taken'); sys.exit(3)"]

    with pytest.raises(DemoFailed, match=r"(?s)ended with status 3.*the port is taken"):
        async with running(command, os.environ, new_connection(None), tmp_path / "log"):
            pytest.fail("it must not become ready")


async def test_waiting_has_an_end(tmp_path: Path) -> None:
    """A proxy that never becomes ready does not keep us for ever."""
    command = [sys.executable, "-c", "import time; print('thinking', flush=True); time.sleep(600)"]

    with pytest.raises(DemoFailed, match="was not ready after 1 s"):
        async with running(command, os.environ, new_connection(None), tmp_path / "log", ready_s=1.0):
            pytest.fail("it must not become ready")


def test_real_settings_stay_out_of_the_demo() -> None:
    """A shell that points at a real store does not lead the demo there."""
    inherited = {"PATH": "/bin", "ECHO_STORE_URL": "redis://live", "DATABASE_URL": "postgres://live"}

    environment = serve_environment(inherited, Path("/state"), "sk-1")

    assert environment == {
        "PATH": "/bin",
        "ECHO_STATE_DIR": "/state",
        KEY_VARIABLE: "sk-1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


def test_command_is_what_an_operator_types() -> None:
    """`echo-proxy serve` with config, policies and port."""
    command = serve_command(SetupFiles(Path("c.yaml"), (Path("a.yaml"), Path("b.yaml"))), 4000)

    assert command[1:] == [
        "-m", "echo_proxy.cli", "serve", "--config", "c.yaml", "--policy", "a.yaml", "--policy", "b.yaml",
        "--port", "4000",
    ]  # fmt: skip


def test_every_run_has_its_own_key() -> None:
    """The key cannot be guessed, and the given port is kept."""
    first, second = new_connection(4000), new_connection(4000)

    assert first.port == 4000
    assert first.key.startswith("sk-")
    assert len(first.key) > 40
    assert first.key != second.key


def test_policies_fit_the_config(tmp_path: Path) -> None:
    """The demo's policies name only what its LiteLLM config has."""
    files = write_setup(tmp_path, ("epsilon_greedy", "ucb1"))
    config = read_litellm_config(files.config)

    for policy in load_policies(files.policies):
        check_policy(policy, config)
    assert (config.has_callback, config.has_provider, config.uses_provider) == (True, True, True)


def test_config_holds_no_key(tmp_path: Path) -> None:
    """The master key comes from the environment."""
    files = write_setup(tmp_path, ("ucb1",))

    assert yaml.safe_load(files.config.read_text()) == litellm_config()
    assert "sk-" not in files.config.read_text()
    assert files.policies == (policy_path("demo-ucb"),)


def test_the_pair_is_bundled() -> None:
    """The files that the config names exist."""
    assert (PAIR / "small-q8_0.gguf").is_file()
    assert (PAIR / "large-q8_0.gguf").is_file()
