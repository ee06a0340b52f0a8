"""Does an example ever cross from one tenant to another?

    python -m bench.two_tenants [--questions 100]

Both tenants ask the same questions, each twice; every prompt that reached the upstream is searched for the other
tenant's answers, which carry a mark.
"""

import argparse
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from bench.table import show
from tests.e2e.conftest import greedy_policy
from tests.e2e.proxy import Proxy, Upstream, config_for, wait_for

TENANTS = ("red", "blue")


@dataclass(frozen=True)
class Result:
    """What crossed and what did not."""

    questions: int
    own_examples_used: int
    """Answers that were given with an example of the same tenant."""
    crossed: int
    """Prompts or lists in which a tenant's text met the other's key."""


def run(folder: Path, questions: int) -> Result:
    """Red asks everything first, then blue, then both again."""
    upstream = Upstream(folder)
    upstream.start()
    proxy = Proxy(folder / "proxy", config_for(upstream), {"test": greedy_policy()})
    try:
        proxy.start()
        used = crossed = 0
        for tenant in (*TENANTS, *TENANTS):
            upstream.take_asked()
            with proxy.client(f"sk-tenant-{tenant}") as client:
                used += sum(_ask(client, tenant, number) for number in range(questions))
                wait_for(lambda client=client: _is_settled(client), 30, "settlement")
                other = next(name for name in TENANTS if name != tenant)
                seen = [str(body) for body in upstream.take_asked()]
                seen += [str(one) for one in client.get("/echo/examples?limit=500").json()]
                seen += [str(one) for one in client.get("/echo/decisions?limit=500").json()]
            crossed += sum(f"mark-{other}" in text for text in seen)
        return Result(questions, used, crossed)
    finally:
        proxy.stop()
        upstream.stop()


def _ask(client: httpx.Client, tenant: str, number: int) -> int:
    # The scripted upstream repeats the question, so the mark stands in the answer and in every example made of it.
    content = f"What is the capital of Land{number}? (mark-{tenant})"
    body = {"model": "auto", "messages": [{"role": "user", "content": content}]}
    response = client.post("/v1/chat/completions", json=body)
    response.raise_for_status()
    return int(response.headers["x-echo-examples"]) > 0


def _is_settled(client: httpx.Client) -> bool:
    counts = client.get("/echo/stats").json()["test"]["counts"]
    return float(counts.get("decisions", 0)) >= len(client.get("/echo/decisions?limit=500").json()) > 0


def main() -> int:
    """Print the result; 1 when anything crossed or no example was used at all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=100)
    questions = parser.parse_args().questions
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder), questions)
    show("two tenants with the same questions", asdict(result))
    return 0 if result.crossed == 0 and result.own_examples_used > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
