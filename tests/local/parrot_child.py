"""A process of models that only repeat what they hear: `python -m tests.local.parrot_child`."""

import os
import signal
import sys
from pathlib import Path

from echo_proxy.errors import LocalModelError
from echo_proxy.local.child import main
from echo_proxy.local.host import Load
from echo_proxy.local.options import LocalModel
from tests.local.engines import LoadedParrot, ParrotEngine

COMMAND = (sys.executable, "-m", "tests.local.parrot_child")


def loader(folder: Path) -> Load:
    """Loads what is not named `broken`."""

    def load(model: LocalModel) -> LoadedParrot:
        if "broken" in model.name:
            raise LocalModelError(f"llama_cpp/{model.name}: it is broken")
        if model.options.n_gpu_layers:
            raise LocalModelError("n_gpu_layers: expected 0")
        return LoadedParrot(ParrotEngine(lambda: os.kill(os.getpid(), signal.SIGSEGV)))

    return load


if __name__ == "__main__":
    main(loader)
