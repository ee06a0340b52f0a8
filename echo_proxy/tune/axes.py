"""What could be changed about a model's options, and in which order is it worth trying?

What moves most comes first: where the model is computed, its quantisation, threads, how requests share steps, drafts.
Then what moves less. Number formats of the cache change the texts and come last.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from echo_proxy.local.fit import layers_that_fit
from echo_proxy.local.options import LocalModelOptions
from echo_proxy.tune.files import ModelFile
from echo_proxy.tune.records import Load, changed

_BLOCK = 32
"""Numbers that a quantised cache keeps together; a key's length must be a multiple."""
_F16 = ("f32", "f16", "bf16")
Propose = Callable[[LocalModelOptions], Sequence[LocalModelOptions]]


@dataclass(frozen=True, slots=True)
class Axis:
    """One thing that can be changed."""

    name: str
    propose: Propose
    """Options to try in place of the given ones, the most promising first."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What it is run on."""

    n_cores: int
    """That this process may use."""
    n_threads: int
    """Most threads that may be tried."""
    n_free_gpu_bytes: int = 0
    """0 = no GPU that the build can use."""


def n_usable_cores() -> int:
    """Cores that this process may run on; fewer than there are in some containers."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def all_axes(
    files: Sequence[ModelFile], machine: Machine, load: Load, n_ctx: int, draft: str | None = None
) -> tuple[Axis, ...]:
    """In the order in which they are tried."""
    by_path = {str(one.path): one for one in files}
    return (
        Axis("n_gpu_layers", lambda now: _layers(now, by_path[now.path], machine, n_ctx)),
        Axis("path", lambda now: _each(now, "path", by_path)),
        Axis("threads", lambda now: _threads(now, machine)),
        Axis("n_parallel", lambda now: _each(now, "n_parallel", _parallel(load.n_clients))),
        Axis("min_rows", lambda now: _each(now, "min_rows", (1, 2))),
        Axis("drafting", lambda now: _each(now, "drafting", _drafts(draft, now.n_gpu_layers))),
        Axis("n_cells", lambda now: _cells(now, load, n_ctx)),
        Axis("flash_attn", lambda now: _each(now, "flash_attn", (True, False))),
        Axis("n_batch", lambda now: _each(now, "n_batch", _batches(load))),
        Axis("cache type", lambda now: _cache_types(now, by_path[now.path])),
    )


def is_lossy_change(options: LocalModelOptions, incumbent: LocalModelOptions) -> bool:
    """Whether the cache keeps numbers less exactly than the incumbent's."""
    return any(
        getattr(options, name) not in _F16 and getattr(options, name) != getattr(incumbent, name)
        for name in ("type_k", "type_v")
    )


def may_differ(options: LocalModelOptions, incumbent: LocalModelOptions) -> bool:
    """Whether the texts may be others for more than rounding's sake."""
    return options.path != incumbent.path or is_lossy_change(options, incumbent)


def frugal(
    start: LocalModelOptions, files: Sequence[ModelFile], n_ctx: int, machine: Machine
) -> list[LocalModelOptions]:
    """Where to start, the best first: each takes less memory than, or another file from, the one before.

    With a GPU all begin with as many layers there as fit: it is nearly always faster, and may be the only way.
    """
    exact: list[dict[str, Any]] = [{}, {"n_cells": n_ctx}]
    eight = [{"n_cells": n_ctx, "type_k": "q8_0", "type_v": "q8_0", "flash_attn": True}]
    four = [{"n_cells": n_ctx, "type_k": "q4_0", "type_v": "q4_0", "flash_attn": True}]
    found = []
    for steps in (exact + eight, four):
        for file in files:
            base = changed(start, path=str(file.path), n_gpu_layers=_most_layers(start, file, machine, n_ctx))
            found += [changed(base, **step) for step in steps if _can_hold(file, step)]
    return found


def _can_hold(file: ModelFile, step: dict[str, Any]) -> bool:
    return "type_k" not in step or _is_quantisable(file)


