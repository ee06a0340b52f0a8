"""Is a stream that its reader left ever kept?

    python -m bench.early_disconnects [--requests 200] [--leave 50]

Every question is new and goes to the teacher, so each answer that was read to its end becomes an example.
"""

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from bench.table import show
from tests.e2e.proxy import ALWAYS_LARGE, Proxy, Upstream, config_for, policy_for, wait_for

_WORDS = 40


@dataclass(frozen=True)
class Result:
    """What was kept of streamed answers."""

    requests: int
    left_early: int
    admitted_of_left: int
    read_to_end: int
    admitted_of_read: int


def run(folder: Path, requests: int, leave: int) -> Result:
    """Every (requests / leave)th reader leaves after a few chunks."""
    upstream = Upstream(folder, word_s=0.005)
    upstream.start()
    # Every question differs by a number only: near ones must not count as the same here.
    admission = {"duplicate_distance": 0.0}
    policy = policy_for(bandit=ALWAYS_LARGE, admission=admission)
    proxy = Proxy(folder / "proxy", config_for(upstream), {"test": policy})
    try:
        proxy.start()
        with proxy.client() as client:
            every = requests // leave

            def one(number: int) -> tuple[str, bool]:
                return _read(client, number, leaves=number % every == 0)

            with ThreadPoolExecutor(8) as pool:
                asked = list(pool.map(one, range(requests)))
            wait_for(lambda: _settled(client) >= requests, 30, "settlement of all streams")
            examples = client.get("/echo/examples?limit=500").json()
        kept = {example["id"] for example in examples}
        left = [identity for identity, has_left in asked if has_left]
        read = [identity for identity, has_left in asked if not has_left]
        return Result(requests, len(left), len(kept & set(left)), len(read), len(kept & set(read)))
    finally:
        proxy.stop()
        upstream.stop()


def _read(client: httpx.Client, number: int, leaves: bool) -> tuple[str, bool]:
    content = f"Question number {number} [words {_WORDS}]"
    body = {"model": "auto", "stream": True, "messages": [{"role": "user", "content": content}]}
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        for count, _ in enumerate(response.iter_lines()):
            if leaves and count > 4 + number % 20:
                break
        return response.headers["x-echo-decision-id"], leaves


def _settled(client: httpx.Client) -> float:
    return float(client.get("/echo/stats").json()["test"]["counts"].get("decisions", 0))


def main() -> int:
    """Print the result; 1 when a stream that was left has been kept, or one that was read has not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--leave", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder), options.requests, options.leave)
    show("streams that their readers leave", asdict(result))
    return 0 if result.admitted_of_left == 0 and result.admitted_of_read == result.read_to_end else 1


if __name__ == "__main__":
    sys.exit(main())
