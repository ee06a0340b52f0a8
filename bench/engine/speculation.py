"""How much faster is the same text when it is guessed ahead?

    python -m bench.engine.speculation [--path large.gguf] [--little small.gguf] [--requests 120]

The large model writes descriptions (six facts, about 60 tokens). `repeated`: the retrieved answer to the same question
in other words comes along as a hint. `examples`: two descriptions of other countries stand in the prompt, so only the
frame of the sentences repeats. `others`: nothing to guess from - short questions about facts, counting, repeating
words. Each is served by four processes in turns - no drafts, lookup, a draft model, and again no drafts, which shows
how far two equal ones differ - to one client and to eight. Greedy; the texts are compared.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.engine.client import Reply, drive
from bench.engine.servers import Address, ours
from echo_proxy.demo.setup import PAIR
from echo_proxy.demo.world import Item, Relation, easy_item, make_world

_BLOCK = 8
"""Requests that a server answers before the next one's turn."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one way to draft on one kind of requests."""

    tokens_per_s: float
    """Median over the turns."""
    ratio: float
    """Of these, over those without drafts in the same turn: median."""
    low: float
    """First quartile of the ratios."""
    high: float
    """Third quartile."""
    n_same: int
    """Texts that equal those without drafts."""
    n: int


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", type=Path, default=PAIR / "large-q8_0.gguf")
    parser.add_argument("--little", type=Path, default=PAIR / "small-q8_0.gguf")
    parser.add_argument("--requests", type=int, default=120, help="of each kind")
    args = parser.parse_args()
    ways: dict[str, Mapping[str, Any]] = {
        "none": {"kind": "none"},
        "lookup": {"kind": "lookup"},
        "model": {"kind": "model", "path": str(args.little)},
        "none again": {"kind": "none"},
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        options = {"path": str(args.path), "n_ctx": 1024, "n_cells": 2048, "n_parallel": 8, "n_threads": 1}
        options |= {"n_threads_batch": 1, "type_k": "q8_0", "prefix_ram_mb": 0}
        servers = {
            way: stack.enter_context(ours(folder / str(i), {**options, "drafting": drafting}))
            for i, (way, drafting) in enumerate(ways.items())
        }
        for n_clients in (1, 8):
            show(args.path.name, n_clients, compare(servers, requests(args.requests), n_clients))


def requests(n: int) -> Mapping[str, list[Mapping[str, Any]]]:
    """Bodies by kind."""
    world, rng = make_world(), Random(5)
    countries = rng.sample(world.rare, min(n, len(world.rare)))
    repeated = [body([], world.about(one, 1), [world.about(one, 0).answer]) for one in countries]
    examples = [
        body([world.about(rng.choice(world.rare), 0) for _ in range(2)], world.about(one, 1)) for one in countries
    ]
    others = [
        world.fact(one, rng.choice(list(Relation)), 0) if i % 2 else easy_item(rng) for i, one in enumerate(countries)
    ]
    return {"repeated": repeated, "examples": examples, "others": [body([], one) for one in others]}


def body(examples: Sequence[Item], item: Item, hints: Sequence[str] = ()) -> Mapping[str, Any]:
    """A greedy request with examples in its prompt and hints beside it."""
    turns = [
        turn
        for one in examples
        for turn in ({"role": "user", "content": one.question}, {"role": "assistant", "content": one.answer})
    ]
    return {
        "messages": [*turns, {"role": "user", "content": item.question}],
        "temperature": 0,
        "max_tokens": 120,
        "echo_service": {"hints": list(hints)},
    }


def compare(
    servers: Mapping[str, Address], bodies: Mapping[str, list[Mapping[str, Any]]], n_clients: int
) -> Mapping[tuple[str, str], Figures]:
    """Figures of each (kind of requests, way to draft)."""
    return {
        (kind, way): figures
        for kind, some in bodies.items()
        for way, figures in _compare(servers, some, n_clients).items()
    }


def _compare(
    servers: Mapping[str, Address], bodies: Sequence[Mapping[str, Any]], n_clients: int
) -> Mapping[str, Figures]:
    replies: dict[str, list[Reply]] = {way: [] for way in servers}
    rates: dict[str, list[float]] = {way: [] for way in servers}
    order = list(servers)
    for start in range(0, len(bodies), _BLOCK):
        order = order[1:] + order[:1]
        for way in order:
            got, took = asyncio.run(_timed(servers[way], list(bodies[start : start + _BLOCK]), n_clients))
            replies[way] += got
            rates[way].append(sum(one.n_tokens for one in got) / took)
    return {way: _figures(way, replies, rates) for way in servers}


async def _timed(server: Address, bodies: list[Mapping[str, Any]], n_clients: int) -> tuple[list[Reply], float]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    replies = await drive(server.port, server.headers, bodies, n_clients)
    return replies, loop.time() - began


def _figures(way: str, replies: Mapping[str, list[Reply]], rates: Mapping[str, list[float]]) -> Figures:
    own = replies[way]
    bad = [one for one in own if one.status != 200]
    if bad:
        raise RuntimeError(f"expected answers, got {bad[0].status}: {bad[0].text[:200]}")
    same = sum(one.text == other.text for one, other in zip(own, replies["none"], strict=True))
    ratios = np.divide(rates[way], rates["none"])
    low, ratio, high = map(float, np.percentile(ratios, (25, 50, 75)))
    return Figures(float(np.median(rates[way])), ratio, low, high, same, len(own))


def show(model: str, n_clients: int, figures: Mapping[tuple[str, str], Figures]) -> None:
    """One row for each kind of requests and way to draft."""
    table = Table(title=f"{model}, one thread, {n_clients} client{'s' * (n_clients > 1)}")
    for name in ("requests", "drafts", "tokens/s", "x none", "quartiles", "same text"):
        table.add_column(name, justify="left" if name in ("requests", "drafts") else "right")
    for (kind, way), one in figures.items():
        spread = f"{one.low:.2f} - {one.high:.2f}"
        same = f"{one.n_same} of {one.n}"
        table.add_row(kind, way, f"{one.tokens_per_s:.0f}", f"{one.ratio:.2f}", spread, same)
    Console().print(table)


if __name__ == "__main__":
    main()
