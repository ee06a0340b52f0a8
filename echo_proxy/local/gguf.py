"""Is this file a GGUF, and what is in it? Read from its header alone."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from echo_proxy.errors import LocalModelError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_MAX_STRING = 1 << 20
_MAX_PAIRS = 1 << 16
_MAX_ARRAY = 1 << 12
"""Longer lists are the tokenizer's; those with one number per layer are shorter."""

_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip
"""llama.cpp's numbers of `general.file_type`."""


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What the first bytes of a GGUF file say. None and empty = the file does not say."""

    architecture: str
    """For example `llama`."""
    context_length: int | None
    """Tokens of the longest text it was trained on."""
    n_layers: int | None = None
    """Blocks, which can be put on a GPU one by one; the output counts as one more."""
    embedding_length: int | None = None
    """Width of the model."""
    n_heads: int | None = None
    """Attention heads; of layers that differ, the most."""
    n_kv_heads: int | None = None
    """Heads of keys and values; of layers that differ, the most."""
    head_length: int | None = None
    """Numbers of one key."""
    file_type: str = ""
    """Quantisation of most weights, for example `Q8_0`; only `describe` looks for it."""
    n_bytes: int = 0
    """Size of the file."""

    @property
    def n_bytes_per_cell(self) -> int:
        """State of one token in all layers, at 16 bits a number; 0 = unknown."""
        length = self.head_length
        if length is None and self.embedding_length is not None and self.n_heads:
            length = self.embedding_length // self.n_heads
        n_heads = self.n_kv_heads or self.n_heads
        return 2 * 2 * (self.n_layers or 0) * (n_heads or 0) * (length or 0)  # keys and values, two bytes each


def read_header(path: Path) -> GgufHeader:
    """What stands before the tokenizer's long lists: takes less than a millisecond.

    Raises LocalModelError, naming the option `path`, when there is no such file or it is not a GGUF.
    """
    return _read(path, is_whole=False)


def describe(path: Path) -> GgufHeader:
    """The whole header; takes some tenths of a second with large vocabularies. Raises as `read_header`."""
    return _read(path, is_whole=True)


def _read(path: Path, *, is_whole: bool) -> GgufHeader:
    try:
        with path.open("rb") as file:
            n_pairs = _begin(file, path)
            facts: dict[str, Any] = {}
            for key, value in _pairs(file, n_pairs):
                if key.startswith("tokenizer.") and not is_whole:
                    break
                facts[key] = value
        return _header(facts, path.stat().st_size)
    except OSError as error:
        raise LocalModelError(f"path: expected a readable GGUF file, got {path}: {error.strerror}") from error
    except (struct.error, UnicodeDecodeError, KeyError) as error:
        raise LocalModelError(f"path: expected a whole GGUF header, got a broken or cut one in {path}") from error


def _begin(file: BinaryIO, path: Path) -> int:
    """Number of key-value pairs that follow."""
    magic = file.read(4)
    if magic != _MAGIC:
        raise LocalModelError(f"path: expected a GGUF file (it begins with {_MAGIC!r}), got {magic!r} in {path}")
    version, _, n_pairs = struct.unpack("<IQQ", file.read(20))
    if version not in _VERSIONS:
        raise LocalModelError(f"path: expected GGUF version 2 or 3, got {version} in {path}")
    return min(int(n_pairs), _MAX_PAIRS)


def _header(facts: dict[str, Any], n_bytes: int) -> GgufHeader:
    architecture = str(facts.get("general.architecture", ""))

    def number(name: str) -> int | None:
        value = facts.get(f"{architecture}.{name}")
        if isinstance(value, list):
            value = max(value, default=None)
        return None if value is None else int(value)

    file_type = facts.get("general.file_type")
    return GgufHeader(
        architecture=architecture,
        context_length=number("context_length"),
        n_layers=number("block_count"),
        embedding_length=number("embedding_length"),
        n_heads=number("attention.head_count"),
        n_kv_heads=number("attention.head_count_kv"),
        head_length=number("attention.key_length"),
        file_type="" if file_type is None else _FILE_TYPES.get(file_type, f"type {file_type}"),
        n_bytes=n_bytes,
    )


def _pairs(file: BinaryIO, n_pairs: int) -> Iterator[tuple[str, Any]]:
    """Keys and values; what is long, of texts or the tokenizer's comes as None.

    The tokenizer's keys are told before their values are passed over, so that the caller can stop there.
    """
    for _ in range(n_pairs):
        key = _text(file)
        (kind,) = struct.unpack("<I", file.read(4))
        if key.startswith("tokenizer."):
            yield key, None
            _skip(file, kind)
        else:
            yield key, _value(file, kind)


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _text(file)
    if kind != _ARRAY:
        return _number(file, kind)
    of, length = struct.unpack("<IQ", file.read(12))
    if of not in _FORMATS or length > _MAX_ARRAY:
        file.seek(-12, 1)
        return _skip(file, kind)
    return [_number(file, of) for _ in range(length)]


def _skip(file: BinaryIO, kind: int) -> None:
    """Go to what follows a value."""
    if kind == _STRING:
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(length, 1)
    elif kind == _ARRAY:
        of, length = struct.unpack("<IQ", file.read(12))
        if of in _FORMATS:
            file.seek(struct.calcsize(_FORMATS[of]) * length, 1)
        else:
            for _ in range(length):
                _skip(file, of)
    else:
        file.seek(struct.calcsize(_FORMATS[kind]), 1)


def _text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    raw = file.read(min(length, _MAX_STRING))
    if len(raw) < length:
        raise struct.error("a string is cut")
    return raw.decode("utf-8")


def _number(file: BinaryIO, kind: int) -> int | float:
    format = _FORMATS[kind]
    (value,) = struct.unpack(format, file.read(struct.calcsize(format)))
    number: int | float = value
    return number
