import struct
from pathlib import Path

import pytest

from echo_proxy.errors import LocalModelError
from echo_proxy.local.gguf import read_header
from echo_proxy.local.options import check_model, default_context, parse_model
from tests.local.children import SMALL


def test_relative_path_starts_at_the_configs_folder(tmp_path: Path) -> None:
    """An operator writes paths as seen from the config file."""
    assert parse_model("m", {"path": "models/a.gguf"}, tmp_path).options.path == str(tmp_path / "models/a.gguf")
    assert parse_model("m", {"path": "/x/a.gguf"}, tmp_path).options.path == "/x/a.gguf"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (None, "expected model_info.llama_cpp with a path"),
        ({}, "model_info.llama_cpp.path: Field required"),
        ({"path": "a", "n_ctx": "big"}, "model_info.llama_cpp.n_ctx: .*got 'big'"),
        ({"path": "a", "n_contex": 1}, "model_info.llama_cpp.n_contex: .*not permitted"),
        ({"path": "a", "type_k": "q9"}, "model_info.llama_cpp.type_k"),
        ({"path": "a", "type_v": "q8_0"}, "model_info.llama_cpp.type_v: expected flash_attn: true"),
    ],
)
def test_wrong_options_name_the_field(raw: object, message: str) -> None:
    """A wrong key or value is refused with model, field and value."""
    with pytest.raises(LocalModelError, match=message) as caught:
        parse_model("m", raw)

    assert str(caught.value).startswith("llama_cpp/m: ")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "a b"])
def test_names_that_could_leave_the_folder_are_refused(name: str) -> None:
    """The name becomes the name of files."""
    with pytest.raises(LocalModelError, match="expected a name of letters"):
        parse_model(name, {"path": "a"})


def test_fingerprint_tells_options_apart() -> None:
    """Same options, same process; how long a request waits for it does not matter."""
    one = parse_model("m", {"path": "/a"})

    assert one.fingerprint == parse_model("m", {"path": "/a", "max_wait_s": 1.0}).fingerprint
    assert one.fingerprint != parse_model("m", {"path": "/a", "n_ctx": 64}).fingerprint


def test_lists_of_numbers_come_from_yaml() -> None:
    """YAML knows lists only, and whole numbers are numbers."""
    assert parse_model("m", {"path": "/a", "tensor_split": [1, 2.5]}).options.tensor_split == (1.0, 2.5)


def test_header_of_the_bundled_model() -> None:
    """The default context is what the model was trained with."""
    assert read_header(SMALL).context_length == 1024
    assert read_header(SMALL).architecture == "llama"
    assert default_context(SMALL) == 1024


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


def test_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without llama-cpp-python the error says how to get it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(LocalModelError, match=r"pip install 'echo-proxy\[local\]'"):
        check_model(parse_model("m", {"path": str(SMALL)}))
