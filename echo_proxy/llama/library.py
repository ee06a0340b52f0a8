"""How does llama.cpp come into this process, and how do a model's weights come into memory?"""

import ctypes
import hashlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import llama_cpp

from echo_proxy.errors import LocalModelError

log = logging.getLogger("echo_proxy.local")

_ERROR, _CONTINUED = 4, 5
"""ggml's log levels; those in llama-cpp-python's comments are of an older version."""
_MOST_CHARACTERS = 300
"""Of one message: errors of grammars repeat all of what a caller sent."""
_SPLIT_MODES = {"none": 0, "layer": 1, "row": 2}
_N_SAMPLES, _SAMPLE_BYTES = 64, 4096

SplitMode = Literal["none", "layer", "row"]


@dataclass(frozen=True, slots=True)
class WeightOptions:
    """Where the weights go."""

    n_gpu_layers: int = 0
    """Layers on the GPU; -1 = all."""
    main_gpu: int = 0
    tensor_split: tuple[float, ...] | None = None
    """Share of the model per GPU."""
    split_mode: SplitMode = "layer"
    use_mmap: bool = True
    use_mlock: bool = False


_ATTENTION = 4.0
"""How much slower a multiplication of attention is than one of the weights; measured on two CPU cores with the bundled
pair and a cache of q8_0 or f16, between 2 and 6."""


class Weights:
    """A model's weights and vocabulary. Several contexts may use them, from different threads."""

    def __init__(self, model: Any, path: str) -> None:
        self.model = model
        """llama.cpp's pointer."""
        self.vocab: Any = llama_cpp.llama_model_get_vocab(model)
        self.path = path
        self.metadata = _metadata(model)
        """What the GGUF says of itself, but for lists."""
        self.n_ctx_train = int(llama_cpp.llama_model_n_ctx_train(model))
        """Tokens of the longest text that the model was trained on; 0 = the file does not say."""
        self.cell_cost = _cell_cost(model)
        """What a cell in use adds to a row, as a share of what the row costs anyway."""
        self.is_recurrent = bool(llama_cpp.llama_model_is_recurrent(model) or llama_cpp.llama_model_is_hybrid(model))
        """Whether a part of its memory can only be forgotten as a whole."""
        self.fingerprint = _file_fingerprint(Path(path))
        """The same for the same file, wherever it lies."""
        self._lock = threading.Lock()
        self._n_users = 0
        self._is_closed = False

    def hold(self) -> None:
        """A context uses them from now on. Raises RuntimeError after close."""
        with self._lock:
            if self._is_closed:
                raise RuntimeError("expected weights that are open, got closed ones")
            self._n_users += 1

    def release(self) -> None:
        """A context uses them no more."""
        with self._lock:
            self._n_users -= 1
            self._free_unless_used()

    def close(self) -> None:
        """Free the memory, when the last context has been closed at the latest."""
        with self._lock:
            self._is_closed = True
            self._free_unless_used()

    def _free_unless_used(self) -> None:
        if self._is_closed and not self._n_users and self.model is not None:
            llama_cpp.llama_model_free(self.model)
            self.model = None


def load_weights(path: str, options: WeightOptions | None = None) -> Weights:
    """A GGUF file in memory; takes as long as reading it. Raises LocalModelError."""
    options = options or WeightOptions()
    start_library()
    if options.n_gpu_layers != 0 and not llama_cpp.llama_supports_gpu_offload():
        raise LocalModelError(
            "n_gpu_layers: expected 0, because this llama-cpp-python was built without GPU support, "
            f"got {options.n_gpu_layers}; `echo-proxy doctor` shows how to build it with CUDA"
        )
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = options.n_gpu_layers
    params.main_gpu = options.main_gpu
    params.split_mode = _SPLIT_MODES[options.split_mode]
    params.load_mode = _load_mode(options)
    split = _tensor_split(options.tensor_split)  # a name of its own: llama.cpp reads it during the load
    if split is not None:
        params.tensor_split = split
    _heard.forget()
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
    if not model:
        raise LocalModelError(f"llama.cpp could not load {path}: {last_errors()}")
    return Weights(model, path)


