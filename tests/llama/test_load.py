"""From the operator's options to a model that answers, or to an error that says which option is wrong."""

import logging
import shutil
from pathlib import Path
from typing import Any

import llama_cpp
import pytest

from echo_proxy.errors import LocalModelError
from echo_proxy.llama.library import WeightOptions, Weights, load_weights
from echo_proxy.llama.load import Loaded, load_draft_runner, load_runner
from echo_proxy.llama.runner import ContextOptions, LlamaRunner
from echo_proxy.local.options import LocalModelOptions
from tests.llama.pair import LARGE, SMALL, answer, prompts


def load(**options: Any) -> Loaded:
    """The small model with these options."""
    return load_runner(LocalModelOptions(**{"path": SMALL, "n_threads": 1, "n_threads_batch": 1, **options}))


def test_defaults_suit_the_model() -> None:
    """The context is what it was trained with, the cells twice that, seats for all answers and some more."""
    loaded = load()

    assert (loaded.n_ctx, loaded.runner.n_cells, loaded.runner.n_seats) == (1024, 2048, 32)
    assert loaded.runner.is_sliceable
    assert len(answer(loaded.runner, 31, prompts(loaded.language)[0])) == 24
    loaded.close()


def test_seats_have_an_end() -> None:
    """llama.cpp knows 256, one of them fills up small decodes."""
    loaded = load(n_parallel=128, min_rows=2, n_ctx=64, n_cells=300)

    assert (loaded.runner.n_seats, loaded.runner.n_cells) == (255, 512)
    assert len(answer(loaded.runner, 254, prompts(loaded.language)[0])) == 24
    loaded.close()


def test_a_draft_model_goes_with_the_large_one() -> None:
    """The same tokens, the same cells, a seat for each answer."""
    options = LocalModelOptions(path=LARGE, n_threads=1, n_threads_batch=1, n_cells=1500, n_ctx=1000)
    loaded, drafts = load_runner(options), load_draft_runner(options, SMALL, 0, 1000)

    assert drafts.fingerprint == loaded.language.fingerprint
    assert drafts.runner.n_cells == loaded.runner.n_cells == 1536
    assert drafts.runner.n_seats == 10
    drafts.close()
    loaded.close()


@pytest.mark.parametrize("use_mmap", [True, False])
@pytest.mark.parametrize("type_v", ["f16", "q8_0"])
def test_options_reach_llama_cpp(use_mmap: bool, type_v: str) -> None:
    """A smaller cache makes smaller states; the text stays one of the model's."""
    loaded = load(use_mmap=use_mmap, type_v=type_v, flash_attn=type_v != "f16", seed=1, chat_format="chatml")
    plain = load()
    text = prompts(loaded.language)[0]
    answer(loaded.runner, 0, text)
    answer(plain.runner, 0, text)

    assert (len(loaded.runner.save(0)) < len(plain.runner.save(0))) is (type_v == "q8_0")
    assert (loaded.runner.fingerprint == plain.runner.fingerprint) is (type_v == "f16")
    loaded.close()
    plain.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "/nowhere.gguf"}, "llama.cpp could not load /nowhere.gguf: .*No such file"),
        ({"n_cells": 300}, "n_cells: expected at least n_ctx, which is 1024, got 300"),
        ({"chat_format": "nonsense"}, "chat_format: Invalid chat handler: nonsense"),
        ({"tensor_split": (1.0,) * 99}, "tensor_split: expected at most"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    """LocalModelError says what was expected and what came."""
    with pytest.raises(LocalModelError, match=message):
        load(**options)


@pytest.mark.skipif(llama_cpp.llama_supports_gpu_offload(), reason="this build can use a GPU")
def test_layers_on_a_gpu_need_a_build_for_it() -> None:
    """Nothing is silently done on the CPU."""
    with pytest.raises(LocalModelError, match=r"n_gpu_layers: expected 0.*without GPU support, got -1"):
        load(n_gpu_layers=-1)


def test_a_broken_file_is_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With llama.cpp's reason, which also goes to the log; its hundreds of other lines do not."""
    broken = tmp_path / "broken.gguf"
    shutil.copy(SMALL, broken)
    with broken.open("r+b") as file:
        file.truncate(600_000)
    with caplog.at_level(logging.DEBUG, "echo_proxy.local"):
        load_weights(SMALL).close()
        quiet = list(caplog.messages)
        with pytest.raises(LocalModelError, match=r"could not load .*broken\.gguf: .*(corrupted|bounds|incomplete)"):
            load(path=str(broken))

    assert quiet == []
    assert caplog.messages
    assert {record.name for record in caplog.records} == {"echo_proxy.local"}


def test_a_quantised_cache_without_flash_attention_is_an_error(small: Weights) -> None:
    """llama.cpp's reason is told."""
    with pytest.raises(RuntimeError, match=r"made no context: .*flash"):
        LlamaRunner(small, ContextOptions(n_seats=1, n_cells=256, type_v="q8_0"))


def test_the_file_and_not_its_place_makes_the_fingerprint(tmp_path: Path, small: Weights) -> None:
    """A copy has the same one, another content of the same size has not."""
    copy, other = tmp_path / "copy.gguf", tmp_path / "other.gguf"
    shutil.copy(SMALL, copy)
    shutil.copy(SMALL, other)
    with other.open("r+b") as file:
        file.seek(-10, 2)
        file.write(b"9")

    assert load_weights(str(copy), WeightOptions(use_mmap=False)).fingerprint == small.fingerprint
    assert load_weights(str(other)).fingerprint != small.fingerprint
