"""How many tokens a second do the models make? llama.cpp on one thread, flash attention off.

    python -m bench.pair.speed                                      # the bundled pair
    python -m bench.pair.speed models/xl.gguf                       # and others

Steps of 1, 2 and 8 rows (that many sequences decode together) and a prompt of 512 tokens. The best of several rounds,
the models in turn, so that the machine's other work counts less. Needs the extra `local`.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
from rich.console import Console
from rich.table import Table

from bench.pair.evaluate import PAIR

_ROWS = (1, 2, 8)
_FILLED = 128
"""Tokens that stand in each sequence before the steps."""
_STEPS = 24
_PROMPT = 512


class Context:
    """One model with an open context. Tokens are arbitrary: their number alone costs time."""

    def __init__(self, path: Path, n_threads: int) -> None:
        parameters = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            raise FileNotFoundError(f"expected a GGUF file that llama.cpp can load, got {path}")
        self._context = self._open(n_threads)
        self._batch: Any = llama_cpp.llama_batch_init(_PROMPT, 0, 1)

    def _open(self, n_threads: int) -> Any:
        given = llama_cpp.llama_context_default_params()
        given.n_ctx = max(_ROWS) * (_FILLED + _STEPS)
        given.n_batch = given.n_ubatch = _PROMPT
        given.n_seq_max, given.kv_unified = max(_ROWS), True
        given.n_threads = given.n_threads_batch = n_threads
        given.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        return llama_cpp.llama_init_from_model(self._model, given)

    def prefill_s(self) -> float:
        """Seconds for one prompt of _PROMPT tokens."""
        self._clear()
        return self._decode([(0, position) for position in range(_PROMPT)], [_PROMPT - 1])

    def step_s(self, n_rows: int) -> float:
        """Mean seconds for a step of n_rows sequences."""
        self._clear()
        for row in range(n_rows):
            self._decode([(row, position) for position in range(_FILLED)], [_FILLED - 1])
        every = list(range(n_rows))
        return sum(self._decode([(row, _FILLED + step) for row in every], every) for step in range(_STEPS)) / _STEPS

    def _clear(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)

    def _decode(self, places: Sequence[tuple[int, int]], wanted: Sequence[int]) -> float:
        """Seconds to read one token per (sequence, position); logits are made where wanted."""
        batch = self._batch
        batch.n_tokens = len(places)
        for index, (row, position) in enumerate(places):
            batch.token[index], batch.pos[index] = 300 + position % 500, position
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, row
            batch.logits[index] = index in wanted
        started = time.perf_counter()
        status = llama_cpp.llama_decode(self._context, batch)
        llama_cpp.llama_synchronize(self._context)
        spent_s = time.perf_counter() - started
        if status:
            raise RuntimeError(f"llama_decode must return 0, got {status}")
        return spent_s


def measure(paths: Sequence[Path], n_threads: int, rounds: int) -> dict[str, dict[str, float]]:
    """Model > figure > tokens per second."""
    contexts = {path.stem: Context(path, n_threads) for path in paths}
    best = {name: {f"{rows} rows": float("inf") for rows in _ROWS} | {"prompt": float("inf")} for name in contexts}
    for _ in range(rounds):
        for name, context in contexts.items():
            took = {f"{rows} rows": context.step_s(rows) / rows for rows in _ROWS}
            took["prompt"] = context.prefill_s() / _PROMPT
            best[name] = {figure: min(best[name][figure], took[figure]) for figure in took}
    return {name: {figure: 1 / spent_s for figure, spent_s in row.items()} for name, row in best.items()}


def main() -> None:
    """Print tokens a second, and how many times as many the first model makes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("others", type=Path, nargs="*")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    silent = llama_cpp.llama_log_callback(lambda *_: None)  # must outlive its use
    llama_cpp.llama_log_set(silent, None)
    pair = [PAIR / "small-q8_0.gguf", PAIR / "large-q8_0.gguf"]
    found = measure([*pair, *options.others], options.threads, options.rounds)
    first = next(iter(found.values()))
    table = Table("tokens a second (times less than the first)", *first, title=f"{options.threads} threads")
    for name, row in found.items():
        table.add_row(name, *(f"{row[figure]:.0f} ({first[figure] / row[figure]:.1f})" for figure in first))
    Console().print(table)


if __name__ == "__main__":
    main()
