"""What does Echo add to a request of plain LiteLLM?

    python -m bench.added_latency [--examples 10000] [--requests 400]

Two proxies stand side by side in one run, plain LiteLLM and LiteLLM with Echo, before the same scripted upstream that
answers at once. Blocks of requests alternate between them, so that a noisy machine is noisy for both. Every question
is new, so each is embedded, searched among all examples, decided, logged and (every other one) kept.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from bench.table import show
from echo_proxy.clock import SystemClock
from echo_proxy.online.receive import partition_of
from echo_proxy.stores.connect import StoreConfig, make_store
from echo_proxy.types import Example
from tests.e2e.proxy import MASTER_KEY, Proxy, Upstream, config_for, policy_for
from tests.stores.servers import Server

_BLOCK = 25
_N_CLIENTS = 16
_SUBJECTS = ("harbour", "railway", "festival", "library", "museum", "bakery", "orchestra", "hospital", "garden", "mill")


@dataclass(frozen=True)
class Side:
    """One proxy's figures."""

    latency_ms: np.ndarray
    """One client, shape (n_requests,)."""
    requests_per_s: float
    """Many clients at once."""


def run(folder: Path, examples: int, requests: int) -> dict[str, object]:
    """Both sides' figures and their differences."""
    upstream = Upstream(folder)
    redis = Server(folder / "redis", "--appendonly", "yes", "--appendfsync", "everysec").start()
    asyncio.run(fill(redis.url, examples))
    plain_config = config_for(upstream, litellm_settings={"callbacks": []})
    plain = Proxy(folder / "plain", plain_config, None)
    policy = policy_for(scope="public", bandit={"kind": "uniform"})
    echo = Proxy(folder / "echo", config_for(upstream), {"test": policy}, {"ECHO_STORE_URL": redis.url})
    upstream.start()
    try:
        plain.start()
        echo.start()
        sides = asyncio.run(measure((plain, echo), requests))
        with echo.client() as client:
            counts = client.get("/echo/stats").json()["test"]["counts"]
            stored = client.get("/echo/ready").json()["policies"]["test"]["examples"]
        return _figures(*sides, bypassed=sum(v for k, v in counts.items() if k.startswith("bypass")), stored=stored)
    finally:
        plain.stop()
        echo.stop()
        upstream.stop()
        redis.kill()


def _figures(plain: Side, echo: Side, bypassed: float, stored: int) -> dict[str, object]:
    def percentile(side: Side, q: float) -> float:
        return float(np.percentile(side.latency_ms, q))

    return {
        "examples in the store at the end": stored,
        "plain p50 ms": percentile(plain, 50),
        "echo p50 ms": percentile(echo, 50),
        "added p50 ms": percentile(echo, 50) - percentile(plain, 50),
        "plain p99 ms": percentile(plain, 99),
        "echo p99 ms": percentile(echo, 99),
        "added p99 ms": percentile(echo, 99) - percentile(plain, 99),
        f"plain requests/s, {_N_CLIENTS} clients": plain.requests_per_s,
        f"echo requests/s, {_N_CLIENTS} clients": echo.requests_per_s,
        "requests/s, echo / plain": echo.requests_per_s / plain.requests_per_s,
        "bypassed": bypassed,
    }


async def fill(url: str, n: int) -> None:
    """Examples with random unit vectors around 200 centres, in the scope that the policy shares."""
    config = StoreConfig(
        policy="test",
        model="all-minilm-l6-v2-int8",
        dimensions=384,
        index="flat",
        half_life_s=7 * 86400.0,
        decision_ttl_s=7 * 86400.0,
        log_length=100_000,
    )
    store = make_store(url, config, SystemClock(), 10.0)
    await store.open()
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(200, 384))  # (n_centres, dimensions)
    now = time.time()
    for start in range(0, n, 100):
        await asyncio.gather(*(store.add(_example(i, centres, rng, now)) for i in range(start, min(start + 100, n))))
    await store.close()


def _example(number: int, centres: np.ndarray, rng: np.random.Generator, now: float) -> Example:
    vector = centres[number % len(centres)] + 0.5 * rng.normal(size=384)
    return Example(
        id=f"filler{number:08d}",
        scope="public:all",
        partition=partition_of("", False),
        request=f"What is known of place {number}?",
        response=f"Place {number} is known for its {_SUBJECTS[number % len(_SUBJECTS)]}.",
        vector=(vector / np.linalg.norm(vector)).astype(np.float32),
        teacher="large",
        decision_id=f"filler{number:08d}",
        writer="bench",
        quality=1.0,
        n_tokens=20,
        created_at=now,
        expires_at=now + 86400.0,
    )


async def measure(proxies: tuple[Proxy, Proxy], requests: int) -> tuple[Side, Side]:
    """Latency with one client in alternating blocks, then throughput in alternating rounds."""
    latencies: tuple[list[float], list[float]] = ([], [])
    rates: tuple[list[float], list[float]] = ([], [])
    clients = [_client(proxy) for proxy in proxies]
    numbers = iter(range(10_000_000))
    for client in clients:
        for _ in range(_BLOCK):
            await _ask(client, next(numbers))
    for _ in range(requests // _BLOCK):
        for side, client in enumerate(clients):
            for _ in range(_BLOCK):
                started = time.perf_counter()
                await _ask(client, next(numbers))
                latencies[side].append(1000 * (time.perf_counter() - started))
    for _ in range(4):
        for side, client in enumerate(clients):
            started = time.perf_counter()
            await asyncio.gather(*(_worker(client, numbers, requests // 4 // _N_CLIENTS) for _ in range(_N_CLIENTS)))
            rates[side].append(requests // 4 // _N_CLIENTS * _N_CLIENTS / (time.perf_counter() - started))
    for client in clients:
        await client.aclose()
    plain, echo = (Side(np.array(one), float(np.mean(rate))) for one, rate in zip(latencies, rates, strict=True))
    return plain, echo


def _client(proxy: Proxy) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {MASTER_KEY}"}
    return httpx.AsyncClient(base_url=proxy.url, headers=headers, timeout=30, trust_env=False)


async def _worker(client: httpx.AsyncClient, numbers: "object", n: int) -> None:
    for _ in range(n):
        await _ask(client, next(numbers))  # type: ignore[call-overload]


async def _ask(client: httpx.AsyncClient, number: int) -> None:
    content = f"Which {_SUBJECTS[number % 10]} of town {number} is the oldest, and who built it?"
    body = {"model": "auto", "messages": [{"role": "user", "content": content}]}
    (await client.post("/v1/chat/completions", json=body)).raise_for_status()


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=400)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        show("Echo against plain LiteLLM", run(Path(folder), options.examples, options.requests))
    return 0


if __name__ == "__main__":
    sys.exit(main())
