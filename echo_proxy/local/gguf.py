"""Is this file a GGUF, and how long a context was its model trained with? Read from its header alone."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from echo_proxy.errors import LocalModelError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_MAX_STRING = 1 << 20
_MAX_PAIRS = 1 << 16


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What the first bytes of a GGUF file say."""

    architecture: str
    """For example `llama`; empty when the file does not say."""
    context_length: int | None
    """Tokens of the longest text it was trained on; None when the file does not say."""


def read_header(path: Path) -> GgufHeader:
    """The header of a GGUF file.

    Raises LocalModelError, naming the option `path`, when there is no such file or it is not a GGUF.
    """
    try:
        with path.open("rb") as file:
            return _header(file, path)
    except OSError as error:
        raise LocalModelError(f"path: expected a readable GGUF file, got {path}: {error.strerror}") from error
    except (struct.error, UnicodeDecodeError, KeyError) as error:
        raise LocalModelError(f"path: expected a whole GGUF header, got a broken or cut one in {path}") from error


def _header(file: BinaryIO, path: Path) -> GgufHeader:
    magic = file.read(4)
    if magic != _MAGIC:
        raise LocalModelError(f"path: expected a GGUF file (it begins with {_MAGIC!r}), got {magic!r} in {path}")
    version, _, n_pairs = struct.unpack("<IQQ", file.read(20))
    if version not in _VERSIONS:
        raise LocalModelError(f"path: expected GGUF version 2 or 3, got {version} in {path}")
    architecture = ""
    for _ in range(min(n_pairs, _MAX_PAIRS)):
        key = _text(file)
        (kind,) = struct.unpack("<I", file.read(4))
        if kind == _ARRAY:
            break  # the tokenizer's long lists come after what we look for
        value = _text(file) if kind == _STRING else _number(file, kind)
        if key == "general.architecture":
            architecture = str(value)
        elif key == f"{architecture}.context_length":
            return GgufHeader(architecture, int(value))
    return GgufHeader(architecture, None)


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
