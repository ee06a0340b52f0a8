"""How much memory would a candidate take, and how much is there?"""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from echo_proxy.local.gguf import GgufHeader
from echo_proxy.local.options import LocalModelOptions, ModelDrafts
from echo_proxy.tune.files import ModelFile

_MARGIN = 0.9
"""Share of what is free that may be used; the rest is for what else runs. guess, not yet measured"""
_PROCESS_BYTES = 64 * 2**20
"""Python and libraries, before anything is loaded: 56 MiB measured."""
_BYTES_PER_NUMBER: Mapping[str, float] = {
    "f32": 4, "f16": 2, "bf16": 2, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32, "q4_0": 18 / 32
}  # fmt: skip
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Need:
    """Memory of one candidate."""

    n_weight_bytes: int
    """Of the files, which processes that map the same ones share."""
    n_own_bytes: int
    """Cells and everything else in the machine's memory."""
    n_gpu_bytes: int

    @property
    def n_bytes(self) -> int:
        """In the machine's memory, when it runs alone."""
        return self.n_weight_bytes + self.n_own_bytes


@dataclass(frozen=True, slots=True)
class Bounds:
    """What there is."""

    n_bytes: int
    """That one candidate may take."""
    n_free_bytes: int
    """That all which run at once may take."""
    n_free_gpu_bytes: int = 0


class MemoryEstimate:
    """Estimates from the headers."""

    def __init__(self, files: Iterable[ModelFile], n_ctx: int, draft: ModelFile | None = None) -> None:
        self._files = {str(one.path): one for one in files}
        self._draft = draft
        self._n_ctx = n_ctx
        self._n_more_bytes = _PROCESS_BYTES

    def calibrate(self, options: LocalModelOptions, n_measured_bytes: int) -> None:
        """Learn what files and cells do not explain, such as buffers, from what a process really held."""
        unexplained = n_measured_bytes - (self.need(options).n_bytes - self._n_more_bytes)
        self._n_more_bytes = max(unexplained, _PROCESS_BYTES)

    def need(self, options: LocalModelOptions) -> Need:
        """What these options would take."""
        file = self._files[options.path]
        n_cells = options.n_cells or 2 * self._n_ctx
        share = _gpu_share(file.header, options.n_gpu_layers)
        cells = n_cells * _bytes_per_cell(file.header, options)
        weights, own, gpu = file.n_bytes * (1 - share), cells * (1 - share), (file.n_bytes + cells) * share
        if isinstance(options.drafting, ModelDrafts) and self._draft is not None:
            more, header = self._draft.n_bytes, self._draft.header
            cells = n_cells * _bytes_per_cell(header, options)
            share = _gpu_share(header, options.drafting.n_gpu_layers)
            weights, own, gpu = weights + more * (1 - share), own + cells * (1 - share), gpu + (more + cells) * share
        return Need(int(weights), int(own) + self._n_more_bytes, int(gpu))

    def fit_together(self, options: Iterable[LocalModelOptions], bounds: Bounds) -> bool:
        """Whether all of them can run at the same time."""
        needs = {one: self.need(one) for one in options}
        weights: dict[str, int] = {}
        for one, need in needs.items():
            weights[one.path] = max(weights.get(one.path, 0), need.n_weight_bytes)
        own = sum(need.n_own_bytes for need in needs.values())
        gpu = sum(need.n_gpu_bytes for need in needs.values())
        return sum(weights.values()) + own <= bounds.n_free_bytes and gpu <= bounds.n_free_gpu_bytes


def _bytes_per_cell(header: GgufHeader, options: LocalModelOptions) -> float:
    half = header.n_bytes_per_cell / 2 / _BYTES_PER_NUMBER["f16"]  # numbers of keys, and as many of values
    return half * (_BYTES_PER_NUMBER[options.type_k] + _BYTES_PER_NUMBER[options.type_v])


def _gpu_share(header: GgufHeader, n_gpu_layers: int) -> float:
    if n_gpu_layers < 0:
        return 1.0
    return min(n_gpu_layers / ((header.n_layers or 0) + 1), 1.0)


def free_bytes(read: Callable[[Path], str] = Path.read_text) -> int:
    """Memory that could be used now, less a margin; in a container, what its limit leaves."""
    found = [_meminfo(read), _cgroup(read)]
    known = [one for one in found if one is not None]
    if not known:  # no Linux: half of what is built in
        known = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2]
    return int(min(known) * _MARGIN)


def _meminfo(read: Callable[[Path], str]) -> int | None:
    try:
        lines = read(Path("/proc/meminfo")).splitlines()
        return next(int(one.split()[1]) * 1024 for one in lines if one.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None


def _cgroup(read: Callable[[Path], str]) -> int | None:
    try:
        return int(read(_CGROUP / "memory.max")) - int(read(_CGROUP / "memory.current"))
    except (OSError, ValueError):  # not limited reads "max"
        return None
