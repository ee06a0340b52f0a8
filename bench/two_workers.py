"""Do two workers learn from one another, and does a restart lose what was acknowledged?

    python -m bench.two_workers

Two worker processes of one proxy on one Redis. Feedback goes to whichever worker answers; readers ask over many fresh
connections until both workers have answered. Then the proxy is restarted on the same store.
"""

import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.table import show
from tests.e2e.proxy import Proxy, Upstream, config_for, policy_for, wait_for

_N_CLIENTS = 24
"""Fresh connections; the kernel spreads them over the workers."""


@dataclass(frozen=True)
class Result:
    """What the workers knew of one another's outcomes."""

    workers_seen: int
    seconds_until_all_agree: float
    """From the last acknowledged feedback until every worker reports all of its evidence."""
    weight_before_restart: float
    weight_after_restart: float
    examples_before_restart: int
    examples_after_restart: int


def run(folder: Path, requests: int = 40) -> Result:
    """Teach over many connections, wait until both agree, restart."""
    upstream = Upstream(folder)
    upstream.start()
    policy = {"test": policy_for()}
    proxy = Proxy(folder / "proxy", config_for(upstream), policy, workers=2)
    try:
        proxy.start()
        for number in range(requests):
            _ask_and_thank(proxy, number)
        started = time.monotonic()
        states = wait_for(lambda: _all_agree(proxy, float(requests)), 20, "agreement of the workers")
        took = time.monotonic() - started
        weight, examples = _state(proxy)
        proxy.stop()
        proxy.start()
        weight_after, examples_after = wait_for(lambda: _state(proxy), what="state after the restart")
        return Result(len(states), took, weight, weight_after, examples, examples_after)
    finally:
        proxy.stop()
        upstream.stop()


def _ask_and_thank(proxy: Proxy, number: int) -> None:
    with proxy.client() as client:
        body = {"model": "auto", "messages": [{"role": "user", "content": f"What is {number} plus {number % 7}?"}]}
        response = client.post("/v1/chat/completions", json=body)
        identity = response.headers["x-echo-decision-id"]
    with proxy.client() as other:
        other.post("/echo/feedback", json={"decision_id": identity, "score": 1.0}).raise_for_status()


def _all_agree(proxy: Proxy, weight: float) -> dict[int, float]:
    """Evidence weight by worker once every one of at least two knows all of it; empty before."""
    known = {}
    for _ in range(_N_CLIENTS):
        with proxy.client() as client:
            stats = client.get("/echo/stats").json()["test"]
        known[int(stats["worker"])] = sum(arm["weight"] for arm in stats["arms"])
    is_agreed = len(known) >= 2 and all(abs(value - weight) < 0.01 * weight for value in known.values())
    return known if is_agreed else {}


def _state(proxy: Proxy) -> tuple[float, int]:
    with proxy.client() as client:
        stats = client.get("/echo/stats").json()["test"]
        examples = client.get("/echo/examples?limit=500").json()
    return sum(arm["weight"] for arm in stats["arms"]), len(examples)


def main() -> int:
    """Print the result; 1 when the workers took longer than 2 s or the restart lost something."""
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder))
    show("two workers, then a restart", asdict(result))
    kept = abs(result.weight_after_restart - result.weight_before_restart) < 0.01 * result.weight_before_restart
    same = result.examples_after_restart == result.examples_before_restart
    return 0 if result.seconds_until_all_agree <= 2 and kept and same else 1


if __name__ == "__main__":
    sys.exit(main())
