import struct
from pathlib import Path
from typing import Any

import pytest

from echo_proxy.errors import LocalModelError
from echo_proxy.local.fit import layers_that_fit
from echo_proxy.local.gguf import GgufHeader, describe, read_header
from echo_proxy.local.options import check_model, default_context, parse_model
from tests.local.children import SMALL

GIB = 2**30


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _pair(key: str, value: Any) -> bytes:
    if isinstance(value, str):
        return _text(key) + struct.pack("<I", 8) + _text(value)
    if isinstance(value, list) and value and isinstance(value[0], str):
        return _text(key) + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
    if isinstance(value, list):
        return _text(key) + struct.pack(f"<IIQ{len(value)}I", 9, 4, len(value), *value)
    return _text(key) + struct.pack("<II", 4, value)


def _gguf(path: Path, **pairs: Any) -> Path:
    told = b"".join(_pair(key.replace("__", "."), value) for key, value in pairs.items())
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + told)
    return path


def test_header_of_the_bundled_model() -> None:
    """The default context is what the model was trained with."""
    assert read_header(SMALL).context_length == 1024
    assert read_header(SMALL).architecture == "llama"
    assert default_context(SMALL) == 1024


def test_a_description_tells_layers_heads_and_quantisation() -> None:
    """What decides about the size of a model and of its context."""
    found = describe(SMALL)

    assert (found.file_type, found.n_bytes) == ("Q8_0", SMALL.stat().st_size)
    assert found.n_layers is not None
    assert found.embedding_length is not None
    assert found.n_heads is not None
    assert found.n_kv_heads is not None
    assert found.n_bytes_per_cell == 4 * found.n_layers * found.n_kv_heads * (found.embedding_length // found.n_heads)


def test_what_stands_behind_the_vocabulary_is_found(tmp_path: Path) -> None:
    """Tools that quantise write the type last; layers may have different numbers of heads."""
    path = _gguf(
        tmp_path / "a.gguf",
        general__architecture="x",
        x__attention__head_count_kv=[0, 8, 4],
        x__block_count=3,
        tokenizer__ggml__tokens=["a", "bc"] * 3000,
        tokenizer__ggml__token_type=[1] * 6000,
        tokenizer__ggml__model="gpt2",
        tokenizer__ggml__bos_token_id=1,
        general__file_type=15,
    )

    assert describe(path).file_type == "Q4_K_M"
    assert (describe(path).n_kv_heads, describe(path).n_layers) == (8, 3)
    assert read_header(path).file_type == ""
    assert read_header(path).n_layers == 3


def test_layers_that_fit() -> None:
    """The file and the context share the memory; the output counts as a layer; some memory is left alone."""
    header = GgufHeader("x", 4096, n_layers=9, embedding_length=128, n_heads=2, n_kv_heads=1, n_bytes=10 * GIB)

    assert layers_that_fit(header, 100 * GIB, 0) == 10
    assert layers_that_fit(header, 3 * GIB, 0) == 2
    assert layers_that_fit(header, 3 * GIB, 10 * GIB // header.n_bytes_per_cell) == 1
    assert layers_that_fit(header, GIB // 4, 0) == 0
    assert layers_that_fit(GgufHeader("x", None), GIB, 0) is None


def test_files_that_are_no_gguf(tmp_path: Path) -> None:
    """Missing, foreign and cut files are told apart, and the option is named."""
    foreign, cut, old = tmp_path / "a.gguf", tmp_path / "b.gguf", tmp_path / "c.gguf"
    foreign.write_bytes(b"PK\x03\x04 and so on")
    cut.write_bytes(SMALL.read_bytes()[:30])
    old.write_bytes(b"GGUF" + struct.pack("<IQQ", 1, 0, 0))

    for path, message in [
        (tmp_path / "no.gguf", "path: expected a readable GGUF file, .*No such file"),
        (foreign, r"path: expected a GGUF file .*got b'PK"),
        (cut, "path: expected a whole GGUF header"),
        (old, "path: expected GGUF version 2 or 3, got 1"),
    ]:
        with pytest.raises(LocalModelError, match=message):
            check_model(parse_model("m", {"path": str(path)}))
