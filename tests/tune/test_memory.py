from pathlib import Path

import pytest

from echo_proxy.local.options import LocalModelOptions
from echo_proxy.tune.memory import Bounds, MemoryEstimate, free_bytes
from echo_proxy.tune.records import changed
from tests.tune.surface import FILE, GIB, START

CELLS_BYTES = 2048 * FILE.header.n_bytes_per_cell


def need(options: LocalModelOptions) -> int:
    return MemoryEstimate([FILE], 1024).need(options).n_bytes


def test_cells_cost_what_the_header_says() -> None:
    """By default twice the context of them."""
    assert need(changed(START, n_cells=4096)) - need(START) == CELLS_BYTES
    assert MemoryEstimate([FILE], 1024).need(START).n_weight_bytes == FILE.n_bytes


def test_a_quantised_cache_costs_less() -> None:
    """34 bytes for 32 numbers instead of 64."""
    smaller = changed(START, type_k="q8_0", type_v="q8_0", flash_attn=True)

    assert need(START) - need(smaller) == CELLS_BYTES * (1 - 34 / 64)


def test_what_is_on_the_gpu_is_not_in_memory() -> None:
    """A part of weights and cells, or all."""
    part = MemoryEstimate([FILE], 1024).need(changed(START, n_gpu_layers=2))
    whole = MemoryEstimate([FILE], 1024).need(changed(START, n_gpu_layers=-1))

    assert part.n_gpu_bytes == int((GIB + CELLS_BYTES) * 2 / 5)
    assert (whole.n_gpu_bytes, whole.n_weight_bytes) == (GIB + CELLS_BYTES, 0)


def test_what_was_measured_corrects_the_estimate() -> None:
    """Buffers are in no header."""
    estimate = MemoryEstimate([FILE], 1024)
    estimate.calibrate(START, 3 * GIB)

    assert estimate.need(START).n_bytes == 3 * GIB
    assert estimate.need(changed(START, n_cells=4096)).n_bytes == 3 * GIB + CELLS_BYTES


def test_processes_of_one_file_share_its_pages() -> None:
    """Two candidates of 1 GiB fit into 1.5 GiB, but not beside each other on a GPU of the same size."""
    estimate = MemoryEstimate([FILE], 1024)
    bounds = Bounds(GIB, 3 * GIB // 2, 3 * GIB // 2)
    other = changed(START, min_rows=2)

    assert estimate.fit_together([START, other], bounds)
    assert not estimate.fit_together([changed(one, n_gpu_layers=-1) for one in (START, other)], bounds)


@pytest.mark.parametrize(("limit", "expected"), [("max", 900), (str(500 * 1024), 360)])
def test_free_memory_is_what_the_container_leaves(limit: str, expected: int) -> None:
    """Less a tenth."""
    files = {
        "/proc/meminfo": "MemTotal: 9999 kB\nMemAvailable: 1000 kB\n",
        "/sys/fs/cgroup/memory.max": f"{limit}\n",
        "/sys/fs/cgroup/memory.current": f"{100 * 1024}\n",
    }

    def read(path: Path) -> str:
        return files[str(path)]

    assert free_bytes(read) // 1024 == expected