def _each(now: LocalModelOptions, name: str, values: Iterable[Any]) -> list[LocalModelOptions]:
    proposed = []
    for value in values:
        try:
            one = changed(now, **{name: value})
        except ValueError:  # a quantised cache without flash attention
            continue
        if one != now:
            proposed.append(one)
    return proposed


def _layers(now: LocalModelOptions, file: ModelFile, machine: Machine, n_ctx: int) -> list[LocalModelOptions]:
    most = _most_layers(now, file, machine, n_ctx)
    return _each(now, "n_gpu_layers", dict.fromkeys((most, max(most // 2, 0), 0))) if most else []


def _most_layers(now: LocalModelOptions, file: ModelFile, machine: Machine, n_ctx: int) -> int:
    """That fit onto the GPU; -1 = all, 0 = there is none."""
    if not machine.n_free_gpu_bytes:
        return 0
    fitting = layers_that_fit(file.header, machine.n_free_gpu_bytes, now.n_cells or 2 * n_ctx)
    return -1 if fitting is None or fitting > (file.header.n_layers or 0) else fitting


def _threads(now: LocalModelOptions, machine: Machine) -> list[LocalModelOptions]:
    """Both numbers together, then each alone: a step with one row uses the first, any other the second."""
    n_cores = os.cpu_count() or 1
    writing, reading = now.n_threads or max(n_cores // 2, 1), now.n_threads_batch or n_cores
    steps = thread_counts(machine)
    pairs = [(n, n) for n in steps] + [(n, reading) for n in steps] + [(writing, n) for n in steps]
    return [
        changed(now, n_threads=one, n_threads_batch=other)
        for one, other in dict.fromkeys(pairs)
        if (one, other) != (writing, reading)
    ]


def thread_counts(machine: Machine) -> list[int]:
    """Powers of two, all cores and half of them, from many to few."""
    most = machine.n_threads
    powers = {2**i for i in range(most.bit_length()) if 2**i >= most / 16}
    return sorted({min(most, n) for n in (*powers, machine.n_cores, max(machine.n_cores // 2, 1))}, reverse=True)


def _parallel(n_clients: int) -> list[int]:
    """For one client it changes nothing."""
    if n_clients == 1:
        return []
    return sorted({n_clients, max(n_clients // 2, 1), max(n_clients // 4, 1)}, reverse=True)


def _drafts(draft: str | None, n_gpu_layers: int) -> list[dict[str, Any]]:
    layers = -1 if n_gpu_layers else 0
    by_model = [
        {"kind": "model", "path": draft, "most_tokens": n, "n_gpu_layers": layers} for n in (8, 4) if draft is not None
    ]
    return [*by_model, {"kind": "none"}, {"kind": "lookup"}]


def _cells(now: LocalModelOptions, load: Load, n_ctx: int) -> list[LocalModelOptions]:
    """Room for all requests at once, and for as much again of what is kept of earlier ones."""
    n_wanted = min(now.n_parallel, load.n_clients) * (load.n_prompt_tokens + load.n_answer_tokens)
    n_now = now.n_cells or 2 * n_ctx
    steps = [-(-n // 256) * 256 for n in (n_wanted, 2 * n_wanted)]
    return _each(now, "n_cells", [n for n in steps if n > n_now])


def _batches(load: Load) -> list[int]:
    """Not many more than there can be rows to read."""
    return [n for n in (256, 1024, 2048) if n < 2 * load.n_clients * load.n_prompt_tokens]


def _cache_types(now: LocalModelOptions, file: ModelFile) -> list[LocalModelOptions]:
    if not _is_quantisable(file):
        return []
    return [changed(now, type_k=one, type_v=one, flash_attn=True) for one in ("q8_0", "q4_0") if one != now.type_k]


def _is_quantisable(file: ModelFile) -> bool:
    header = file.header
    length = header.head_length or (header.embedding_length or 0) // (header.n_heads or 1)
    return length % _BLOCK == 0
