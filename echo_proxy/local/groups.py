"""Which models share a process?"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from echo_proxy.errors import LocalModelError
from echo_proxy.local.options import LocalModel


@dataclass(frozen=True, slots=True)
class ModelGroup:
    """The models of one process."""

    process: str
    """Names its lock, its address and its log."""
    models: tuple[LocalModel, ...]
    """Sorted by name; at least one."""

    @property
    def fingerprint(self) -> str:
        """Differs when any model or option that the process is started with differs."""
        told = "\n".join(f"{model.name} {model.fingerprint}" for model in self.models)
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    @property
    def max_loaded(self) -> int:
        """Models that may be loaded at once."""
        return self.models[0].options.max_loaded or len(self.models)

    @property
    def is_lazy(self) -> bool:
        """Whether the process is not needed before the first call."""
        return all(model.options.load == "first_call" for model in self.models)

    def find(self, name: str) -> LocalModel | None:
        """The model of that name."""
        return next((model for model in self.models if model.name == name), None)


def form_groups(models: Iterable[LocalModel]) -> tuple[ModelGroup, ...]:
    """The processes that the models need, by name.

    Raises LocalModelError: models of one process disagree about it, or a process has the name of a model that lives
    elsewhere or alone.
    """
    by_process: dict[str, dict[str, LocalModel]] = {}
    for model in models:
        by_process.setdefault(model.process, {})[model.name] = model
    groups = tuple(_group(process, by_process[process]) for process in sorted(by_process))
    for group in groups:
        _check(group)
    return groups


def _group(process: str, models: Mapping[str, LocalModel]) -> ModelGroup:
    return ModelGroup(process, tuple(models[name] for name in sorted(models)))


def _check(group: ModelGroup) -> None:
    first = group.models[0]
    for model in group.models[1:]:
        alone = next((one for one in (first, model) if one.options.process is None), None)
        if alone is not None:
            raise LocalModelError(
                f"llama_cpp/{(model if alone is first else first).name}: model_info.llama_cpp.process: expected a name "
                f"that is not that of a model with a process of its own, got {group.process!r}"
            )
        if model.options.max_loaded != first.options.max_loaded:
            raise LocalModelError(
                f"llama_cpp/{model.name}: model_info.llama_cpp.max_loaded: expected {first.options.max_loaded}, as in "
                f"llama_cpp/{first.name} of the same process {group.process!r}, got {model.options.max_loaded}"
            )
