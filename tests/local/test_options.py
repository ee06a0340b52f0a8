from pathlib import Path

import pytest

from echo_proxy.errors import LocalModelError
from echo_proxy.local.options import CoDecoding, ModelDrafts, check_model, parse_model
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
        (
            {"path": "a", "n_ctx": 64, "n_cells": 32},
            "model_info.llama_cpp.n_cells: expected at least n_ctx.* 64, got 32",
        ),
        ({"path": "a", "process": "../x"}, "model_info.llama_cpp.process: expected a name of letters.*'../x'"),
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
    """Same options, same process; every option is one that the process is started with."""
    one = parse_model("m", {"path": "/a"})

    assert one.fingerprint == parse_model("m", {"path": "/a"}).fingerprint
    assert one.fingerprint != parse_model("m", {"path": "/a", "n_ctx": 64}).fingerprint
    assert one.fingerprint != parse_model("m", {"path": "/a", "max_wait_s": 1.0}).fingerprint


def test_files_of_drafts_start_at_the_configs_folder_too(tmp_path: Path) -> None:
    """The process that reads them has another working directory."""
    draft = parse_model("m", {"path": "a", "drafting": {"kind": "model", "path": "b"}}, tmp_path).options.drafting
    files = {"path": "b", "gate": "c", "agreement": "d"}
    both = parse_model("m", {"path": "a", "drafting": {"kind": "co_decode", **files}}, tmp_path)

    assert isinstance(draft, ModelDrafts)
    assert draft.path == str(tmp_path / "b")
    assert isinstance(both.options.drafting, CoDecoding)
    assert (both.options.drafting.path, both.options.drafting.gate) == (str(tmp_path / "b"), str(tmp_path / "c"))
    assert both.options.drafting.agreement == str(tmp_path / "d")


def test_files_of_drafts_are_checked_before_the_start() -> None:
    """The option that names the missing file is named."""
    for drafting, message in [
        ({"kind": "model", "path": "/no.gguf"}, r"drafting\.path: expected a readable GGUF file"),
        ({"kind": "co_decode", "path": "/no.gguf"}, r"drafting\.path: expected a readable GGUF file"),
        (
            {"kind": "co_decode", "path": str(SMALL), "gate": "/no.gate"},
            r"drafting\.gate: expected a file, got /no.gate",
        ),
        (
            {"kind": "co_decode", "path": str(SMALL), "agreement": "/no/a.jsonl"},
            r"drafting\.agreement: expected a file in a folder that exists, got /no/a.jsonl",
        ),
    ]:
        with pytest.raises(LocalModelError, match=message):
            check_model(parse_model("m", {"path": str(SMALL), "drafting": drafting}))
    check_model(parse_model("m", {"path": str(SMALL), "drafting": {"kind": "model", "path": str(SMALL)}}))


def test_lists_of_numbers_come_from_yaml() -> None:
    """YAML knows lists only, and whole numbers are numbers."""
    assert parse_model("m", {"path": "/a", "tensor_split": [1, 2.5]}).options.tensor_split == (1.0, 2.5)


def test_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without llama-cpp-python the error says how to get it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(LocalModelError, match=r"pip install 'echo-proxy\[local\]'"):
        check_model(parse_model("m", {"path": str(SMALL)}))
