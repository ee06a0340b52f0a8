"""The bundled pair, loaded. Without llama-cpp-python, which is an extra, there is nothing to test here."""

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.llama.pair import LARGE, SMALL

if TYPE_CHECKING:
    from echo_proxy.llama.language import LlamaLanguage
    from echo_proxy.llama.library import Weights
    from echo_proxy.llama.runner import LlamaRunner

collect_ignore_glob = ["test_*.py"] if importlib.util.find_spec("llama_cpp") is None else []


@pytest.fixture(scope="package")
def small() -> "Iterator[Weights]":
    """The small model's weights."""
    from echo_proxy.llama.library import load_weights

    weights = load_weights(SMALL)
    yield weights
    weights.close()


@pytest.fixture(scope="package")
def large() -> "Iterator[Weights]":
    """The large model's weights."""
    from echo_proxy.llama.library import load_weights

    weights = load_weights(LARGE)
    yield weights
    weights.close()


@pytest.fixture
def runner(small: "Weights") -> "Iterator[LlamaRunner]":
    """The small model with eight seats and 1,024 cells."""
    from echo_proxy.llama.runner import ContextOptions, LlamaRunner

    runner = LlamaRunner(small, ContextOptions(n_seats=8, n_cells=1024, n_batch=128))
    yield runner
    runner.close()


@pytest.fixture
def language(small: "Weights", runner: "LlamaRunner") -> "LlamaLanguage":
    """The small model's."""
    from echo_proxy.llama.language import LlamaLanguage

    return LlamaLanguage(small, runner)
