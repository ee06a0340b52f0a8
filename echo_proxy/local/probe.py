"""What can the installed llama.cpp do? `python -m echo_proxy.local.probe` prints it as JSON.

A process of its own: the library is never loaded into the proxy, and a build that crashes at loading harms nobody.
"""

import ctypes
import json
from typing import Any

import llama_cpp
from llama_cpp import _ggml

_GPUS = (1, 2)
"""ggml's numbers of devices that are GPUs, with memory of their own or the machine's."""


def main() -> None:
    """Print one JSON object."""
    print(json.dumps(_facts()))


def _facts() -> dict[str, Any]:
    return {
        "version": llama_cpp.__version__,
        "system_info": llama_cpp.llama_print_system_info().decode().strip(),
        "can_offload_to_gpu": bool(llama_cpp.llama_supports_gpu_offload()),
        "can_mmap": bool(llama_cpp.llama_supports_mmap()),
        "can_mlock": bool(llama_cpp.llama_supports_mlock()),
        "devices": _devices(),
    }


def _devices() -> list[dict[str, Any]]:
    """The devices that ggml sees, the CPU among them; empty when this build cannot tell."""
    library: Any = _ggml.libggml
    try:
        count, get = library.ggml_backend_dev_count, library.ggml_backend_dev_get
        name, description = library.ggml_backend_dev_name, library.ggml_backend_dev_description
        memory, kind = library.ggml_backend_dev_memory, library.ggml_backend_dev_type
    except AttributeError:
        return []
    count.restype, get.restype, get.argtypes = ctypes.c_size_t, ctypes.c_void_p, [ctypes.c_size_t]
    for text in (name, description):
        text.restype, text.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
    size = ctypes.POINTER(ctypes.c_size_t)
    memory.restype, memory.argtypes = None, [ctypes.c_void_p, size, size]
    kind.restype, kind.argtypes = ctypes.c_int, [ctypes.c_void_p]
    told = []
    for device in [get(index) for index in range(count())]:
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        memory(device, ctypes.byref(free), ctypes.byref(total))
        told.append(
            {
                "name": name(device).decode(),
                "description": description(device).decode(),
                "is_gpu": kind(device) in _GPUS,
                "n_free_bytes": free.value,
                "n_total_bytes": total.value,
            }
        )
    return told


if __name__ == "__main__":
    main()
