"""How much sooner does an answer begin when the beginning of its prompt was read before?

    python -m bench.engine.prefix [--model small|large] [--tokens 600] [--rounds 40]

Prompts of a block of examples, at least `--tokens` tokens long, and a question of their own. Cold: every prompt has
another block. Warm: a block that was read for another question stands in the context. Restored: its state had to leave
the context and comes back from memory. The three take turns.
"""

import argparse
import asyncio
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.engine.client import Connection, Reply
from bench.engine.servers import Address, ours
from echo_proxy.demo.setup import PAIR
from echo_proxy.demo.world import Relation, World, make_world

_TOKENS_PER_EXAMPLE = 24
"""Fewer than any has, so that the block is never shorter than it was asked for."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("small", "large"), default="large")
    parser.add_argument("--tokens", type=int, default=600, help="of the block of examples, at least")
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    options = {"path": str(PAIR / f"{args.model}-q8_0.gguf"), "n_ctx": 1024, "n_cells": 2048, "n_threads": 1}
    options |= {"n_threads_batch": 1, "type_k": "q8_0", "prefix_ram_mb": 256}
    with tempfile.TemporaryDirectory() as folder, ours(Path(folder), options) as server:
        show(args.model, asyncio.run(measure(server, args.tokens, args.rounds)))


async def measure(server: Address, n_tokens: int, rounds: int) -> Mapping[str, Sequence[Reply]]:
    """Replies to cold, warm and restored prompts."""
    connection = Connection(server.port, server.headers)
    blocks = make_blocks(n_tokens)
    replies: dict[str, list[Reply]] = {"cold": [], "warm": [], "restored": []}
    for _ in range(rounds):
        block = next(blocks)
        replies["cold"].append(await connection.ask(body(block, 0)))
        replies["warm"].append(await connection.ask(body(block, 1)))
        for other in (next(blocks), next(blocks), next(blocks)):  # together they need more than the context has
            await connection.ask(body(other, 0))
        replies["restored"].append(await connection.ask(body(block, 2)))
    connection.close()
    return replies


def make_blocks(n_tokens: int) -> Iterator[list[dict[str, str]]]:
    """Turns of examples, another block each time."""
    world, rng = make_world(), random.Random(3)
    while True:
        yield [turn for _ in range(n_tokens // _TOKENS_PER_EXAMPLE) for turn in _example(world, rng)]


def _example(world: World, rng: random.Random) -> list[dict[str, str]]:
    item = world.fact(rng.choice(world.rare), rng.choice(list(Relation)), rng.randrange(3))
    return [{"role": "user", "content": item.question}, {"role": "assistant", "content": item.answer}]


def body(block: Sequence[Mapping[str, str]], number: int) -> Mapping[str, Any]:
    """A greedy request after the block."""
    world = make_world()
    question = world.fact(world.famous[number], Relation.CAPITAL, 0).question
    return {"messages": [*block, {"role": "user", "content": question}], "temperature": 0, "max_tokens": 16}


def show(model: str, replies: Mapping[str, Sequence[Reply]]) -> None:
    """One row for each kind of prompt."""
    table = Table("prompt", "first text, ms (median)", "90th pct", "x", title=f"{model} model, one thread, one client")
    medians = {name: float(np.median([one.first_s for one in some])) for name, some in replies.items()}
    for name, some in replies.items():
        high = np.percentile([one.first_s for one in some], 90)
        ratio = medians["cold"] / medians[name]
        table.add_row(name, f"{1e3 * medians[name]:.2f}", f"{1e3 * high:.2f}", f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
