"""What operators live through: a dead store, several workers, restarts, wrong files, their own LiteLLM config."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import yaml

from bench import early_disconnects, store_killed, two_tenants, two_workers
from tests.e2e.conftest import greedy_policy
from tests.e2e.proxy import (
    ROOT,
    Process,
    Proxy,
    Upstream,
    config_for,
    policy_for,
    wait_for,
)


def chat(client: httpx.Client, text: str, model: str = "auto", **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    return client.post("/v1/chat/completions", json=body)


def test_a_dead_store_costs_no_answer(tmp_path: Path) -> None:
    """Redis is killed in the middle: everybody is answered, bypasses are counted, learning goes on afterwards."""
    result = store_killed.run(tmp_path, 60)

    assert result.answered == result.requests
    assert result.bypasses > 0
    assert result.decisions == result.requests
    assert result.learned_after > result.learned_before


def test_workers_learn_from_one_another_and_restarts_lose_nothing(tmp_path: Path) -> None:
    """Evidence from either worker reaches the other; what was acknowledged is there after a restart."""
    result = two_workers.run(tmp_path, 12)

    assert result.workers_seen >= 2
    assert round(result.weight_after_restart, 2) == round(result.weight_before_restart, 2)
    assert result.examples_after_restart == result.examples_before_restart


def test_streams_that_are_left_are_never_kept(tmp_path: Path) -> None:
    """Under concurrency each stream is judged by its own end."""
    result = early_disconnects.run(tmp_path, 40, 10)

    assert result.admitted_of_left == 0
    assert result.admitted_of_read == result.read_to_end


def test_nothing_crosses_between_tenants(tmp_path: Path) -> None:
    """Two tenants with the same questions never see each other's text, in prompts or lists."""
    result = two_tenants.run(tmp_path, 8)

    assert result.crossed == 0
    assert result.own_examples_used > 0


def test_slow_planning_is_bypassed_and_counted(upstream: Upstream, tmp_path: Path) -> None:
    """Beyond the deadline the call goes to the default deployment without Echo."""
    proxy = Proxy(tmp_path, config_for(upstream), {"test": policy_for(deadline_s=1e-6)})
    try:
        proxy.start()
        with proxy.client() as client:
            response = chat(client, "What is the capital of Skulia?")

            assert response.json()["choices"][0]["message"]["content"] == "large: What is the capital of Skulia?"
            assert response.headers["x-echo-pass"] == "deadline"
            wait_for(lambda: client.get("/echo/stats").json()["test"]["counts"].get("bypass:deadline"), what="count")
    finally:
        proxy.stop()


def test_a_wrong_policy_keeps_the_old_one_in_force(upstream: Upstream, tmp_path: Path) -> None:
    """A reload that fails is reported and changes nothing; a good one takes effect without a restart."""
    proxy = Proxy(tmp_path, config_for(upstream), {"test": greedy_policy()})
    path = tmp_path / "policies" / "test.yaml"
    try:
        proxy.start()
        with proxy.client() as client:
            path.write_text(yaml.safe_dump({**greedy_policy(), "bandits": {}}))
            error = wait_for(lambda: client.get("/echo/ready").json()["policy_error"], what="refused reload")
            still = chat(client, "What is the capital of Skulia?")
            path.write_text(yaml.safe_dump(greedy_policy(allow_client_opt_out=False)))
            wait_for(lambda: client.get("/echo/ready").json()["policy_error"] is None, what="good reload")
            kept = client.post(
                "/v1/chat/completions",
                json={"model": "auto", "messages": [{"role": "user", "content": "Who founded Skulia?"}]},
                headers={"x-echo-bypass": "true"},
            )

        assert "bandits" in error
        assert "x-echo-decision-id" in still.headers
        assert "x-echo-decision-id" in kept.headers
    finally:
        proxy.stop()


