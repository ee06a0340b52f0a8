"""How is one local model configured? `model_info.llama_cpp` of an item in LiteLLM's model_list."""

import hashlib
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from echo_proxy.errors import LocalModelError
from echo_proxy.local.gguf import read_header

INSTALL = "pip install 'echo-proxy[local]'"
"""Gets llama-cpp-python."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MAX_DEFAULT_CONTEXT = 4096
"""A context costs memory up front; models trained on 128k tokens would take many GB by default."""

CacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]


class NoDrafts(BaseModel):
    """One token after the other."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    kind: Literal["none"]


class LookupDrafts(BaseModel):
    """What followed the newest words before, in the prompt with its examples and in retrieved answers, is proposed and
    checked in one go: the text stays the same. Costs nothing where it does not pay: it rests then.

    Source: LLMA, Yang et al. 2023, https://arxiv.org/abs/2304.04487
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    kind: Literal["lookup"]
    most_tokens: int = Field(default=16, ge=1, le=64)
    """Longest draft."""
    most_drafts: int = Field(default=2, ge=1, le=8)
    """Different drafts that are checked at once."""


class ModelDrafts(BaseModel):
    """A smaller model with the same tokens proposes; the text stays the same."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    kind: Literal["model"]
    path: str
    """Its GGUF file; relative paths start as those of the model itself."""
    most_tokens: int = Field(default=8, ge=1, le=64)
    """Longest draft."""
    n_gpu_layers: int = Field(default=0, ge=-1)
    """Its layers on the GPU; -1 = all."""


