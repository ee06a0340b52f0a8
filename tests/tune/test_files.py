import shutil
import struct
from pathlib import Path

import pytest

from echo_proxy.errors import InputError
from echo_proxy.tune.files import one_model, read_file, siblings
from tests.local.children import PAIR, SMALL


def gguf(path: Path, name: str = "", architecture: str = "llama", n_layers: int = 4, size: int = 0) -> Path:
    """A header and nothing behind it."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = [text("general.architecture") + struct.pack("<I", 8) + text(architecture)]
    if name:
        pairs.append(text("general.name") + struct.pack("<I", 8) + text(name))
    pairs.append(text(f"{architecture}.block_count") + struct.pack("<II", 4, n_layers))
    pairs.append(text(f"{architecture}.embedding_length") + struct.pack("<II", 4, 64))
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(pairs) + bytes(size))
    return path


def test_quantisations_beside_a_file_are_found(tmp_path: Path) -> None:
    """By architecture, blocks, width and the name in the header; whatever else lies there is passed over."""
    first = gguf(tmp_path / "a.gguf", "Some Model 7B")
    gguf(tmp_path / "b.gguf", "some model 7b Q4_K_M")
    gguf(tmp_path / "c.gguf", "Other Model 7B")
    gguf(tmp_path / "d.gguf", "Some Model 7B", n_layers=5)
    gguf(tmp_path / "e.gguf", "Some Model 7B", architecture="qwen2")
    (tmp_path / "f.gguf").write_text("no GGUF at all")

    assert [one.path.name for one in siblings(read_file(first))] == ["b.gguf"]


@pytest.mark.parametrize("suffix", ["Q4_K_M", "q8_0", "IQ3_XXS", "f16", "BF16", "fp16", "Q6_K", "MXFP4"])
def test_without_a_name_in_the_header_the_file_s_counts(tmp_path: Path, suffix: str) -> None:
    """Less its quantisation."""
    first = gguf(tmp_path / "some-model-7b-Q5_0.gguf")
    gguf(tmp_path / f"some-model-7b-{suffix}.gguf")
    gguf(tmp_path / f"some-model-8b-{suffix}.gguf")

    assert [one.path.name for one in siblings(read_file(first))] == [f"some-model-7b-{suffix}.gguf"]


def test_the_parts_of_a_file_are_one(tmp_path: Path) -> None:
    """Its size is that of all; only the first is named."""
    first = gguf(tmp_path / "m-Q8_0-00001-of-00002.gguf", size=100)
    second = gguf(tmp_path / "m-Q8_0-00002-of-00002.gguf", size=1000)
    other = gguf(tmp_path / "m-F16.gguf")

    assert read_file(first).n_bytes == first.stat().st_size + second.stat().st_size
    assert [one.path for one in siblings(read_file(other))] == [first]


def test_files_of_two_models_are_refused() -> None:
    """The message says what each is."""
    with pytest.raises(InputError, match=r"large-q8_0.gguf: expected another quantisation of small-q8_0.gguf.*128"):
        one_model([SMALL, PAIR / "large-q8_0.gguf"], with_siblings=False)


def test_a_file_given_twice_or_found_again_is_one(tmp_path: Path) -> None:
    """In the order in which they were given."""
    paths = [Path(shutil.copy(SMALL, tmp_path / name)) for name in ("b.gguf", "a.gguf", "c.gguf")]
    found = one_model([paths[0], paths[2], paths[0]], with_siblings=True)

    assert [one.path.name for one in found] == ["b.gguf", "c.gguf", "a.gguf"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """And why it cannot be read."""
    with pytest.raises(InputError, match=r"expected a readable GGUF file, got .*x\.gguf: No such file"):
        read_file(tmp_path / "x.gguf")
