"""Which local models does this worker use? One supervisor for each of their processes, started once."""

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from echo_proxy.errors import LocalModelError
from echo_proxy.local.groups import ModelGroup, form_groups
from echo_proxy.local.health import ModelHealth
from echo_proxy.local.options import LocalModel
from echo_proxy.local.status import LocalModelStatus
from echo_proxy.local.supervisor import CHILD, Supervisor


class Fleet:
    """The local models of one worker. Thread-safe; nothing in it waits for a model."""

    def __init__(self, state_dir: Path, command: Sequence[str] = CHILD) -> None:
        """Nothing starts yet; locks, addresses and logs will stand in `<state_dir>/local`.

        Args:
            state_dir: the same for all workers.
            command: starts a process that takes an Order.
        """
        self._folder = state_dir.expanduser().absolute() / "local"
        self._command = command
        self._by_process: dict[str, Supervisor] = {}
        self._healths: dict[str, ModelHealth] = {}
        self._guard = threading.Lock()

    def warm_up(self, models: Iterable[LocalModel]) -> None:
        """Take all models of a config; returns at once.

        Models that name the same process will share it. Processes of which a model is loaded at the start are started
        now, the others with the first `ensure`. Raises LocalModelError when the models disagree with each other or with
        those that are in use.
        """
        groups = form_groups(models)
        with self._guard:
            for group in groups:
                self._check_known(group)
            supervisors = [self._add(group) for group in groups]
        for supervisor in supervisors:
            if not supervisor.group.is_lazy:
                supervisor.start()

    def ensure(self, model: LocalModel) -> Supervisor:
        """The supervisor of the model's process, started when it was not.

        Raises LocalModelError when another model of that name is in use, or the process was formed without it.
        """
        with self._guard:
            supervisor = self._by_process.get(model.process)
            known = supervisor.group.find(model.name) if supervisor else None
            if supervisor is None or known is None:
                supervisor = self._add_alone(model)
            elif known != model:
                raise _two_of(known, model)
        supervisor.start()
        return supervisor

    def find(self, name: str) -> LocalModel | None:
        """A model that is in use already."""
        with self._guard:
            return self._find(name)

    def hear(self, healths: Iterable[ModelHealth]) -> None:
        """What the processes said about their models."""
        with self._guard:
            self._healths.update((one.model, one) for one in healths)

    def supervisors(self) -> tuple[Supervisor, ...]:
        """Of all processes, by name."""
        with self._guard:
            return tuple(self._by_process[process] for process in sorted(self._by_process))

    def status(self) -> tuple[LocalModelStatus, ...]:
        """How each model is, by name."""
        with self._guard:
            healths = dict(self._healths)
        told = [one for supervisor in self.supervisors() for one in supervisor.statuses(healths)]
        return tuple(sorted(told, key=lambda one: one.name))

    def shutdown(self) -> None:
        """End all processes that this worker leads; other workers take over. Takes up to some seconds."""
        with self._guard:
            supervisors, self._by_process = list(self._by_process.values()), {}
        stopping = [threading.Thread(target=supervisor.stop) for supervisor in supervisors]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()

    # ------------------------------------------------------------------ with the guard held

    def _find(self, name: str) -> LocalModel | None:
        found = (supervisor.group.find(name) for supervisor in self._by_process.values())
        return next((model for model in found if model is not None), None)

    def _add(self, group: ModelGroup) -> Supervisor:
        supervisor = self._by_process.get(group.process)
        if supervisor is None:
            supervisor = self._by_process[group.process] = Supervisor(group, self._folder, self._command)
        return supervisor

    def _add_alone(self, model: LocalModel) -> Supervisor:
        """A model that was not in the config when the proxy started."""
        if model.options.process is not None or model.process in self._by_process:
            raise LocalModelError(
                f"llama_cpp/{model.name}: model_info.llama_cpp.process: expected all models of process "
                f"{model.process!r} to be in the config when the proxy starts, got this one later; restart the proxy, "
                "or give the model a name and a process of its own"
            )
        group = ModelGroup(model.process, (model,))
        self._check_known(group)
        return self._add(group)

    def _check_known(self, group: ModelGroup) -> None:
        """Raises LocalModelError when what is in use already differs."""
        for model in group.models:
            known = self._find(model.name)
            if known is not None and known != model:
                raise _two_of(known, model)
        supervisor = self._by_process.get(group.process)
        if supervisor is not None and supervisor.fingerprint != group.fingerprint:
            raise LocalModelError(
                f"process {group.process!r}: expected the models {_names(supervisor.group)}, with which it was "
                f"started, got {_names(group)}; restart the proxy"
            )


def _names(group: ModelGroup) -> str:
    return ", ".join(model.name for model in group.models)


def _two_of(known: LocalModel, model: LocalModel) -> LocalModelError:
    return LocalModelError(
        f"llama_cpp/{model.name}: expected the same model_info.llama_cpp wherever the name is used, "
        f"got {known.options!r} and {model.options!r}; give one of them another name"
    )


_fleets: dict[Path, Fleet] = {}
_fleets_guard = threading.Lock()


def shared_fleet(state_dir: Path) -> Fleet:
    """The one fleet of this process over a state folder.

    It lives here and not beside LiteLLM's handler, whose module LiteLLM may execute a second time.
    """
    folder = state_dir.expanduser().absolute()
    with _fleets_guard:
        return _fleets.setdefault(folder, Fleet(folder))
