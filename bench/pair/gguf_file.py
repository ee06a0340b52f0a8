"""How are a model's weights read from a GGUF file and written to another with the same words and settings?

Needs `gguf`, which is not a dependency of the project.
"""

# mypy: disable-error-code="import-not-found,no-any-return"
# gguf is absent where the project is checked, so its types are unknown there.

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

Weights = Mapping[str, NDArray[np.float32]]
"""Tensors by llama.cpp's names; a matrix has shape (n_outputs, n_inputs)."""

_WRITTEN_BY_US = ("GGUF.", "general.architecture")
"""Keys that a writer makes itself."""


@dataclass(frozen=True, slots=True)
class GgufModel:
    """A model of the llama architecture as it stands in a file."""

    settings: Mapping[str, tuple[Any, tuple[GGUFValueType, ...]]]
    """Value and types of every key: shape, tokens, chat template."""
    weights: Weights

    def number(self, key: str) -> int:
        """A whole number of the settings, without the `llama.` of its key."""
        return int(self.settings[f"llama.{key}"][0])

    def with_numbers(self, name: str, numbers: Mapping[str, int], weights: Weights) -> "GgufModel":
        """The same words with other weights; `numbers` as in `number`."""
        changed: dict[str, Any] = {"general.name": name, **{f"llama.{key}": one for key, one in numbers.items()}}
        settings = {key: (changed.get(key, value), types) for key, (value, types) in self.settings.items()}
        return GgufModel(settings, weights)


def read(path: Path) -> GgufModel:
    """The model of a file, its weights as float32."""
    reader = GGUFReader(path)
    settings = {
        key: (field.contents(), tuple(field.types))
        for key, field in reader.fields.items()
        if not key.startswith(_WRITTEN_BY_US)
    }
    weights = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    return GgufModel(settings, weights)


def write(model: GgufModel, path: Path) -> None:
    """Matrices as q8_0, norms as float32. Weights that came from q8_0 are written as they were, bit by bit."""
    writer = GGUFWriter(str(path), "llama")
    for key, (value, types) in model.settings.items():
        writer.add_key_value(key, value, types[0], types[1] if len(types) > 1 else None)
    for name, array in model.weights.items():
        if array.ndim == 1:  # llama.cpp reads norms only as float32
            writer.add_tensor(name, array)
        else:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