def test_a_wrong_policy_stops_the_start(upstream: Upstream, tmp_path: Path) -> None:
    """The message names file, field, what was expected and what came; nothing is started."""
    policy = policy_for()
    policy["arms"][1]["deployment"] = "smal"
    proxy = Proxy(tmp_path, config_for(upstream), {"test": policy})

    done = subprocess.run(proxy.command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert "arms.1.deployment" in done.stderr
    assert "did you mean 'small'?" in done.stderr


def test_the_store_of_another_embedding_model_stops_the_start(upstream: Upstream, tmp_path: Path) -> None:
    """Vectors of two models must never mix; the message says how to embed anew."""
    proxy = Proxy(tmp_path, config_for(upstream), {"test": policy_for()})
    proxy.start()
    proxy.stop()
    env = {"ECHO_EMBEDDER": "openai/vectors", "ECHO_EMBEDDER_DIMENSIONS": "3", "ECHO_EMBEDDER_API_KEY": "none"}
    env["ECHO_EMBEDDER_API_BASE"] = f"{upstream.url}/v1"
    other = Process(proxy.command, tmp_path / "other.log", {**proxy.env, **env})
    other.start()
    try:
        wait_for(lambda: other.child is not None and other.child.poll() is not None, 60, "end of the wrong start")

        assert "echo-proxy reembed" in other.log.read_text()
    finally:
        other.stop()


def test_plain_litellm_with_three_lines(upstream: Upstream, tmp_path: Path) -> None:
    """Without our launcher: a callback line, a policy path and a start-up hook in the environment."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "test.yaml").write_text(yaml.safe_dump(greedy_policy()))
    env = {
        "LITELLM_WORKER_STARTUP_HOOKS": "echo_proxy.litellm.startup:startup",
        "ECHO_POLICY": str(tmp_path / "policies"),
    }
    proxy = Proxy(tmp_path, config_for(upstream), None, env)
    try:
        proxy.start()
        with proxy.client() as client:
            first = chat(client, "What is the capital of Skulia?")
            identity = first.headers["x-echo-decision-id"]
            wait_for(lambda: client.get(f"/echo/decisions/{identity}").status_code == 200, what="settlement")
            second = chat(client, "What is the capital of Skulia?")

        assert second.headers["x-litellm-model-id"] == "small"
        assert second.headers["x-echo-examples"] == "1"
    finally:
        proxy.stop()


CALLBACK_OF_THE_USER = """
from litellm.integrations.custom_logger import CustomLogger


class Mine(CustomLogger):
    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        with open("{path}", "a") as out:
            out.write(str(kwargs["standard_logging_object"]["messages"]) + "\\n")


mine = Mine()
"""


def test_a_users_config_keeps_its_meaning(upstream: Upstream, tmp_path: Path) -> None:
    """Fallbacks to other groups, LiteLLM's response cache and the user's own callbacks work as before, and a config
    that does not name Echo at all works under our launcher."""
    config = config_for(
        upstream,
        router_settings={"fallbacks": [{"auto": ["solo"]}], "num_retries": 0},
        litellm_settings={"callbacks": ["mine.mine"], "cache": True, "cache_params": {"type": "local"}},
    )
    (tmp_path / "mine.py").write_text(CALLBACK_OF_THE_USER.format(path=tmp_path / "seen.txt"))
    proxy = Proxy(tmp_path, config, {"test": greedy_policy()})
    seen = tmp_path / "seen.txt"
    try:
        proxy.start()
        with proxy.client() as client:
            direct = [chat(client, "Cached?", model="solo").json()["choices"][0] for _ in range(2)]
            n_direct = sum("Cached?" in str(body) for body in upstream.take_asked())
            taught = chat(client, "What is the capital of Skulia?")
            wait_for(lambda: client.get(f"/echo/decisions/{taught.headers['x-echo-decision-id']}").is_success)
            upstream.set_broken("small")
            rescued = chat(client, "What is the capital of Skulia, please?")
            upstream.set_broken()
            identity = rescued.headers["x-echo-decision-id"]
            wait_for(lambda: client.get(f"/echo/decisions/{identity}").is_success, what="settlement")
            found = client.get(f"/echo/decisions/{identity}").json()
            wait_for(lambda: "please" in (seen.read_text() if seen.exists() else ""), what="the user's callback")

        assert direct[0] == direct[1]
        assert n_direct == 1
        assert rescued.status_code == 200
        assert rescued.headers["x-litellm-model-id"] == "solo-large"
        assert [(one["deployment"], one["error"]) for one in found["explanation"]["attempts"]] == [
            ("small", "InternalServerError"),
            ("solo-large", None),
        ]
        assert [(one["arm"], one["reward"]) for one in found["learned"]] == [("small+2", 0.0)]
        assert "Skulia?'" not in seen.read_text().splitlines()[-1].replace("please?'", "")
    finally:
        upstream.set_broken()
        proxy.stop()


def test_help_has_examples() -> None:
    """Each command says how it is used."""
    for command in ("serve", "demo", "check", "reembed", "schema"):
        done = subprocess.run(
            [sys.executable, "-m", "echo_proxy.cli", command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env=dict(os.environ),
        )

        assert "examples:" in done.stdout
