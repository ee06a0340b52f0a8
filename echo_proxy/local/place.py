"""One model of a process: loaded or not, with those who wait until it is."""

import logging
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Protocol

from echo_proxy.engine.chat import ChatRejected, ChatRequest
from echo_proxy.engine.work import Engine, EngineStatus, Event, Failed, Job, Overloaded
from echo_proxy.local.health import ModelHealth, Phase
from echo_proxy.local.occupancy import Standing
from echo_proxy.local.options import LocalModel

log = logging.getLogger("echo_proxy.local")

_TURN_S = 0.5
"""Shortest turn of a model that others wait for. guess, not yet measured"""
_LOADS_PER_TURN = 2.0
"""A turn is this many times as long as loading took, so at most a third of the time goes into loading. guess"""
_FIRST_PAUSE_S = 1.0
"""A file that could not be loaded is mostly no better at once."""
_LONGEST_PAUSE_S = 30.0


class ModelUnavailable(RuntimeError):
    """The model is not in memory, and will not be soon."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """When to try again, in seconds."""


class LoadedModel(Protocol):
    """A model in memory."""

    @property
    def engine(self) -> Engine:
        """Answers its requests."""
        ...

    @property
    def n_ctx(self) -> int:
        """Longest prompt and answer together, in tokens."""
        ...

    def close(self) -> None:
        """End the engine and free the memory; returns when that is done."""
        ...


def submit(engine: Engine, request: ChatRequest, deliver: Callable[[Event], None], arrived_at: float) -> Job:
    """As Engine.submit, but what nobody foresaw is a RuntimeError: it fails this request, and no other."""
    try:
        return engine.submit(request, deliver, arrived_at=arrived_at)
    except (Overloaded, ChatRejected, RuntimeError):
        raise
    except Exception as error:
        # Its message may quote the request, and a log keeps no prompts: the caller alone is told.
        where = traceback.extract_tb(error.__traceback__)[-1]
        log.error("a request failed: %s in %s, line %s", type(error).__name__, where.filename, where.lineno)
        raise RuntimeError(f"{type(error).__name__}: {error}") from error


class WaitingJob(Job):
    """A request for a model that is not loaded yet; later it stands for the engine's own job."""

    __slots__ = ("_inner", "arrived_at", "deadline_at", "until")

    def __init__(
        self, request: ChatRequest, deliver: Callable[[Event], None], arrived_at: float, longest_s: float
    ) -> None:
        super().__init__(request, deliver)
        self.arrived_at = arrived_at
        """When it reached the process; its deadline counts from then, however long the model is being loaded."""
        self.deadline_at = arrived_at + (request.service.deadline_s or inf)
        self.until = min(arrived_at + longest_s, self.deadline_at)
        """When it is told that the model did not come."""
        self._inner: Job | None = None

    def cancel(self) -> None:
        """See Job.cancel."""
        super().cancel()
        if self._inner is not None:
            self._inner.cancel()

    def hand_on(self, engine: Engine) -> Failed | None:
        """Give it to the engine; what it says against it."""
        if self.is_cancelled:
            return None
        try:
            self._inner = submit(engine, self.request, self.deliver, self.arrived_at)
        except (Overloaded, ChatRejected, RuntimeError) as error:
            return Failed(error)
        if self.is_cancelled:  # while it was handed on
            self._inner.cancel()
        return None


@dataclass(frozen=True, slots=True)
class Handover:
    """Requests that had waited, on their way to their engine. Turning them into tokens takes long: without a lock."""

    place: "Place"
    """Whose `n_on_way` counts them until they are there."""
    engine: Engine
    jobs: tuple[WaitingJob, ...]

    def run(self) -> list[tuple[Job, Failed]]:
        """Give them to the engine; returns what it refused, and why."""
        told = [(job, job.hand_on(self.engine)) for job in self.jobs]
        return [(job, failed) for job, failed in told if failed is not None]


