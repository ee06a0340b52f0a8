"""Does a dead store cost an answer? Kill Redis in the middle of a run, start it again later.

    python -m bench.store_killed [--requests 200]

A real Redis (kill -9), LiteLLM's real proxy with Echo, a scripted upstream, four clients at once.
"""

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from bench.table import show
from tests.e2e.proxy import Proxy, Upstream, config_for, policy_for, wait_for
from tests.stores.servers import Server


@dataclass(frozen=True)
class Result:
    """What became of the requests."""

    requests: int
    answered: int
    """HTTP 200 with an answer."""
    bypasses: int
    """Counted bypasses of the store while it was away."""
    learned_before: float
    """Evidence weight in the store when it was killed."""
    learned_after: float
    """Evidence weight in the store once everything had settled again."""
    decisions: int
    """Decisions in the store at the end."""


def run(folder: Path, requests: int) -> Result:
    """A third of the requests with the store, a third without, a third after its restart."""
    upstream = Upstream(folder)
    redis = Server(folder / "redis", "--appendonly", "yes", "--appendfsync", "everysec").start()
    proxy = Proxy(folder / "proxy", config_for(upstream), {"test": policy_for()}, {"ECHO_STORE_URL": redis.url})
    upstream.start()
    try:
        proxy.start()
        with proxy.client() as client:
            answered = _ask(client, 0, requests // 3)
            before = wait_for(lambda: _weight(client), what="first lessons")
            redis.kill()
            answered += _ask(client, requests // 3, 2 * requests // 3)
            redis.start()
            wait_for(lambda: client.get("/echo/ready").status_code == 200, 30, "store after its restart")
            answered += _ask(client, 2 * requests // 3, requests)
            wait_for(lambda: _count(client, "decisions") >= requests, 30, "settlement of all requests")
            return Result(
                requests,
                answered,
                int(_count(client, "bypass:store_unavailable")),
                before,
                _weight(client),
                int(_count(client, "decisions")),
            )
    finally:
        proxy.stop()
        upstream.stop()
        redis.kill()


def _ask(client: httpx.Client, first: int, last: int) -> int:
    def one(number: int) -> bool:
        body = {"model": "auto", "messages": [{"role": "user", "content": f"What is {number} plus {number % 7}?"}]}
        response = client.post("/v1/chat/completions", json=body)
        return response.status_code == 200 and bool(response.json()["choices"][0]["message"]["content"])

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(one, range(first, last)))


def _weight(client: httpx.Client) -> float:
    response = client.get("/echo/stats")
    return sum(arm["weight"] for arm in response.json()["test"]["arms"]) if response.status_code == 200 else 0.0


def _count(client: httpx.Client, name: str) -> float:
    response = client.get("/echo/stats")
    return float(response.json()["test"]["counts"].get(name, 0)) if response.status_code == 200 else 0.0


def main() -> int:
    """Print the result; 1 when an answer was lost or learning did not resume."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200)
    requests = parser.parse_args().requests
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder), requests)
    show("kill -9 of the store in the middle", asdict(result))
    return 0 if result.answered == requests and result.learned_after > result.learned_before else 1


if __name__ == "__main__":
    sys.exit(main())
