import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from echo_proxy.check import check
from echo_proxy.litellm.config import read_litellm_config
from echo_proxy.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
CONFIGS = {"default": "litellm.yaml", "local-first": "examples/local-first.yaml", "shadow": "examples/shadow.yaml"}
"""LiteLLM config by the policy that it fits."""


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())["services"])


def test_the_stack_has_all_its_parts(services: dict[str, Any]) -> None:
    """Store, a window on it, and the proxy; each volume that a service names exists."""
    stack = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
    named = {one.split(":")[0] for service in services.values() for one in service["volumes"] if one[0] != "."}

    assert set(services) == {"redis", "redis-insight", "proxy"}
    assert named == set(stack["volumes"])


def test_images_are_pinned(services: dict[str, Any]) -> None:
    """A tag names one release down to its patch; `latest` or `8` would change under the operator."""
    tags = [service["image"].rpartition(":")[2] for service in services.values()]

    assert [tag for tag in tags if not re.match(r"\d+\.\d+\.\d+", tag)] == []


def test_nothing_listens_beyond_this_machine(services: dict[str, Any]) -> None:
    """Published ports are bound to loopback; Redis, which has no password here, publishes none."""
    ports = {name: service.get("ports", []) for name, service in services.items()}

    assert ports == {
        "redis": [],
        "redis-insight": ["127.0.0.1:5540:5540"],
        "proxy": ["127.0.0.1:4000:4000"],
    }


def test_redis_is_new_enough_and_keeps_what_it_was_given(services: dict[str, Any]) -> None:
    """Vector search came with 8, its modules are loaded for `redis-server` only; the AOF makes writes last."""
    redis = services["redis"]

    assert int(redis["image"].partition(":")[2].partition(".")[0]) >= 8
    assert redis["command"][0] == "redis-server"
    assert " ".join(redis["command"]).count("--appendonly yes --appendfsync everysec") == 1


def test_the_proxy_starts_on_files_that_exist(services: dict[str, Any]) -> None:
    """What its command and its variables name is there."""
    proxy = services["proxy"]
    script = proxy["command"][-1]
    mounted = re.findall(r"/src/(\S+)", script)
    settings = {f"ECHO_{name}".upper() for name in Settings.model_fields}

    assert mounted == ["requirements.lock", "deploy/litellm.yaml", "policies/default.yaml"]
    assert [path for path in mounted if not (ROOT / path).is_file()] == []
    assert {name for name in proxy["environment"] if name.startswith("ECHO_")} <= settings
    assert "/health/liveliness" in proxy["healthcheck"]["test"][-1]


def test_every_key_is_explained_and_none_is_given(services: dict[str, Any]) -> None:
    """What the compose file takes from deploy/.env stands in the example, keys without a value."""
    wanted = re.findall(r"\$\{(\w+)", str(services["proxy"]["environment"]))
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    assert set(given) == set(wanted)
    assert [name for name, value in given.items() if name.endswith("_KEY") and value] == []
    assert ".env" in (DEPLOY / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("policy", CONFIGS)
def test_configs_fit_their_policies(policy: str) -> None:
    """`check` accepts each pair and misses no line, so the configs work under plain `litellm` too."""
    path = DEPLOY / CONFIGS[policy]
    out = StringIO()
    status = check([ROOT / "policies" / f"{policy}.yaml"], path, Console(file=out, width=200))
    config = read_litellm_config(path)

    assert status == 0
    assert "note:" not in out.getvalue()
    assert config.has_callback
    assert config.has_provider == config.uses_provider


@pytest.mark.parametrize("path", CONFIGS.values())
def test_configs_hold_no_secrets(path: str) -> None:
    """Keys come from the environment."""
    keys = re.findall(r"(?:api_key|master_key): (\S+)", (DEPLOY / path).read_text())

    assert keys != []
    assert [key for key in keys if key != "none" and not key.startswith("os.environ/")] == []