class Place:
    """The state of one model. Not thread-safe: its host locks."""

    def __init__(self, model: LocalModel) -> None:
        self.model = model
        self.phase: Phase = "unloaded"
        self.is_changing = False
        self.is_leaving = False
        self.is_wished = model.options.load == "start"
        self.loaded: LoadedModel | None = None
        self.waiting: deque[WaitingJob] = deque()
        self.asked_at: float | None = None
        self.used_at = 0.0
        self.retry_at = 0.0
        self.n_on_way = 0
        """Requests that are being given to the engine, which must stay until they are there."""
        self._turn_ends_at = 0.0
        self._n_failures = 0
        # Of engines that are closed, and of requests that reached none:
        self._n_served = 0
        self._counts: Mapping[str, float] = {}
        self._health = ModelHealth(model.name, "unloaded")

    def standing(self, now: float) -> Standing:
        """How it stands; notes that it is in use while it has something to do."""
        is_busy = False
        if self.loaded is not None:
            status = self.loaded.engine.status()
            is_busy = status.n_running + status.n_waiting + self.n_on_way > 0
        if is_busy:
            self.used_at = now
        return Standing(
            name=self.model.name,
            phase=self.phase,
            is_changing=self.is_changing,
            asked_at=self.asked_at,
            is_wished=self.is_wished,
            retry_at=self.retry_at,
            is_busy=is_busy,
            used_at=self.used_at,
            turn_ends_at=self._turn_ends_at,
            unload_after_s=self.model.options.unload_after_s,
        )

    # ------------------------------------------------------------------ requests

    def wait(self, request: ChatRequest, deliver: Callable[[Event], None], arrived_at: float, now: float) -> Job:
        """Let a request wait for the model. Raises Overloaded, ModelUnavailable."""
        if self.phase == "failed" and now < self.retry_at:
            self._count("unavailable", 1)
            raise self._unavailable(now)
        self.drop_cancelled()
        options = self.model.options
        room = options.max_queue + options.n_parallel  # so many can be taken when it is loaded
        if len(self.waiting) >= room:
            self._count("refused", 1)
            raise Overloaded(
                f"expected at most {room} requests until llama_cpp/{self.model.name} is loaded, this is one more",
                self._usual_wait_s,
            )
        job = WaitingJob(request, deliver, arrived_at, options.max_wait_s)
        self.waiting.append(job)
        self.ask(now)
        return job

    def ask(self, now: float) -> None:
        """Somebody wants the model to be loaded."""
        self.asked_at = now if self.asked_at is None else self.asked_at

    def drop_cancelled(self) -> None:
        """Nobody loads a model for a caller that has gone."""
        if any(job.is_cancelled for job in self.waiting):
            self.waiting = deque(job for job in self.waiting if not job.is_cancelled)
            if not self.waiting:
                self.asked_at = None

    def expire(self, now: float) -> list[tuple[Job, Failed]]:
        """Those who have waited long enough, and what they are told."""
        self.drop_cancelled()
        late = [job for job in self.waiting if job.until <= now]
        if not late:
            return []
        self.waiting = deque(job for job in self.waiting if job.until > now)
        if not self.waiting:
            self.asked_at = None
        self._count("unavailable", len(late))
        return [(job, Failed(self._too_late(job, now))) for job in late]

    def _too_late(self, job: WaitingJob, now: float) -> Overloaded | ModelUnavailable:
        name, wait_s = self.model.name, self.model.options.max_wait_s
        if job.deadline_at <= now:  # as the engine's queue would say it
            waited_s = now - job.arrived_at
            return Overloaded(
                f"its deadline can no longer be met after {waited_s:.1f} s, in which llama_cpp/{name} was not loaded",
                self._usual_wait_s,
            )
        return ModelUnavailable(f"llama_cpp/{name} was not loaded in time (max_wait_s: {wait_s:g})", self._usual_wait_s)

    def begin_hand_on(self) -> Handover | None:
        """All that waited shall go to the engine; None = nobody did. `end_hand_on` follows it."""
        self.asked_at = None
        if self.loaded is None or not self.waiting:
            return None
        waited, self.waiting = tuple(self.waiting), deque()
        self.n_on_way += len(waited)
        return Handover(self, self.loaded.engine, waited)

    def end_hand_on(self, handover: Handover) -> None:
        """They are there, or were refused."""
        self.n_on_way -= len(handover.jobs)

    # ------------------------------------------------------------------ phases

    def begin_load(self) -> None:
        """It is being loaded."""
        self.phase, self.is_changing = "loading", True

    def become_ready(self, loaded: LoadedModel, load_s: float, now: float) -> Handover | None:
        """It is in memory; as `begin_hand_on`."""
        self.phase, self.is_changing, self.is_wished = "ready", False, False
        self.loaded, self.used_at, self._n_failures = loaded, now, 0
        self._turn_ends_at = now + max(_TURN_S, _LOADS_PER_TURN * load_s)
        self._health = replace(
            self._health, n_ctx=loaded.n_ctx, load_s=load_s, n_loads=self._health.n_loads + 1, error=None
        )
        return self.begin_hand_on()

    def become_failed(self, reason: str, now: float) -> list[tuple[Job, Failed]]:
        """It could not be loaded; all who wait are told so."""
        self.phase, self.is_changing, self.asked_at = "failed", False, None
        self.retry_at = now + min(_FIRST_PAUSE_S * 2**self._n_failures, _LONGEST_PAUSE_S)
        self._n_failures += 1
        self._health = replace(self._health, error=reason)
        waited, self.waiting = self.waiting, deque()
        self._count("unavailable", len(waited))
        return [(job, Failed(self._unavailable(now))) for job in waited]

    def begin_close(self) -> LoadedModel:
        """It leaves the memory; what it has counted stays. Returns what is to be closed."""
        assert self.loaded is not None  # only loaded models are closed
        status = self.loaded.engine.status()
        self._n_served += status.n_served
        self._counts = _added(self._counts, status.counts)
        loaded, self.loaded = self.loaded, None
        self.phase, self.is_changing, self.is_leaving = "unloaded", True, False
        return loaded

    def health(self) -> ModelHealth:
        """For those who ask the process."""
        now = self.loaded.engine.status() if self.loaded is not None else EngineStatus()
        status = replace(
            now,
            n_served=self._n_served + now.n_served,
            n_waiting=now.n_waiting + len(self.waiting),
            wait_s=now.wait_s if self.loaded is not None else self._health.load_s,
            counts=_added(self._counts, now.counts),
        )
        return replace(self._health, phase=self.phase, status=status)

    def _count(self, name: str, n: int) -> None:
        self._counts = _added(self._counts, {name: n})

    @property
    def _usual_wait_s(self) -> float:
        return max(self._health.load_s, 1.0)

    def _unavailable(self, now: float) -> ModelUnavailable:
        message = f"llama_cpp/{self.model.name} could not be loaded: {self._health.error}"
        return ModelUnavailable(message, max(self.retry_at - now, 0.0))


def _added(before: Mapping[str, float], now: Mapping[str, float]) -> Mapping[str, float]:
    return {name: before.get(name, 0) + now.get(name, 0) for name in {**before, **now}}
