"""How many requests does the local engine answer, beside the servers that one would use instead?

    python -m bench.engine.serving [--llama-server PATH] [--requests 300] [--model small|large]

The same file, one thread each, the same questions of the pair's world (all different, greedy), streamed, asked by 1, 4,
8 and 16 clients that each wait for their answer. The servers take turns in blocks within one run, so that a noisy
machine is noisy for all. llama-server is not in Debian 12; it is built from the very sources of llama-cpp-python:
`cmake -S vendor/llama.cpp -B build -DLLAMA_CURL=OFF && cmake --build build --target llama-server`.
"""

import argparse
import asyncio
import random
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.engine.client import Reply, drive
from bench.engine.servers import Address, llama_cpp_server, llama_server, ours
from echo_proxy.demo.setup import PAIR
from echo_proxy.demo.world import Relation, make_world

_CLIENTS = (1, 4, 8, 16)
_N_CTX = 2048
_BLOCKS = 4


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one server with so many clients."""

    requests_per_s: float
    first_ms: float
    p50_ms: float
    p99_ms: float


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-server", type=Path, help="the binary; left out when it is not given")
    parser.add_argument("--requests", type=int, default=320, help="for each server and number of clients")
    parser.add_argument("--model", choices=("small", "large"), default="small")
    args = parser.parse_args()
    path = PAIR / f"{args.model}-q8_0.gguf"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        options = {"path": str(path), "n_ctx": 1024, "n_cells": _N_CTX, "n_parallel": 16, "n_threads": 1}
        options |= {"n_threads_batch": 1, "type_k": "q8_0", "load": "start"}
        servers = [stack.enter_context(ours(folder, options))]
        servers.append(stack.enter_context(llama_cpp_server(path, _N_CTX)))
        if args.llama_server:
            servers.append(stack.enter_context(llama_server(args.llama_server, path, _N_CTX, 16)))
        show(args.model, compare(servers, args.requests))


def compare(servers: Sequence[Address], n_requests: int) -> Mapping[tuple[str, int], Figures]:
    """Figures of every server and number of clients."""
    asked = questions(len(_CLIENTS) * n_requests + 64)
    for server in servers:
        asyncio.run(drive(server.port, server.headers, [body(asked[i]) for i in range(64)], 8))
    figures = {}
    for at, n_clients in enumerate(_CLIENTS):
        own = asked[64 + at * n_requests : 64 + (at + 1) * n_requests]
        replies: dict[str, list[Reply]] = defaultdict(list)
        seconds: dict[str, float] = defaultdict(float)
        for block in range(_BLOCKS):
            bodies = [body(one) for one in own[block::_BLOCKS]]
            for server in servers[block % len(servers) :] + servers[: block % len(servers)]:
                took = asyncio.run(_timed(server, bodies, n_clients, replies[server.name]))
                seconds[server.name] += took
        figures |= {(name, n_clients): _figures(replies[name], seconds[name]) for name in replies}
    return figures


async def _timed(server: Address, bodies: list[Mapping[str, Any]], n_clients: int, into: list[Reply]) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    into += await drive(server.port, server.headers, bodies, n_clients)
    return loop.time() - began


def _figures(replies: Sequence[Reply], seconds: float) -> Figures:
    bad = [one for one in replies if one.status != 200]
    if bad:
        raise RuntimeError(f"expected answers, got {len(bad)} errors such as {bad[0].status}: {bad[0].text[:200]}")
    whole = 1e3 * np.array([one.whole_s for one in replies])
    first = 1e3 * np.array([one.first_s for one in replies])
    p50, p99 = np.percentile(whole, (50, 99))
    return Figures(len(replies) / seconds, float(np.median(first)), float(p50), float(p99))


def questions(n: int) -> list[str]:
    """Different questions of the world, in a fixed random order; again from the start when they run out."""
    world = make_world()
    countries = [*world.rare, *world.famous]
    found = [world.fact(one, relation, form).question for one in countries for relation in Relation for form in (0, 1)]
    random.Random(4).shuffle(found)
    return [found[i % len(found)] for i in range(n)]


def body(question: str) -> Mapping[str, Any]:
    """A greedy request."""
    return {
        "model": "echo",
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 48,
    }


def show(model: str, figures: Mapping[tuple[str, int], Figures]) -> None:
    """One row for each number of clients and server."""
    table = Table(title=f"{model} model, one thread; x = requests/s of ours over theirs")
    for name in ("clients", "server", "requests/s", "x", "first text, ms (median)", "p50 ms", "p99 ms"):
        table.add_column(name, justify="left" if name == "server" else "right")
    for (name, n_clients), one in figures.items():
        ratio = figures["echo", n_clients].requests_per_s / one.requests_per_s
        numbers = (one.first_ms, one.p50_ms, one.p99_ms)
        shown = [f"{one.requests_per_s:.0f}", f"{ratio:.2f}", *(f"{number:.1f}" for number in numbers)]
        table.add_row(str(n_clients), name, *shown, end_section=name == list(figures)[-1][0])
    Console().print(table)


if __name__ == "__main__":
    main()
