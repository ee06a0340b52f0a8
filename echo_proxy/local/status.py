"""How is a local model, as this worker sees it?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from echo_proxy.engine.work import EngineStatus
from echo_proxy.local.health import ModelHealth
from echo_proxy.local.options import LocalModel
from echo_proxy.local.state import ModelState

LocalPhase = Literal["unloaded", "starting", "loading", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class LocalModelStatus:
    """A local model as this worker sees it."""

    name: str
    process: str
    """Where it lives; a crash ends all models of a process."""
    phase: LocalPhase
    """`unloaded` = the next call loads it; `starting` = its process is; `failed` = tried again after a pause."""
    n_restarts: int
    """Starts of its process after that had ended by itself."""
    pid: int | None
    """Its process."""
    is_leader: bool
    """Whether this worker started it."""
    error: str | None
    """Why it failed, or how its process ended last time."""
    log: Path
    """What llama.cpp and the process said."""
    n_ctx: int | None = None
    """Longest prompt and answer together, in tokens; None before it is known."""
    load_s: float = 0.0
    """How long it took to load it last time; 0 = unknown."""
    n_loads: int = 0
    """How often its process has loaded it."""
    n_waiting: int = 0
    """Requests in its queue, when it was asked last."""
    n_running: int = 0
    """Requests that it answers."""
    wait_s: float = 0.0
    """How long a new request will probably wait."""
    service_s: float = 0.0
    """Moving average of the time from leaving the queue to the end of the answer."""
    busy_s: float = 0.0
    """How long its engine's present step has taken."""
    counts: Mapping[str, float] = field(default_factory=dict)
    """Sums since its process started, such as `prompt_tokens`."""


@dataclass(frozen=True, slots=True)
class ProcessView:
    """A process as this worker sees it."""

    state: ModelState | None
    """What its supervisor says; None = nothing yet."""
    is_started: bool
    """Whether this worker wanted it."""
    is_leader: bool
    """Whether this worker has started it."""
    log: Path


def status_of(model: LocalModel, process: ProcessView, health: ModelHealth | None) -> LocalModelStatus:
    """One model's status; health: what its process said last, None = nothing yet."""
    state = process.state
    health = health if state is not None and state.phase == "ready" else None
    status = health.status if health else EngineStatus()
    return LocalModelStatus(
        name=model.name,
        process=model.process,
        phase=health.phase if health else _phase(model, process),
        n_restarts=state.n_restarts if state else 0,
        pid=state.pid if state else None,
        is_leader=process.is_leader,
        error=(health.error if health else None) or (state.error if state else None),
        log=process.log,
        n_ctx=health.n_ctx if health else None,
        load_s=health.load_s if health else 0.0,
        n_loads=health.n_loads if health else 0,
        n_waiting=status.n_waiting,
        n_running=status.n_running,
        wait_s=status.wait_s,
        service_s=status.service_s,
        busy_s=status.busy_s,
        counts=status.counts,
    )


def _phase(model: LocalModel, process: ProcessView) -> LocalPhase:
    if process.state is None:
        return "starting" if process.is_started else "unloaded"
    if process.state.phase != "ready":
        return process.state.phase
    # A process says that it is ready when a model that is loaded at the start is there.
    return "ready" if model.options.load == "start" else "unloaded"
