"""How do requests reach the models of one process, when not all of them are in memory?"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable

from echo_proxy.engine.chat import ChatRequest
from echo_proxy.engine.work import Event, Failed, Job
from echo_proxy.local.health import ModelHealth
from echo_proxy.local.occupancy import Plan, plan_next
from echo_proxy.local.options import LocalModel
from echo_proxy.local.place import Handover, LoadedModel, Place, submit

log = logging.getLogger("echo_proxy.local")

Load = Callable[[LocalModel], LoadedModel]
"""Puts a model into memory; takes as long as reading its file. Raises LocalModelError."""

_CRASHED = 70
"""Exit status after an error that nobody foresaw, as the engine's."""
_CONTENDED_LOOK_S = 0.02
"""How soon a model that others wait for is seen to have nothing to do any more."""
_IDLE_LOOK_S = 1.0
"""How exactly the time without anything to do is known."""

_Told = list[tuple[Job, Failed]]


def in_thread(work: Callable[[], None]) -> None:
    """Do it beside; the process ends if it cannot be done."""
    threading.Thread(target=_do_or_end, args=(work,), name="echo-host", daemon=True).start()


def _do_or_end(work: Callable[[], None]) -> None:
    try:
        work()
    except BaseException:
        # Nobody would load a model or take one away any more; a fresh process is better than one that only waits.
        log.critical("the host ended, so the process ends", exc_info=True)
        os._exit(_CRASHED)


