"""kill -9 in the middle of a round of the real command, on real stores; the next round goes on."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from echo_proxy.app import make_embedder, open_store
from echo_proxy.clock import SystemClock
from echo_proxy.online.receive import partition_of
from echo_proxy.policy_files import load_policy
from echo_proxy.protocols import Store
from echo_proxy.settings import Settings
from echo_proxy.types import Example
from tests.e2e.proxy import ROOT, Upstream, config_for, policy_for, wait_for
from tests.stores.servers import Server

N = 8
PLAIN = partition_of("", False)


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[Upstream]:
    process = Upstream(tmp_path, first_s=0.1)
    process.start()
    yield process
    process.stop()


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path / 'echo.db'}"
        return
    server = Server(tmp_path / "redis", "--appendonly", "yes").start()
    yield server.url
    server.kill()


@pytest.fixture
def files(tmp_path: Path, upstream: Upstream) -> Path:
    """A policy and LiteLLM's config, with the upstream's key in an environment variable."""
    config = config_for(upstream)
    for item in config["model_list"]:
        item["litellm_params"]["api_key"] = "os.environ/UPSTREAM_KEY"
    (tmp_path / "litellm.yaml").write_text(
        yaml.safe_dump({**config, "environment_variables": {"UPSTREAM_KEY": "none"}})
    )
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy_for()))
    return tmp_path


def start(files: Path, url: str, *more: str) -> subprocess.Popen[str]:
    """The command, as an operator would give it."""
    given = ["--policy", str(files / "policy.yaml"), "--config", str(files / "litellm.yaml"), "--json", *more]
    env = {
        **os.environ,
        "ECHO_STORE_URL": url,
        "ECHO_STATE_DIR": str(files / "state"),
        "ECHO_STORE_TIMEOUT_S": "20",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    command = [sys.executable, "-m", "echo_proxy.cli", "upkeep", *given]
    return subprocess.Popen(command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def at(files: Path, url: str, doing: Any) -> Any:
    """What comes of something done with the open store."""

    async def run() -> Any:
        policy, settings = load_policy(files / "policy.yaml"), Settings(state_dir=files / "state")
        store = open_store(
            policy, make_embedder(settings), url, settings.model_copy(update={"store_timeout_s": 20.0}), SystemClock()
        )
        await store.open()
        try:
            return await doing(store)
        finally:
            await store.close()

    return asyncio.run(run())


async def fill(store: Store) -> None:
    """Spoiled examples."""
    now = SystemClock().now()
    for i in range(N):
        vector = np.zeros(384, dtype=np.float32)
        vector[i] = 1.0
        await store.add(
            Example(
                id=f"e{i}", scope="key:a", partition=PLAIN, request=f"Question {i}?", response="spoiled", vector=vector,
                teacher="large", decision_id=f"e{i}", writer="a", quality=0.9, n_tokens=9, created_at=now,
                expires_at=now + 9999, regret=10.0 - i, counted_at=now,
            )
        )  # fmt: skip


async def all_examples(store: Store) -> list[Example]:
    return [one for i in range(N) if (one := await store.get(f"e{i}")) is not None]


def test_kill_9_loses_one_example_at_most(files: Path, url: str, upstream: Upstream) -> None:
    """What was done stays, nothing is half-written, and only the one under way is asked for again."""
    at(files, url, fill)
    first = start(files, url)
    wait_for(lambda: first.poll() is not None or len(_asked(upstream)) >= 5, 240, "calls")
    assert first.poll() is None, first.communicate()
    first.kill()
    first.communicate()
    between = at(files, url, all_examples)
    wait_for(lambda: at(files, url, is_free), 60, "the lease's end")
    second = start(files, url)
    out, err = second.communicate(timeout=240)
    after = at(files, url, all_examples)
    asked = Counter(one["messages"][-1]["content"] for one in upstream.take_asked())

    assert second.returncode == 0, err
    assert json.loads(out)["ending"] == "done"
    assert 1 <= sum(bool(one.history) for one in between) < N
    assert all((one.response != "spoiled") == bool(one.history) for one in between)
    assert [one.response for one in after] == [f"large: Question {i}?" for i in range(N)]
    assert [len(one.history) for one in after] == [1] * N
    assert sum(asked.values()) <= 2 * N + 2
    assert max(asked.values()) <= 4


def _asked(upstream: Upstream) -> list[Any]:
    return list(httpx.get(f"{upstream.url}/asked", trust_env=False).json())


async def is_free(store: Store) -> bool:
    """Whether nobody has the lease any more."""
    lease = await store.take_lease("upkeep", "test", 5.0)
    if lease is not None:
        await store.drop_lease(lease)
    return lease is not None
