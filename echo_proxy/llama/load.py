"""How does a model of the operator's configuration become a runner and a language?"""

import os
from dataclasses import dataclass
from typing import Protocol

import llama_cpp

from echo_proxy.errors import LocalModelError
from echo_proxy.llama.language import LlamaLanguage
from echo_proxy.llama.library import SplitMode, WeightOptions, Weights, load_weights
from echo_proxy.llama.prompts import ChatFormat
from echo_proxy.llama.runner import CacheType, ContextOptions, LlamaRunner
from echo_proxy.llama.vocabulary import Vocabulary

_MOST_DEFAULT_CONTEXT = 4096
"""A context costs memory up front; models trained on 128k tokens would take many GB by default."""
_SPARE_SEATS = 8
_SPARE_SEATS_OF_DRAFTS = 2


class ModelOptions(Protocol):
    """What LocalModelOptions, which the layer above knows, says of a model."""

    path: str
    n_ctx: int | None
    n_parallel: int
    n_cells: int | None
    min_rows: int
    n_threads: int | None
    n_threads_batch: int | None
    n_batch: int
    n_gpu_layers: int
    main_gpu: int
    tensor_split: tuple[float, ...] | None
    split_mode: SplitMode
    flash_attn: bool
    type_k: CacheType
    type_v: CacheType
    use_mmap: bool
    use_mlock: bool
    chat_format: str | None
    seed: int | None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that can answer."""

    weights: Weights
    runner: LlamaRunner
    language: LlamaLanguage
    n_ctx: int
    """Longest prompt and answer together, in tokens."""

    def close(self) -> None:
        """Free the memory."""
        self.runner.close()
        self.weights.close()


@dataclass(frozen=True, slots=True)
class LoadedDrafts:
    """A smaller model that guesses."""

    weights: Weights
    runner: LlamaRunner
    fingerprint: str
    """Of its vocabulary; see Language.fingerprint."""

    def close(self) -> None:
        """Free the memory."""
        self.runner.close()
        self.weights.close()


def load_runner(options: ModelOptions) -> Loaded:
    """The model that the options describe. Raises LocalModelError, naming the option where one is wrong."""
    weights = load_weights(options.path, _weight_options(options, options.n_gpu_layers))
    try:
        n_ctx = options.n_ctx or _default_context(weights)
        vocabulary = Vocabulary(weights)
        chat_format = ChatFormat(vocabulary, weights.metadata, options.chat_format, options.path)
        runner = _runner(weights, _context_options(options, n_ctx, _n_seats(options.n_parallel, weights)))
        language = LlamaLanguage(weights, runner, vocabulary=vocabulary, chat_format=chat_format, seed=options.seed)
        return Loaded(weights, runner, language, n_ctx)
    except BaseException:
        weights.close()
        raise


def load_draft_runner(options: ModelOptions, path: str, n_gpu_layers: int, n_ctx: int) -> LoadedDrafts:
    """A smaller model that goes with the one that the options describe.

    Args:
        options: of the larger model.
        path: the smaller one's GGUF.
        n_gpu_layers: its layers on the GPU; -1 = all.
        n_ctx: the larger one's, once it is loaded.

    Raises:
        LocalModelError: it cannot be loaded.
    """
    weights = load_weights(path, _weight_options(options, n_gpu_layers))
    try:
        n_seats = min(options.n_parallel + _SPARE_SEATS_OF_DRAFTS, _most_seats())
        runner = _runner(weights, _context_options(options, n_ctx, n_seats))
        return LoadedDrafts(weights, runner, Vocabulary(weights).fingerprint)
    except BaseException:
        weights.close()
        raise


def _weight_options(options: ModelOptions, n_gpu_layers: int) -> WeightOptions:
    return WeightOptions(
        n_gpu_layers=n_gpu_layers,
        main_gpu=options.main_gpu,
        tensor_split=options.tensor_split,
        split_mode=options.split_mode,
        use_mmap=options.use_mmap,
        use_mlock=options.use_mlock,
    )


def _context_options(options: ModelOptions, n_ctx: int, n_seats: int) -> ContextOptions:
    n_cells = 2 * n_ctx if options.n_cells is None else options.n_cells
    if n_cells < n_ctx:
        raise LocalModelError(f"n_cells: expected at least n_ctx, which is {n_ctx}, got {n_cells}")
    n_cores = os.cpu_count() or 1
    return ContextOptions(
        n_seats=n_seats,
        n_cells=n_cells,
        n_batch=min(options.n_batch, n_cells),
        n_threads=options.n_threads or max(n_cores // 2, 1),
        n_threads_batch=options.n_threads_batch or n_cores,
        flash_attn=options.flash_attn,
        type_k=options.type_k,
        type_v=options.type_v,
        min_rows=options.min_rows,
    )


def _runner(weights: Weights, options: ContextOptions) -> LlamaRunner:
    try:
        return LlamaRunner(weights, options)
    except RuntimeError as error:
        raise LocalModelError(f"llama.cpp could not load {weights.path}: {error}") from error


def _n_seats(n_parallel: int, weights: Weights) -> int:
    """One for each answer, and spare ones for kept prefixes and for drafts that differ."""
    if weights.is_recurrent:  # a seat holds a whole state, and there are no parts of one to keep
        return min(n_parallel + _SPARE_SEATS_OF_DRAFTS, _most_seats())
    return min(3 * n_parallel + _SPARE_SEATS, _most_seats())


def _most_seats() -> int:
    """Less one for what fills up a decode."""
    return int(llama_cpp.llama_max_parallel_sequences()) - 1


def _default_context(weights: Weights) -> int:
    return min(weights.n_ctx_train or _MOST_DEFAULT_CONTEXT, _MOST_DEFAULT_CONTEXT)
