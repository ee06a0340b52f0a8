"""Which local models does a LiteLLM config have, and how are they?"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from echo_proxy.errors import LocalModelError
from echo_proxy.litellm.config import PROVIDER, ConfiguredDeployment, LiteLLMConfig
from echo_proxy.local.fleet import Fleet, shared_fleet
from echo_proxy.local.options import LocalModel, parse_model
from echo_proxy.local.status import LocalModelStatus
from echo_proxy.local.watch import LoadWatch
from echo_proxy.types import Load, LocalReport

OPTIONS = "llama_cpp"
"""Key of a model's options in `model_info`."""


class LocalModels:
    """The local models of a proxy, under the names by which arms know them. Used from one event loop."""

    def __init__(self, fleet: Fleet, deployments: Iterable[ConfiguredDeployment]) -> None:
        """Nothing is asked yet."""
        self._fleet = fleet
        self._watch = LoadWatch(fleet)
        self._names = _names(deployments)

    async def loads(self) -> Mapping[str, Load]:
        """What the models' processes have to do, by deployment. Never raises because of a process."""
        return {
            name: Load(held=one.n_waiting + one.n_running, wait_s=one.wait_s, service_s=one.service_s)
            for model, one in (await self._watch.queue_lengths()).items()
            for name in self._names_of(model)
        }

    async def reports(self) -> tuple[LocalReport, ...]:
        """How each model is, by name."""
        await self._watch.healths()  # the fleet hears of it
        return tuple(self._report(one) for one in self._fleet.status())

    async def aclose(self) -> None:
        """Close the connections; the models keep running."""
        await self._watch.aclose()

    def _names_of(self, model: str) -> frozenset[str]:
        return self._names.get(model, frozenset({f"{PROVIDER}/{model}"}))

    def _report(self, one: LocalModelStatus) -> LocalReport:
        return LocalReport(
            name=one.name,
            process=one.process,
            deployments=tuple(sorted(self._names_of(one.name))),
            phase=one.phase,
            n_waiting=one.n_waiting,
            n_running=one.n_running,
            wait_s=one.wait_s,
            service_s=one.service_s,
            n_restarts=one.n_restarts,
            n_loads=one.n_loads,
            counts=one.counts,
            error=one.error,
        )


def _names(deployments: Iterable[ConfiguredDeployment]) -> Mapping[str, frozenset[str]]:
    """Several deployments may share a model: then its queue is the queue of each."""
    names: dict[str, frozenset[str]] = {}
    for one in deployments:
        provider, _, model = one.model.partition("/")
        if provider == PROVIDER:
            names[model] = names.get(model, frozenset()) | one.names
    return names


def warm_up_models(items: Iterable[Mapping[str, Any]], folder: Path, state_dir: Path) -> None:
    """Begin to load the local models of a model_list, all at the same time; returns at once.

    Args:
        items: items of the model_list; those of other providers are skipped.
        folder: of LiteLLM's config, where relative paths start.
        state_dir: for locks, addresses and logs.

    Raises:
        LocalModelError: options are wrong; the message names the model and the field.
    """
    shared_fleet(state_dir).warm_up(local_models(items, folder))


def local_models(items: Iterable[Mapping[str, Any]], folder: Path) -> tuple[LocalModel, ...]:
    """The different local models in a model_list. Raises LocalModelError as `warm_up_models`."""
    models: dict[str, LocalModel] = {}
    bare: list[str] = []
    for item in items:
        name = str((item.get("litellm_params") or {}).get("model") or "")
        if not name.startswith(f"{PROVIDER}/"):
            continue
        name = name.removeprefix(f"{PROVIDER}/")
        raw = (item.get("model_info") or {}).get(OPTIONS)
        if raw is None:
            bare.append(name)
            continue
        model = parse_model(name, raw, folder)
        if models.setdefault(name, model) != model:
            raise LocalModelError(f"llama_cpp/{name}: expected the same model_info.llama_cpp everywhere, got two")
    for name in bare:
        if name not in models:
            parse_model(name, None, folder)  # says what is missing
    return tuple(models.values())


def models_of(config: LiteLLMConfig) -> tuple[LocalModel, ...]:
    """The different local models of a config. Raises LocalModelError as `warm_up_models`."""
    return local_models((one.settings for one in config.deployments), config.path.absolute().parent)


def local_status(state_dir: Path) -> tuple[LocalModelStatus, ...]:
    """How the local models of this worker are, with their restarts."""
    return shared_fleet(state_dir).status()


def shutdown_models(state_dir: Path) -> None:
    """End the processes that this worker leads; takes up to some seconds, so call it off the event loop."""
    shared_fleet(state_dir).shutdown()
