"""What does the engine do with three times more than it can do?

    python -m bench.engine.overload [--seconds 60] [--times 3] [--model large]

First its capacity is measured: sixteen clients that each wait for their answer. Then requests arrive by chance
(Poisson) at three times that rate, whatever becomes of them; one in ten has priority and a deadline of eight times the
time that an answer takes at that capacity, the others have none. Three tenants send: one of them half of everything.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import psutil

from bench.engine.client import Connection, Reply, drive
from bench.engine.servers import Address, ours
from bench.engine.serving import body, questions
from bench.table import show
from echo_proxy.demo.setup import PAIR

_HIGH_SHARE = 0.1
_DEADLINE_TIMES = 8.0
_TENANTS = ("loud", "loud", "quiet", "other")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request and when it comes."""

    at_s: float
    body: Mapping[str, Any]
    is_high: bool
    tenant: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    arrival: Arrival
    reply: Reply
    ended_s: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("small", "large"), default="large")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--times", type=float, default=3.0, help="of the measured capacity")
    args = parser.parse_args()
    options = {"path": str(PAIR / f"{args.model}-q8_0.gguf"), "n_ctx": 1024, "n_cells": 2048, "n_parallel": 8}
    options |= {"n_threads": 1, "n_threads_batch": 1, "min_rows": 2, "max_queue": 64, "max_queue_s": 10.0}
    with tempfile.TemporaryDirectory() as folder, ours(Path(folder), options) as server:
        show(f"overload, {args.model} model, one thread", asyncio.run(measure(server, args.seconds, args.times)))


async def measure(server: Address, seconds: float, times: float) -> Mapping[str, object]:
    """Figures of one run."""
    asked = questions(4000)
    capacity, answer_s = await _capacity(server, asked)
    deadline_s = _DEADLINE_TIMES * answer_s
    arrivals = plan(asked, times * capacity, seconds, deadline_s)
    process = _model_process()
    sizes: list[float] = []
    watch = asyncio.create_task(_watch(process, sizes))
    outcomes = await _send(server, arrivals)
    watch.cancel()
    return figures(outcomes, capacity, deadline_s, sizes)


async def _capacity(server: Address, asked: Sequence[str]) -> tuple[float, float]:
    """Requests per second and the median time of an answer, with sixteen clients."""
    await drive(server.port, server.headers, [body(one) for one in asked[:64]], 8)
    loop = asyncio.get_running_loop()
    began = loop.time()
    replies = await drive(server.port, server.headers, [body(one) for one in asked[64:564]], 16)
    return len(replies) / (loop.time() - began), float(np.median([one.whole_s for one in replies]))


def plan(asked: Sequence[str], rate: float, seconds: float, deadline_s: float) -> list[Arrival]:
    """Poisson arrivals."""
    rng, at, arrivals = Random(9), 0.0, []
    while (at := at + rng.expovariate(rate)) < seconds:
        is_high, tenant = rng.random() < _HIGH_SHARE, rng.choice(_TENANTS)
        service: dict[str, Any] = {"scope": tenant, "priority": 10 if is_high else 0}
        if is_high:
            service["deadline_s"] = deadline_s
        arrivals.append(Arrival(at, {**body(rng.choice(asked)), "echo_service": service}, is_high, tenant))
    return arrivals


async def _send(server: Address, arrivals: Sequence[Arrival]) -> list[Outcome]:
    loop = asyncio.get_running_loop()
    began, free = loop.time(), []
    outcomes: list[Outcome] = []

    async def ask(arrival: Arrival) -> None:
        connection = free.pop() if free else Connection(server.port, server.headers)
        reply = await connection.ask(arrival.body)
        free.append(connection)
        outcomes.append(Outcome(arrival, reply, loop.time() - began))

    tasks = []
    for arrival in arrivals:
        await asyncio.sleep(max(began + arrival.at_s - loop.time(), 0))
        tasks.append(asyncio.create_task(ask(arrival)))
    await asyncio.gather(*tasks)
    return outcomes


def _model_process() -> psutil.Process:
    children = psutil.Process().children(recursive=True)
    return next(one for one in children if "echo_proxy.local.child" in " ".join(one.cmdline()))


async def _watch(process: psutil.Process, sizes: list[float]) -> None:
    while True:
        sizes.append(process.memory_info().rss / 1e6)
        await asyncio.sleep(1.0)


def figures(
    outcomes: Sequence[Outcome], capacity: float, deadline_s: float, sizes: Sequence[float]
) -> dict[str, object]:
    """What a reader wants to know."""
    answered = [one for one in outcomes if one.reply.status == 200]
    refused = [one for one in outcomes if one.reply.status == 429]
    high = [one for one in outcomes if one.arrival.is_high]
    in_time = [one for one in high if one.reply.status == 200 and one.reply.whole_s <= deadline_s]
    ends = np.sort([one.ended_s for one in answered])
    usual = [one.reply.whole_s for one in answered if not one.arrival.is_high]
    shares = {tenant: _share(outcomes, tenant) for tenant in sorted(set(_TENANTS))}
    return {
        "capacity, requests/s": capacity,
        "offered, requests/s": len(outcomes) / float(ends[-1]),
        "answered, requests/s": len(answered) / float(ends[-1]),
        "requests": len(outcomes),
        "answered": len(answered),
        "refused with 429": len(refused),
        "anything else": len(outcomes) - len(answered) - len(refused),
        "time of a refusal, ms (99th pct)": 1e3 * float(np.percentile([one.reply.whole_s for one in refused], 99)),
        "deadline of those with priority, ms": 1e3 * deadline_s,
        "with priority, in time": f"{len(in_time)} of {len(high)} ({100 * len(in_time) / len(high):.1f} %)",
        "without priority, answered after, s (p50, p99)": "{:.2f}, {:.2f}".format(*np.percentile(usual, (50, 99))),
        "answered of each tenant's": ", ".join(f"{name} {share:.2f}" for name, share in shares.items()),
        "longest time without any answer, ms": 1e3 * float(np.diff(ends).max()),
        "memory, MB (after 5 s, at the end)": f"{sizes[min(5, len(sizes) - 1)]:.1f}, {sizes[-1]:.1f}",
    }


def _share(outcomes: Sequence[Outcome], tenant: str) -> float:
    own = [one for one in outcomes if one.arrival.tenant == tenant]
    return sum(one.reply.status == 200 for one in own) / len(own)


if __name__ == "__main__":
    main()