class ModelHost:
    """The models of one process. Thread-safe but for `look`, which one thread calls."""

    def __init__(
        self,
        models: Iterable[LocalModel],
        load: Load,
        max_loaded: int,
        *,
        now: Callable[[], float] = time.monotonic,
        spawn: Callable[[Callable[[], None]], None] = in_thread,
    ) -> None:
        """Nothing is loaded yet.

        Args:
            models: with different names; those with `load: start` are loaded first, in this order.
            load: how one is loaded.
            max_loaded: how many may be loaded at once, at least 1.
            now: monotonic clock, in seconds.
            spawn: runs what takes long.
        """
        self._load_model = load
        self._max_loaded = max_loaded
        self.now = now
        """Monotonic clock, in seconds."""
        self._spawn = spawn
        self._changed = threading.Condition()
        self._places = {model.name: Place(model) for model in models}
        self._is_closed = False
        self.names = tuple(self._places)
        """Of all models."""

    def start(self) -> None:
        """Begin to load, in threads; returns at once."""
        in_thread(self._keep_looking)

    def wait_started(self) -> str | None:
        """Wait until one of the models that are loaded at the start is there, or none is expected any more.

        Returns why, if not one model of this process could be loaded.
        """
        with self._changed:
            self._changed.wait_for(self._has_started)
            healths = [place.health() for place in self._places.values()]
        if all(one.phase == "failed" for one in healths):
            return "; ".join(one.error or "" for one in healths)
        return None

    def _has_started(self) -> bool:
        places = self._places.values()
        expected = [one for one in places if one.is_wished and one.phase != "failed"]
        return not expected or any(one.phase == "ready" for one in places)

    # ------------------------------------------------------------------ from other threads

    def submit(
        self, name: str, request: ChatRequest, deliver: Callable[[Event], None], arrived_at: float | None = None
    ) -> Job:
        """As Engine.submit, for the model of that name; it is loaded first where it has to be.

        Args:
            name: of the model.
            request: what is asked.
            deliver: as of Engine.submit.
            arrived_at: when the request came, by the clock of the host; None = now.

        Raises:
            Overloaded, ChatRejected: as Engine.submit.
            ModelUnavailable: for some time after it could not be loaded.
            RuntimeError: something that nobody foresaw.
        """
        with self._changed:
            place, now = self._places[name], self.now()
            arrived_at = now if arrived_at is None else arrived_at
            place.used_at = now
            if place.loaded is None or place.is_leaving:
                job = place.wait(request, deliver, arrived_at, now)
                self._changed.notify_all()
                return job
            engine = place.loaded.engine
            place.n_on_way += 1
        try:
            return submit(engine, request, deliver, arrived_at)
        finally:
            with self._changed:
                place.n_on_way -= 1

    def healths(self) -> tuple[ModelHealth, ...]:
        """How each model is."""
        with self._changed:
            return tuple(place.health() for place in self._places.values())

    def load(self, name: str) -> None:
        """Load the model as if somebody had asked it; returns at once."""
        with self._changed:
            place = self._places[name]
            if place.phase in ("unloaded", "failed"):
                place.retry_at = 0.0
                place.ask(self.now())
                self._changed.notify_all()

    def unload(self, name: str) -> bool:
        """Take the model out of the memory until somebody asks it; False = it has something to do, and stays."""
        with self._changed:
            place = self._places[name]
            if place.standing(self.now()).is_busy or place.is_changing or place.waiting:
                return False
            place.is_wished = False
            if place.loaded is not None:
                self._begin_close(place)
            return True

    def close(self) -> None:
        """Load nothing more and close what is loaded."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            loaded = [place.begin_close() for place in self._places.values() if place.loaded is not None]
        for one in loaded:
            one.close()

    # ------------------------------------------------------------------ the host's own thread

    def _keep_looking(self) -> None:
        while True:
            self.look()
            with self._changed:
                if self._is_closed:
                    return
                self._changed.wait(self._pause_s())

    def look(self) -> None:
        """Decide what is next and begin it; tell those who have waited too long."""
        with self._changed:
            if self._is_closed:
                return
            now = self.now()
            told = [one for place in self._places.values() for one in place.expire(now)]
            plan = self._plan(now)
            for name, place in self._places.items():
                place.is_leaving = name == plan.leaving
                if place.loaded is not None and place.waiting and not place.is_leaving and name != plan.close:
                    self._spawn_hand_on(place)
            if plan.close is not None:
                self._begin_close(self._places[plan.close])
            if plan.load is not None:
                place = self._places[plan.load]
                place.begin_load()
                self._spawn(lambda: self._load(place))
        _tell(told)

    def _plan(self, now: float) -> Plan:
        standings = [place.standing(now) for place in self._places.values()]
        return plan_next(standings, self._max_loaded, now)

    def _pause_s(self) -> float | None:
        """Until the next look is needed, unless something happens before; None = nothing will be needed."""
        now, pauses = self.now(), list[float]()
        plan = self._plan(now)
        if plan.load is not None or plan.close is not None:
            return 0.0  # it came after the last look, and so did its notification, which nobody heard
        if plan.is_contended:
            pauses.append(_CONTENDED_LOOK_S)
        for place in self._places.values():
            pauses += [max(job.until - now, 0.0) for job in place.waiting]
            if place.is_wished and place.phase == "failed" and place.retry_at > now:
                pauses.append(place.retry_at - now)
            if place.loaded is not None and place.model.options.unload_after_s is not None:
                pauses.append(min(_IDLE_LOOK_S, place.model.options.unload_after_s / 4))
        return min(pauses, default=None)

    # ------------------------------------------------------------------ what takes long

    def _load(self, place: Place) -> None:
        name, began = place.model.name, self.now()
        try:
            loaded = self._load_model(place.model)
        except Exception as error:  # noqa: BLE001 - whatever it was, those who wait must hear of it
            log.error("llama_cpp/%s could not be loaded: %s", name, error)
            with self._changed:
                told = place.become_failed(str(error), self.now())
                self._changed.notify_all()
            _tell(told)
        else:
            with self._changed:
                now = self.now()
                log.info("llama_cpp/%s was loaded in %.2f s", name, now - began)
                handover = place.become_ready(loaded, now - began, now)
                if self._is_closed:
                    self._begin_close(place)
                self._changed.notify_all()
            if handover is not None:
                self._hand_on(handover)

    def _spawn_hand_on(self, place: Place) -> None:
        handover = place.begin_hand_on()
        if handover is not None:
            self._spawn(lambda: self._hand_on(handover))

    def _hand_on(self, handover: Handover) -> None:
        told = handover.run()
        with self._changed:
            handover.place.end_hand_on(handover)
            self._changed.notify_all()
        _tell(told)

    def _begin_close(self, place: Place) -> None:
        loaded = place.begin_close()
        self._spawn(lambda: self._close(place, loaded))

    def _close(self, place: Place, loaded: LoadedModel) -> None:
        loaded.close()
        log.info("llama_cpp/%s was unloaded", place.model.name)
        with self._changed:
            place.is_changing = False
            self._changed.notify_all()


def _tell(told: _Told) -> None:
    for job, failed in told:
        job.deliver(failed)
