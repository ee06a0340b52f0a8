"""Which files hold one model in several quantisations?"""

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from echo_proxy.errors import InputError, LocalModelError
from echo_proxy.local.gguf import GgufHeader, describe

_QUANTISATION = re.compile(r"[-_. ]*(?:i?q\d\w*|t?q\d_\d|bf16|fp?16|fp?32|mxfp4)(?:[-_. ]*(?:gguf|imat))?$", re.I)
_PART = re.compile(r"-(\d{5})-of-(\d{5})$")
_NAME_KEY = struct.pack("<Q", len("general.name")) + b"general.name" + struct.pack("<I", 8)
_START = 1 << 16
"""Bytes in which `general.name` stands: it is among the first keys that all tools write."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A GGUF file and what its header says."""

    path: Path
    header: GgufHeader
    n_bytes: int
    """Of all its parts."""
    name: str
    """The model's, without its quantisation."""


def read_file(path: Path) -> ModelFile:
    """The file's facts. Raises InputError, naming the file."""
    path = path.expanduser().absolute()
    try:
        header = describe(path)
    except LocalModelError as error:
        raise InputError(str(error).removeprefix("path: ")) from error
    return ModelFile(path, header, _size(path), _model_name(path))


def one_model(paths: Sequence[Path], *, with_siblings: bool) -> tuple[ModelFile, ...]:
    """The files, in their order; then those beside the first one that hold the same model.

    Raises InputError: a file is no GGUF, or two that were given are of different models.
    """
    files = [read_file(path) for path in dict.fromkeys(paths)]
    for other in files[1:]:
        if _shape(other) != _shape(files[0]):
            raise InputError(
                f"{other.path}: expected another quantisation of {files[0].path.name} "
                f"({_told(files[0])}), got {_told(other)}"
            )
    if with_siblings:
        known = {file.path for file in files}
        files += [one for one in siblings(files[0]) if one.path not in known]
    return tuple(files)


def siblings(file: ModelFile) -> list[ModelFile]:
    """Files in its folder with the same architecture, blocks, width and name."""
    found = []
    for path in sorted(file.path.parent.glob("*.gguf")):
        part = _PART.search(path.stem)
        if path == file.path or (part and part[1] != "00001"):
            continue
        try:
            other = read_file(path)
        except InputError:
            continue  # something else lies beside it
        if _shape(other) == _shape(file) and other.name == file.name:
            found.append(other)
    return found


def _shape(file: ModelFile) -> tuple[str, int | None, int | None]:
    return file.header.architecture, file.header.n_layers, file.header.embedding_length


def _told(file: ModelFile) -> str:
    architecture, n_layers, width = _shape(file)
    return f"{architecture}, {n_layers} blocks, width {width}"


def _size(path: Path) -> int:
    part = _PART.search(path.stem)
    if not part:
        return path.stat().st_size
    stem = path.stem[: part.start()]
    return sum(one.stat().st_size for one in path.parent.glob(f"{stem}-*-of-{part[2]}.gguf"))


def _model_name(path: Path) -> str:
    """From the header, or else from the file's name."""
    with path.open("rb") as file:
        start = file.read(_START)
    at = start.find(_NAME_KEY)
    name = ""
    if at >= 0:
        at += len(_NAME_KEY)
        length = int.from_bytes(start[at : at + 8], "little")
        name = start[at + 8 : at + 8 + length].decode("utf-8", "replace")
    return _QUANTISATION.sub("", _PART.sub("", name or path.stem)).strip().lower()
