"""What if the engine never returns from a step? Then its process ends, and its supervisor starts another.

A request that no one thought of may keep llama.cpp busy for hours; all others would wait behind it.
"""

import faulthandler
import logging
import os
import threading
from collections.abc import Callable, Iterable
from typing import IO

from echo_proxy.local.health import ModelHealth
from echo_proxy.local.host import ModelHost
from echo_proxy.local.options import LocalModel

log = logging.getLogger("echo_proxy.local")

STUCK = 71
"""Exit status of a process whose engine did not return."""
_LOOK_S = 1.0
_LOOKS_PER_STEP = 4
"""So a step is at most a quarter longer than allowed."""


class Watchdog:
    """Watches the models of a process."""

    def __init__(self, models: Iterable[LocalModel], healths: Callable[[], Iterable[ModelHealth]]) -> None:
        self._max_s = {model.name: model.options.max_step_s for model in models}
        self._healths = healths

    def look(self) -> str | None:
        """The model whose engine is stuck, if one is."""
        for one in self._healths():
            step_s, max_s = one.status.busy_s, self._max_s[one.model]
            if step_s > max_s:
                log.critical("llama_cpp/%s: a step has taken %.1f s (max_step_s: %g)", one.model, step_s, max_s)
                return one.model
        return None

    @property
    def pause_s(self) -> float:
        """Between two looks."""
        return min(_LOOK_S, min(self._max_s.values()) / _LOOKS_PER_STEP)

    @property
    def longest_look_s(self) -> float:
        """A look that takes longer finds no lock or no interpreter free, and so is stuck itself."""
        return max(self._max_s.values()) + _LOOK_S


def watch(host: ModelHost, models: Iterable[LocalModel], output: IO[str]) -> None:
    """Begin to watch, in a thread; returns at once. Output: where Python's stacks are told if even looking is stuck."""
    dog = Watchdog(models, host.healths)
    threading.Thread(target=_watch, args=(dog, output), name="echo-watchdog", daemon=True).start()


def _watch(dog: Watchdog, output: IO[str]) -> None:
    pause = threading.Event()
    while True:
        # A timer that needs no interpreter: code in C that holds on to it would stop this thread too. It ends the
        # process with status 1 unless it is wound up again.
        faulthandler.dump_traceback_later(dog.longest_look_s, exit=True, file=output)
        if dog.look() is not None:
            os._exit(STUCK)  # in the middle of the step: nothing else ends it
        pause.wait(dog.pause_s)
