"""How many layers of a model fit onto a GPU?"""

from echo_proxy.local.gguf import GgufHeader

_RESERVE_BYTES = 512 * 2**20
"""For CUDA itself and the buffers of a computation. guess, not yet measured"""


def layers_that_fit(header: GgufHeader, n_free_bytes: int, n_cells: int) -> int | None:
    """Largest useful `n_gpu_layers`: the model's blocks and its output, which counts as one more.

    An estimate: the file's size is spread evenly over them. None = the header does not say how many there are.

    Args:
        header: of the model.
        n_free_bytes: free memory of the GPU.
        n_cells: tokens whose state the context holds.
    """
    if header.n_layers is None:
        return None
    n_parts = header.n_layers + 1
    n_bytes_per_layer = (header.n_bytes + header.n_bytes_per_cell * n_cells) / n_parts
    room = max(n_free_bytes - _RESERVE_BYTES, 0)
    return min(int(room / max(n_bytes_per_layer, 1.0)), n_parts)
