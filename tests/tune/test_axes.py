import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.local.gguf import GgufHeader
from echo_proxy.tune.axes import Machine, all_axes, frugal, is_lossy_change, thread_counts
from echo_proxy.tune.files import ModelFile
from echo_proxy.tune.records import Load, changed
from tests.tune.surface import FILE, GIB, LOAD, START

MANY = Load(8, 8, 300, 100)


def proposed(name: str, machine: Machine, load: Load = LOAD, file: ModelFile = FILE, **now: object) -> list[object]:
    axis = next(one for one in all_axes([file], machine, load, 1024, "/m/draft.gguf") if one.name == name)
    field = {"threads": "n_threads", "cache type": "type_k"}.get(name, name)
    return [getattr(one, field) for one in axis.propose(changed(START, **now))]


@given(st.integers(1, 256), st.integers(1, 1024))
def test_threads_stay_within_what_is_allowed(n_cores: int, most: int) -> None:
    """And there are few enough of them to be tried."""
    counts = thread_counts(Machine(n_cores, min(n_cores, most)))

    assert counts == sorted(set(counts), reverse=True)
    assert 1 <= counts[-1] <= counts[0] <= min(n_cores, most)
    assert len(counts) <= 8


def test_layers_are_tried_only_where_there_is_a_gpu() -> None:
    """All of them if they fit, or else as many as do."""
    assert proposed("n_gpu_layers", Machine(8, 8)) == []
    assert proposed("n_gpu_layers", Machine(8, 8, 8 * GIB)) == [-1]
    assert proposed("n_gpu_layers", Machine(8, 8, 8 * GIB), n_gpu_layers=-1) == [0]
    assert {one.n_gpu_layers for one in frugal(START, [FILE], 1024, Machine(8, 8, GIB))} == {2}
    assert proposed("n_gpu_layers", Machine(8, 8, GIB)) == [2, 1]


def test_seats_matter_only_to_several_clients() -> None:
    """As many as clients, and fewer."""
    assert proposed("n_parallel", Machine(8, 8)) == []
    assert proposed("n_parallel", Machine(8, 8), MANY) == [4, 2]


def test_more_cells_are_tried_where_the_requests_do_not_fit() -> None:
    """Never fewer."""
    assert proposed("n_cells", Machine(8, 8)) == []
    assert proposed("n_cells", Machine(8, 8), MANY) == [3328, 6400]
    assert proposed("n_cells", Machine(8, 8), MANY, n_cells=8192) == []


def test_a_draft_model_is_tried_where_one_is_given() -> None:
    """With two lengths, and against none."""
    kinds = [(one.kind, getattr(one, "most_tokens", 0)) for one in proposed("drafting", Machine(8, 8))]  # type: ignore[attr-defined]

    assert kinds == [("model", 8), ("model", 4), ("none", 0)]


@pytest.mark.parametrize(("head_length", "types"), [(64, ["q8_0", "q4_0"]), (80, [])])
def test_a_cache_is_quantised_only_in_whole_blocks(head_length: int, types: list[str]) -> None:
    """Of 32 numbers; llama.cpp would not start otherwise."""
    header = GgufHeader("llama", 1024, n_layers=4, n_heads=4, head_length=head_length)
    file = ModelFile(FILE.path, header, GIB, "model")

    assert proposed("cache type", Machine(8, 8), file=file) == types
    assert {one.type_k for one in frugal(START, [file], 1024, Machine(8, 8))} == {"f16", *types}


def test_only_coarser_numbers_are_lossy() -> None:
    """Flash attention alone is rounding."""
    assert not is_lossy_change(changed(START, flash_attn=True), START)
    assert is_lossy_change(changed(START, type_k="q8_0"), START)
    assert not is_lossy_change(changed(START, type_k="f16"), changed(START, type_k="q8_0"))
