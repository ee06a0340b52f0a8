"""Starts the real thing for tests and benchmarks: scripted upstream, LiteLLM's proxy with Echo inside, real store."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

ROOT = Path(__file__).resolve().parents[2]
MASTER_KEY = "sk-echo-" + secrets.token_urlsafe(24)

CUSTOM_AUTH = '''
"""Keys without a database: sk-tenant-<name> belongs to team <name>; the operator wants nothing of `quiet` kept."""
from fastapi import HTTPException
from litellm.proxy._types import LitellmUserRoles, UserAPIKeyAuth

MASTER = "{master}"

async def check(request, api_key):
    key = (api_key or "").removeprefix("Bearer ")
    if key == MASTER:
        return UserAPIKeyAuth(api_key=key, user_role=LitellmUserRoles.PROXY_ADMIN)
    if key.startswith("sk-tenant-"):
        name = key.removeprefix("sk-tenant-")
        said = {{"echo_no_store": True}} if name == "quiet" else {{}}
        return UserAPIKeyAuth(
            api_key=key,
            team_id=name,
            user_role=LitellmUserRoles.INTERNAL_USER,
            metadata=said,
            team_metadata={{"echo_domain": "tests"}},
        )
    raise HTTPException(401, "unknown key")
'''


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Any, timeout_s: float = 60.0, what: str = "condition") -> Any:
    """Poll until the condition gives something true; its value."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come true within {timeout_s:g} s")
        time.sleep(0.02)


@dataclass
class Process:
    """A child process with its log."""

    command: list[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.child = subprocess.Popen(
                self.command, stdout=out, stderr=out, env={**os.environ, **self.env}, cwd=ROOT, start_new_session=True
            )

    def stop(self, with_signal: int = signal.SIGTERM) -> None:
        if self.child is None:
            return
        try:
            os.killpg(self.child.pid, with_signal)
            self.child.wait(20)
        except ProcessLookupError:
            pass
        except subprocess.TimeoutExpired:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait(20)
        self.child = None

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


class Upstream(Process):
    """The scripted upstream in a process of its own."""

    def __init__(self, folder: Path, word_s: float = 0.0, first_s: float = 0.0) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "tests.upstream", str(self.port), str(word_s), str(first_s)]
        super().__init__(command, folder / "upstream.log")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        super().start()
        wait_for(lambda: _status(f"{self.url}/asked") == 200, 30, "upstream")

    def take_asked(self) -> list[dict[str, Any]]:
        asked = httpx.get(f"{self.url}/asked", trust_env=False).json()
        httpx.delete(f"{self.url}/asked", trust_env=False)
        return list(asked)

    def set_broken(self, *models: str) -> None:
        httpx.put(f"{self.url}/broken", json=list(models), trust_env=False)


class Proxy(Process):
    """LiteLLM's proxy, by default with Echo inside."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        policies: Mapping[str, Any] | None,
        env: Mapping[str, str] | None = None,
        workers: int = 1,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.has_echo = policies is not None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "litellm.yaml").write_text(yaml.safe_dump(dict(config)))
        (folder / "tenants.py").write_text(CUSTOM_AUTH.format(master=MASTER_KEY))
        super().__init__(
            self._command(folder, policies, workers),
            folder / "proxy.log",
            {
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "ECHO_STATE_DIR": str(folder / "state"),
                "PYTHONUNBUFFERED": "1",
                **(env or {}),
            },
        )

    def _command(self, folder: Path, policies: Mapping[str, Any] | None, workers: int) -> list[str]:
        config, port = str(folder / "litellm.yaml"), str(self.port)
        if policies is None:
            args = ["--config", config, "--host", "127.0.0.1", "--port", port, "--num_workers", str(workers)]
            run = "from litellm.proxy.proxy_cli import run_server; run_server()"
            return [sys.executable, "-c", run, *args, "--timeout_worker_healthcheck", "120"]
        (folder / "policies").mkdir(exist_ok=True)
        for name, policy in policies.items():
            (folder / "policies" / f"{name}.yaml").write_text(yaml.safe_dump(policy))
        serve = [sys.executable, "-m", "echo_proxy.cli", "serve", "--config", config, "--port", port]
        return [*serve, "--policy", str(folder / "policies"), "--workers", str(workers)]

    def start(self) -> None:
        super().start()
        path = "/echo/ready" if self.has_echo else "/health/liveliness"
        try:
            wait_for(self._is_up(path), 180, "proxy")
        except TimeoutError as error:
            raise RuntimeError(f"the proxy did not come up:\n{self.tail()}") from error

    def _is_up(self, path: str) -> Any:
        def is_up() -> bool:
            if self.child is None or self.child.poll() is not None:
                raise RuntimeError(f"the proxy ended at its start:\n{self.tail()}")
            return _status(self.url + path, MASTER_KEY) == 200

        return is_up

    def client(self, key: str = MASTER_KEY, timeout_s: float = 30.0) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s, trust_env=False)


def _status(url: str, key: str = "") -> int:
    try:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.get(url, headers=headers, trust_env=False, timeout=5).status_code
    except httpx.HTTPError:
        return 0


def config_for(upstream: Upstream, **more: Any) -> dict[str, Any]:
    """A LiteLLM config with group `auto` over two scripted deployments, `solo` beside it, and tenants' keys."""
    config: dict[str, Any] = {
        "model_list": [
            _deployment(upstream, "auto", "small", 1e-7),
            _deployment(upstream, "auto", "large", 1e-5),
            _deployment(upstream, "solo", "large", 1e-5, id="solo-large"),
            {
                "model_name": "vectors",
                "litellm_params": {"model": "openai/vectors", "api_base": f"{upstream.url}/v1", "api_key": "none"},
            },
        ],
        "router_settings": {"num_retries": 1, "allowed_fails": 1000, "disable_cooldowns": True},
        "general_settings": {"master_key": MASTER_KEY, "custom_auth": "tenants.check"},
        "litellm_settings": {"callbacks": ["echo_proxy.litellm.hooks.callback"]},
    }
    for key, value in more.items():
        config[key] = {**config.get(key, {}), **value}
    return config


def _deployment(upstream: Upstream, group: str, model: str, price: float, id: str | None = None) -> dict[str, Any]:
    return {
        "model_name": group,
        "litellm_params": {"model": f"openai/{model}", "api_base": f"{upstream.url}/v1", "api_key": "none"},
        "model_info": {"id": id or model, "input_cost_per_token": price, "output_cost_per_token": price},
    }


def policy_for(**more: Any) -> dict[str, Any]:
    """A policy over `auto`: small with and without examples, large as the teacher."""
    return {
        "name": "test",
        "match": {"model_groups": ["auto"]},
        "arms": [
            {"deployment": "small", "n_examples": 0},
            {"deployment": "small", "n_examples": 2},
            {"deployment": "large", "n_examples": 0, "teacher": True, "prior_reward": 0.9},
        ],
        "default_deployment": "large",
        "bandit": {"kind": "epsilon_greedy", "epsilon": 0.05},
        "selection": {"explore": 0.0},  # one example in fifty is left out by chance otherwise
        "deadline_s": 10.0,
        **more,
    }


ALWAYS_LARGE = {"kind": "fixed", "probabilities": {"large+0": 1.0}, "floor": 1e-9}
ALWAYS_SMALL_WITH_EXAMPLES = {"kind": "fixed", "probabilities": {"small+2": 1.0}, "floor": 1e-9}