class CoDecoding(BaseModel):
    """A smaller model with the same tokens writes, and this one looks over its shoulder: Big Little Decoder.

    Not distribution-preserving: the text is neither model's own. Source: Kim et al. 2023,
    https://arxiv.org/abs/2302.07863
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    kind: Literal["co_decode"]
    path: str
    """GGUF file of the smaller model; relative paths start as those of the model itself."""
    fallback: float = Field(default=0.6, ge=0, le=2)
    """The smaller model hands over when its likeliest token is less likely than this; 2 = always."""
    rollback: float = Field(default=5.0, ge=0)
    """Its tokens are undone from the first on that has a larger -log p in the larger model; 0 = all."""
    window: int = Field(default=10, ge=1, le=64)
    """Tokens after which it must hand over."""
    gate: str | None = None
    """A file made by `echo-proxy gate`, which decides in place of `fallback`."""
    agreement: str | None = None
    """A file in which it is noted where both models agree: `echo-proxy gate` fits a gate to it. Numbers, no texts."""
    n_gpu_layers: int = Field(default=0, ge=-1)
    """Layers of the smaller model on the GPU; -1 = all."""


Drafting = Annotated[NoDrafts | LookupDrafts | ModelDrafts | CoDecoding, Field(discriminator="kind")]


class LocalModelOptions(BaseModel):
    """What llama.cpp is loaded with. Numbers default to what llama-cpp-python chooses, unless a line says otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    path: str
    """The GGUF file; a relative path starts at the folder of LiteLLM's config, or else at the working directory."""
    n_ctx: int | None = Field(default=None, ge=16)
    """Longest prompt and answer together, in tokens; default: what the model was trained with, at most 4,096."""
    n_parallel: int = Field(default=8, ge=1, le=128)
    """Requests that are answered at the same time, in one batch."""
    n_cells: int | None = Field(default=None, ge=16)
    """Tokens that all requests and kept prefixes together can hold, at least n_ctx; default: twice n_ctx."""
    kept_cells: int | None = Field(default=None, ge=0)
    """Tokens of ended requests that stay in the context for the next ones with the same beginning; every step of all
    others looks at them too. Default: as many as make a step about a fifth slower, few for small models."""
    min_rows: int = Field(default=1, ge=1, le=8)
    """Rows that a step has at least, filled up with one that nobody needs: some CPU kernels are slower with one row
    than with two. `echo-proxy tune` measures it."""
    prefill_rows: int | None = Field(default=None, ge=1)
    """Prompt tokens that a step reads while others wait for their next token; default: n_batch."""
    drafting: Drafting = LookupDrafts(kind="lookup")
    """How tokens are guessed ahead."""
    prefix_sharing: Literal["scope", "all"] = "scope"
    """Who may profit from a prompt that was read before: `scope` = only requests of the same scope, `all` = everybody
    (faster, but how long an answer takes can then tell one tenant what another has asked)."""
    prefix_ram_mb: int = Field(default=64, ge=0)
    """Memory for the states of prefixes that had to leave the context, in MiB; 0 = none."""
    prefix_disk_mb: int = Field(default=0, ge=0)
    """Disk for those that had to leave the memory, in MiB, kept over restarts; 0 = none. The files hold what can be
    read back as the prompts' texts; they are readable for this user only."""
    process: str | None = None
    """Models of the same name here live in one process; default: each in its own. A crash ends all of a process."""
    load: Literal["start", "first_call"] = "start"
    """When the model is loaded."""
    unload_after_s: float | None = Field(default=None, gt=0)
    """It leaves the memory when nobody asked for so long; the next call loads it again. None = never."""
    max_loaded: int | None = Field(default=None, ge=1)
    """Models of this process that are loaded at once: another call swaps out the one that was used longest ago.
    Must be the same in all models of the process; None = all."""
    n_threads: int | None = Field(default=None, ge=1, le=1024)
    """Threads that generate; default: half of the cores."""
    n_threads_batch: int | None = Field(default=None, ge=1, le=1024)
    """Threads that read prompts; default: all cores."""
    n_batch: int = Field(default=512, ge=1)
    """Prompt tokens read at once; a cancelled request is noticed between two batches."""
    n_gpu_layers: int = Field(default=0, ge=-1)
    """Layers on the GPU; -1 = all. Needs a build with CUDA, Metal, Vulkan or ROCm: see `echo-proxy doctor`."""
    main_gpu: int = Field(default=0, ge=0)
    """The GPU that holds what is not split."""
    tensor_split: tuple[float, ...] | None = Field(default=None, strict=False)
    """Share of the model per GPU, one number for each."""
    split_mode: Literal["none", "layer", "row"] = "layer"
    """How several GPUs share the model."""
    flash_attn: bool = False
    """Flash attention: less memory; needed for a quantised `type_v`."""
    type_k: CacheType = "f16"
    """Number format of the keys in the cache."""
    type_v: CacheType = "f16"
    """Number format of the values in the cache."""
    use_mmap: bool = True
    """Map the file instead of reading it; processes that load the same file share its pages."""
    use_mlock: bool = False
    """Keep the weights from being swapped out."""
    chat_format: str | None = None
    """One of llama-cpp-python's chat formats, such as `chatml`; default: the template in the GGUF."""
    seed: int | None = Field(default=None, ge=0, le=2**32 - 1)
    """Seed of requests that bring none; default: another one each time."""
    max_queue: int = Field(default=64, ge=0)
    """Requests that may wait; beyond it one gets HTTP 429, the least urgent first."""
    max_queue_s: float = Field(default=60.0, gt=0, le=3600)
    """A request that would probably wait longer than this in the queue gets HTTP 429 at once."""
    max_wait_s: float = Field(default=30.0, gt=0, le=3600)
    """Longest wait of a request, in seconds, while the model is being loaded or restarted; then it gets HTTP 503."""
    max_step_s: float = Field(default=60.0, gt=0, le=3600)
    """Longest step of the engine, in seconds. When one takes longer, its process is taken for stuck: it ends and is
    started again. A step reads at most n_batch tokens of prompts; where a large model on a slow CPU reads few of them a
    second, make this longer or n_batch smaller."""

    @model_validator(mode="after")
    def _check_cache(self) -> Self:
        """llama.cpp says only that it could not make a context."""
        if self.type_v not in ("f32", "f16", "bf16") and not self.flash_attn:
            raise ValueError(f"type_v: expected flash_attn: true with a quantised type_v, got false with {self.type_v}")
        return self

    @model_validator(mode="after")
    def _check_cells(self) -> Self:
        """One request may fill its whole context."""
        if self.n_ctx is not None and self.n_cells is not None and self.n_cells < self.n_ctx:
            raise ValueError(f"n_cells: expected at least n_ctx, which is {self.n_ctx}, got {self.n_cells}")
        return self

    @model_validator(mode="after")
    def _check_process(self) -> Self:
        """The process names files."""
        if self.process is not None and not _NAME.fullmatch(self.process):
            raise ValueError(f"process: expected a name of letters, digits, '.', '_', '-', got {self.process!r}")
        return self


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A local model, ready to be loaded."""

    name: str
    """`small` in `model: llama_cpp/small`."""
    options: LocalModelOptions
    """Its paths are absolute."""

    @property
    def process(self) -> str:
        """The process that it lives in; names its log and its lock."""
        return self.options.process or self.name

    @property
    def fingerprint(self) -> str:
        """Differs when any option differs: its process is started with all of them."""
        return hashlib.sha256(self.options.model_dump_json().encode()).hexdigest()[:16]


def parse_model(name: str, raw: object, folder: Path | None = None) -> LocalModel:
    """The model that the options describe; its file is not looked at.

    Args:
        name: the part after `llama_cpp/`.
        raw: `model_info.llama_cpp` as it stands in the YAML.
        folder: where a relative path starts; None = the working directory.

    Raises:
        LocalModelError: the message names the model and each wrong field, with what was expected and what came.
    """
    if not _NAME.fullmatch(name):
        raise LocalModelError(f"llama_cpp/{name}: expected a name of letters, digits, '.', '_', '-', got {name!r}")
    if not isinstance(raw, Mapping):
        raise LocalModelError(
            f"llama_cpp/{name}: expected model_info.llama_cpp with a path to a GGUF file, got {_shown(raw)}"
        )
    try:
        options = LocalModelOptions.model_validate(dict(raw))
    except ValidationError as error:
        raise LocalModelError(f"llama_cpp/{name}: {_explain(error)}") from error
    return LocalModel(name, _with_absolute_paths(options, folder or Path.cwd()))


def _with_absolute_paths(options: LocalModelOptions, folder: Path) -> LocalModelOptions:
    """The process that loads them has another working directory."""

    def absolute(path: str) -> str:
        return str((folder / Path(path).expanduser()).absolute())

    drafting = options.drafting
    if isinstance(drafting, ModelDrafts | CoDecoding):
        drafting = drafting.model_copy(update={"path": absolute(drafting.path)})
    if isinstance(drafting, CoDecoding):
        files = {name: getattr(drafting, name) for name in ("gate", "agreement")}
        drafting = drafting.model_copy(
            update={name: absolute(path) for name, path in files.items() if path is not None}
        )
    return options.model_copy(update={"path": absolute(options.path), "drafting": drafting})


def _shown(raw: object) -> str:
    return "nothing" if raw is None else repr(raw)


def _explain(error: ValidationError) -> str:
    return "; ".join(_explain_one(one) for one in error.errors(include_url=False))


def _explain_one(error: ErrorDetails) -> str:
    if not error["loc"]:  # ours, which names its field
        return f"model_info.llama_cpp.{error['msg'].removeprefix('Value error, ')}"
    came = "" if error["type"] == "missing" else f", got {error['input']!r}"
    return f"model_info.llama_cpp.{'.'.join(map(str, error['loc']))}: {error['msg']}{came}"


def check_model(model: LocalModel) -> None:
    """Make sure, without loading it, that the model can be loaded.

    Raises LocalModelError: a file is missing or no GGUF, or llama-cpp-python is not installed.
    """
    if importlib.util.find_spec("llama_cpp") is None:
        raise LocalModelError(f"llama_cpp/{model.name}: expected llama-cpp-python to be installed: {INSTALL}")
    _check_file(model, "", model.options.path)
    drafting = model.options.drafting
    if isinstance(drafting, ModelDrafts | CoDecoding):
        _check_file(model, "drafting.", drafting.path)
    if isinstance(drafting, CoDecoding):
        field = f"llama_cpp/{model.name}: model_info.llama_cpp.drafting"
        if drafting.gate is not None and not Path(drafting.gate).is_file():
            raise LocalModelError(f"{field}.gate: expected a file, got {drafting.gate}")
        if drafting.agreement is not None and not Path(drafting.agreement).parent.is_dir():
            raise LocalModelError(
                f"{field}.agreement: expected a file in a folder that exists, got {drafting.agreement}"
            )


def _check_file(model: LocalModel, prefix: str, path: str) -> None:
    try:
        read_header(Path(path))
    except LocalModelError as error:
        raise LocalModelError(f"llama_cpp/{model.name}: model_info.llama_cpp.{prefix}{error}") from error


def default_context(path: Path) -> int:
    """Tokens of context for a model whose options say nothing. Raises LocalModelError."""
    trained = read_header(path).context_length
    return min(trained or _MAX_DEFAULT_CONTEXT, _MAX_DEFAULT_CONTEXT)
