"""Which local models does this worker use? One supervisor for each, started once."""

import threading
from collections.abc import Iterable
from pathlib import Path

from echo_proxy.errors import LocalModelError
from echo_proxy.local.options import LocalModel
from echo_proxy.local.supervisor import LocalModelStatus, Supervisor


class Fleet:
    """The local models of one worker. Thread-safe; nothing in it waits for a model."""

    def __init__(self, state_dir: Path) -> None:
        """Nothing starts yet; locks, addresses and logs will stand in `<state_dir>/local`."""
        self._folder = state_dir.expanduser().absolute() / "local"
        self._supervisors: dict[str, Supervisor] = {}
        self._guard = threading.Lock()

    def ensure(self, model: LocalModel) -> Supervisor:
        """The model's supervisor, started when it is new.

        Raises LocalModelError when another model of that name is in use: both would share files and a process.
        """
        with self._guard:
            known = self._supervisors.get(model.name)
            if known is None:
                known = self._supervisors[model.name] = Supervisor(model, self._folder)
                known.start()
        if known.model is not model and known.model.fingerprint != model.fingerprint:
            raise LocalModelError(
                f"llama_cpp/{model.name}: expected the same model_info.llama_cpp wherever the name is used, "
                f"got {known.model.options!r} and {model.options!r}; give one of them another name"
            )
        return known

    def find(self, name: str) -> LocalModel | None:
        """A model that is in use already."""
        with self._guard:
            known = self._supervisors.get(name)
            return known.model if known else None

    def warm_up(self, models: Iterable[LocalModel]) -> None:
        """Start to load all of them, at the same time; returns at once. Raises LocalModelError as `ensure`."""
        for model in models:
            self.ensure(model)

    def status(self) -> tuple[LocalModelStatus, ...]:
        """How each model is, by name."""
        with self._guard:
            supervisors = [self._supervisors[name] for name in sorted(self._supervisors)]
        return tuple(supervisor.status() for supervisor in supervisors)

    def shutdown(self) -> None:
        """End all processes that this worker leads; other workers take over. Takes up to some seconds."""
        with self._guard:
            supervisors, self._supervisors = list(self._supervisors.values()), {}
        stopping = [threading.Thread(target=supervisor.stop) for supervisor in supervisors]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()


_fleets: dict[Path, Fleet] = {}
_fleets_guard = threading.Lock()


def shared_fleet(state_dir: Path) -> Fleet:
    """The one fleet of this process over a state folder.

    It lives here and not beside LiteLLM's handler, whose module LiteLLM may execute a second time.
    """
    folder = state_dir.expanduser().absolute()
    with _fleets_guard:
        return _fleets.setdefault(folder, Fleet(folder))