def _load_mode(options: WeightOptions) -> int:
    """The one number that this version has for two questions."""
    if options.use_mmap:
        return int(llama_cpp.LLAMA_LOAD_MODE_MMAP_MLOCK if options.use_mlock else llama_cpp.LLAMA_LOAD_MODE_MMAP)
    return int(llama_cpp.LLAMA_LOAD_MODE_MLOCK if options.use_mlock else llama_cpp.LLAMA_LOAD_MODE_NONE)


def _tensor_split(shares: tuple[float, ...] | None) -> Any:
    """llama.cpp reads as many numbers as it knows devices. Raises LocalModelError."""
    if not shares:
        return None
    most = int(llama_cpp.llama_max_devices())
    if len(shares) > most:
        raise LocalModelError(f"tensor_split: expected at most {most} numbers, one for each GPU, got {len(shares)}")
    return (ctypes.c_float * most)(*shares)


# ------------------------------------------------------------------ what llama.cpp says


class _Heard:
    """Hands llama.cpp's errors to Python's logging and keeps the newest; the rest, hundreds of lines, is dropped."""

    def __init__(self) -> None:
        self._errors: deque[str] = deque(maxlen=3)
        self._level = 0

    def hear(self, level: int, text: bytes) -> None:
        if level != _CONTINUED:
            self._level = level
        line = text.decode("utf-8", "replace").strip()[:_MOST_CHARACTERS]
        if self._level == _ERROR and line:
            self._errors.append(line)
            log.error("llama.cpp: %s", line)

    def forget(self) -> None:
        self._errors.clear()

    @property
    def errors(self) -> str:
        return "; ".join(self._errors)


_heard = _Heard()
_start_lock = threading.Lock()
_callbacks: list[Any] = []
"""What llama.cpp may call as long as the process lives."""


def start_library() -> None:
    """Make llama.cpp ready; again is no harm."""
    with _start_lock:
        if _callbacks:
            return
        callback = llama_cpp.llama_log_callback(lambda level, text, _: _heard.hear(level, text))
        _callbacks.append(callback)
        llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()


def last_errors() -> str:
    """What llama.cpp said was wrong since the last load began, or since these errors were forgotten."""
    return _heard.errors or "it gave no reason"


def forget_errors() -> None:
    """Keep what it said of one caller's request from those of others."""
    _heard.forget()


# ------------------------------------------------------------------ what a file says of itself


def _metadata(model: Any) -> Mapping[str, str]:
    pairs = {}
    for index in range(llama_cpp.llama_model_meta_count(model)):
        key = _text(llama_cpp.llama_model_meta_key_by_index, model, index)
        pairs[key] = _text(llama_cpp.llama_model_meta_val_str_by_index, model, index)
    return pairs


def _text(read: Callable[..., int], model: Any, index: int) -> str:
    """One of llama.cpp's texts, which tell their length when the buffer was too small."""
    size = read(model, index, None, 0)
    buffer = ctypes.create_string_buffer(size + 1)
    read(model, index, buffer, size + 1)
    return buffer.value.decode("utf-8", "replace")


def _cell_cost(model: Any) -> float:
    """Multiplications of attention per cell over those of the weights, times how much slower they are."""
    n_attention = 2 * llama_cpp.llama_model_n_layer(model) * llama_cpp.llama_model_n_embd(model)
    return _ATTENTION * float(n_attention) / max(int(llama_cpp.llama_model_n_params(model)), 1)


def _file_fingerprint(path: Path) -> str:
    """Of its size and blocks from all over it: reading all of it would take as long as loading it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest.update(size.to_bytes(8, "little"))
        for part in range(_N_SAMPLES):
            file.seek(max(0, size - _SAMPLE_BYTES) * part // (_N_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:32]
