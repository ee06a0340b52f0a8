"""Does a local model that crashes cost an answer? Kill its process in the middle of a run, several times.

    python -m bench.model_killed [--requests 300] [--kills 5]

LiteLLM's real proxy with Echo before the bundled pair in llama.cpp; eight clients ask, half of them streamed; each kill
is a SIGKILL of one of the two model processes while requests are in it, in turns.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from bench.table import show
from echo_proxy.demo.setup import PAIR
from echo_proxy.demo.world import make_world
from echo_proxy.litellm.config import CALLBACK, PROVIDER, PROVIDER_HANDLER
from tests.e2e.proxy import MASTER_KEY, Proxy

_MODELS = ("small", "large")
_POLICY = {
    "name": "test",
    "match": {"model_groups": ["auto"]},
    "arms": [{"deployment": "home-small"}, {"deployment": "home-large", "teacher": True}],
    "default_deployment": "home-large",
    "bandit": {"kind": "uniform"},
}


def main() -> int:
    """Run and print; 1 when an answer was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--kills", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        figures = run(Path(folder), args.requests, args.kills)
    show("local models killed", figures)
    return int(figures["answered"] != figures["requests"])


def run(folder: Path, requests: int, kills: int) -> dict[str, Any]:
    """All figures of one run."""
    proxy = Proxy(folder, config(), {"test": _POLICY})
    proxy.start()
    try:
        with proxy.client(timeout_s=60) as client, ThreadPoolExecutor(8) as pool:
            [ask(client, i) for i in range(4)]
            killer = threading.Thread(target=kill, args=(folder / "state" / "local", kills))
            killer.start()
            outcomes = Counter(pool.map(lambda i: ask(client, i), range(requests)))
            killer.join()
            decisions = client.get("/echo/decisions", params={"limit": 500}).json()
            attempts = Counter(len(one["explanation"]["attempts"]) for one in decisions)
    finally:
        proxy.stop()
    return {
        "requests": requests,
        "kills": kills,
        "answered": outcomes["answered"],
        **{f"not answered: {name}": n for name, n in outcomes.items() if name != "answered"},
        "answered after another attempt": sum(n for attempt, n in attempts.items() if attempt > 1),
    }


def ask(client: httpx.Client, number: int) -> str:
    """`answered`, or what went wrong."""
    world = make_world()
    item = world.about(world.rare[number % len(world.rare)], 0)
    body = {"model": "auto", "messages": [{"role": "user", "content": item.question}], "stream": number % 2 == 1}
    response = client.post("/v1/chat/completions", json={**body, "max_tokens": 100})
    if response.status_code != 200:
        return f"HTTP {response.status_code}"
    if number % 2 and '"finish_reason":"' not in response.text.replace(" ", ""):
        return "stream cut"
    return "answered"


def kill(folder: Path, kills: int) -> None:
    """One model after the other, when it is up."""
    for i in range(kills):
        time.sleep(2.0)
        state = json.loads((folder / f"{_MODELS[i % 2]}.json").read_text())
        if state["pid"]:
            os.kill(state["pid"], signal.SIGKILL)


def config() -> dict[str, Any]:
    """LiteLLM's, with two retries."""
    return {
        "model_list": [_deployment(name) for name in _MODELS],
        "router_settings": {"num_retries": 2, "allowed_fails": 1000, "disable_cooldowns": True},
        "general_settings": {"master_key": MASTER_KEY, "custom_auth": "tenants.check"},
        "litellm_settings": {
            "callbacks": [CALLBACK],
            "custom_provider_map": [{"provider": PROVIDER, "custom_handler": PROVIDER_HANDLER}],
        },
    }


def _deployment(name: str) -> dict[str, Any]:
    model = {"path": str(PAIR / f"{name}-q8_0.gguf"), "n_threads": 1, "n_threads_batch": 1}
    info = {"id": f"home-{name}", "input_cost_per_token": 1e-7, "output_cost_per_token": 1e-7, PROVIDER: model}
    return {"model_name": "auto", "litellm_params": {"model": f"{PROVIDER}/{name}"}, "model_info": info}


if __name__ == "__main__":
    sys.exit(main())
