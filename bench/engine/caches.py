"""Which number format of the cache is fast here, and with which are texts the same alone and in a batch?

    python -m bench.engine.caches [--past 512] [--requests 48]

Times are those of the thread that computes, best of several: 512 tokens of a prompt, and steps of 1, 2 and 8 rows after
`--past` tokens. Texts: greedy answers to questions of the pair's world, half of them about names that it does not have,
where many tokens are all but equally likely; asked by one client and by twelve at once, without drafts.
"""

import argparse
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.engine.local_engine import ask, engine
from bench.engine.serving import body, questions
from echo_proxy.demo.setup import PAIR
from echo_proxy.engine.runner import Run, Runner
from echo_proxy.llama.load import load_runner
from echo_proxy.local.options import parse_model

_CACHES: Mapping[str, Mapping[str, Any]] = {
    "f16": {},
    "f32": {"type_k": "f32", "type_v": "f32"},
    "K q8_0, V f16": {"type_k": "q8_0"},
    "q8_0, flash attention": {"type_k": "q8_0", "type_v": "q8_0", "flash_attn": True},
    "f16, flash attention": {"flash_attn": True},
}
_PROMPT = 512
_TRIES = 8


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--past", type=int, default=512, help="tokens of context before a step")
    parser.add_argument("--requests", type=int, default=48)
    args = parser.parse_args()
    table = Table(title=f"one thread; ms of a decode, steps after {args.past} tokens")
    for name in ("model", "cache", f"prompt of {_PROMPT}", "1 row", "2 rows", "8 rows", "texts that differ"):
        table.add_column(name, justify="left" if name in ("model", "cache") else "right")
    for size in ("small", "large"):
        for cache, formats in _CACHES.items():
            options = {"path": str(PAIR / f"{size}-q8_0.gguf"), "n_ctx": 1024, "n_cells": 2048, "n_threads": 1}
            options |= {"n_threads_batch": 1, "n_parallel": 12, **formats}
            times = [f"{1e3 * seconds:.2f}" for seconds in decode_s(options, args.past)]
            table.add_row(size, cache, *times, f"{n_different(options, args.requests)} of {args.requests}")
    Console().print(table)


def decode_s(options: Mapping[str, Any], past: int) -> list[float]:
    """Seconds of a prompt, and of steps of 1, 2 and 8 rows."""
    loaded = load_runner(parse_model("bench", dict(options)).options)
    try:
        return [_best_s(loaded.runner, 0, _PROMPT), *(_best_s(loaded.runner, past, n) for n in (1, 2, 8))]
    finally:
        loaded.close()


def _best_s(runner: Runner, past: int, n_rows: int) -> float:
    tokens, taken = [5 + i % 900 for i in range(past + n_rows)], []
    for _ in range(_TRIES):
        if past:
            runner.decode([Run(tokens[:past], 0, (0,), 0)])
        began = time.thread_time()
        runner.decode([Run(tokens[past:], past, (0,), min(n_rows, 8))])
        runner.logits(n_rows - 1)
        taken.append(time.thread_time() - began)
        runner.cut(0, 0)
    return min(taken)


def n_different(options: Mapping[str, Any], n: int) -> int:
    """Answers that are another text beside eleven others than alone."""
    known = questions(n // 2)
    strange = [f"What is the capital of {name}ia?" for name in _names(n - len(known))]
    bodies = [body(one) for one in (*known, *strange)]
    with engine({**options, "drafting": {"kind": "none"}}) as one:
        alone, together = ask(one, bodies), ask(one, bodies, n_clients=12)
    return sum(a.text != b.text for a, b in zip(alone.answers, together.answers, strict=True))


def _names(n: int) -> list[str]:
    return [
        f"{first}{second}" for first in ("Sku", "Bre", "Vla", "Dro", "Kim") for second in ("l", "sk", "nt", "rg", "pp")
    ][:n]


if __name__ == "__main__":
    main()
