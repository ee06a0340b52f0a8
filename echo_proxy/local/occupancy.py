"""Which model of a process is loaded next, and which one has to make room for it?"""

from collections.abc import Sequence
from dataclasses import dataclass

from echo_proxy.local.health import Phase


@dataclass(frozen=True, slots=True)
class Standing:
    """How one model stands now. Times are those of one monotonic clock, in seconds."""

    name: str
    phase: Phase
    is_changing: bool = False
    """It is being loaded or closed."""
    asked_at: float | None = None
    """Since when somebody waits for it; None = nobody does."""
    is_wished: bool = False
    """It shall be loaded when there is room, though nobody waits."""
    retry_at: float = 0.0
    """No attempt to load it before then."""
    is_busy: bool = False
    """Its engine has something to do."""
    used_at: float = 0.0
    """When it had something to do last."""
    turn_ends_at: float = 0.0
    """Until then, others that wait do not keep new requests from it."""
    unload_after_s: float | None = None
    """Time without anything to do after which it leaves the memory; None = never."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now. At most one of `load` and `close`."""

    load: str | None = None
    close: str | None = None
    leaving: str | None = None
    """This model ends what it has and gets nothing new, because others wait for its place."""
    is_contended: bool = False
    """Somebody waits for the place of a model that has something to do."""


def plan_next(standings: Sequence[Standing], max_loaded: int, now: float) -> Plan:
    """The next move of one process.

    Who waits longest is served first. A model that has nothing to do makes room at once, the one used longest ago
    first. When all have something to do, the one whose turn ended first gets nothing new until it is done: those who
    wait are reached though the others are asked without end, and a turn is long enough that loading is the smaller
    part. One model is loaded at a time: each gets the whole disk, and memory is never needed for two that cannot both
    stay.
    """
    if any(one.is_changing for one in standings):
        return Plan()
    loaded = [one for one in standings if one.phase == "ready"]
    wanted = _next_wanted(standings, now)
    if len(loaded) < max_loaded:
        load = wanted or _next_wished(standings, now)
        if load is not None:
            return Plan(load=load.name)
    if wanted is not None:
        return _make_room(loaded, now)
    tired = [one for one in loaded if _is_tired(one, now)]
    return Plan(close=min(tired, key=lambda one: one.used_at).name) if tired else Plan()


def _next_wanted(standings: Sequence[Standing], now: float) -> Standing | None:
    asked = [(one.asked_at, one) for one in standings if one.asked_at is not None and _may_load(one, now)]
    return min(asked, key=lambda pair: pair[0])[1] if asked else None


def _next_wished(standings: Sequence[Standing], now: float) -> Standing | None:
    return next((one for one in standings if one.is_wished and _may_load(one, now)), None)


def _may_load(one: Standing, now: float) -> bool:
    return one.phase in ("unloaded", "failed") and not one.is_changing and one.retry_at <= now


def _make_room(loaded: Sequence[Standing], now: float) -> Plan:
    idle = [one for one in loaded if not one.is_busy]
    if idle:
        return Plan(close=min(idle, key=lambda one: one.used_at).name)
    over = [one for one in loaded if one.turn_ends_at <= now]
    first = min(over, key=lambda one: one.turn_ends_at).name if over else None
    return Plan(leaving=first, is_contended=True)


def _is_tired(one: Standing, now: float) -> bool:
    return one.unload_after_s is not None and not one.is_busy and now - one.used_at >= one.unload_after_s
