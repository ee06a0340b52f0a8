"""How busy is each deployment, and what does that take from its arms?"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp

import numpy as np

from echo_proxy.policy import LoadPolicy
from echo_proxy.types import Adjustment, Arm, Conditions, Load, Vector

_RATE = 0.1
"""Share of the newest answer in the moving average of latency. guess, not yet measured"""
_LOST_S = 300.0
"""A request of which nothing was heard for so long is no longer counted."""
_FRESH_S = 60.0
"""A latency that nothing confirmed for so long is not told any more: a deployment that was left because it was slow
would otherwise never be tried again. guess, not yet measured"""
_TOLD_S = 10.0
"""What a model's process has said holds for so long. One that is too busy to say more keeps its queue until then, or
else traffic would go where the queue is longest; one that hangs does not keep it for ever."""
_WINDOW_S = 10.0
"""Time over which the rate of starts is averaged. guess, not yet measured"""


class RateMeter:
    """How often does something begin? A moving average in events per second."""

    __slots__ = ("_last_at", "_rate")

    def __init__(self) -> None:
        self._rate = 0.0
        self._last_at = 0.0

    def start(self, now: float) -> None:
        """It begins once more."""
        self._rate = self.rate_at(now) + 1 / _WINDOW_S
        self._last_at = now

    def rate_at(self, now: float) -> float:
        """Events per second."""
        return self._rate * exp(-max(now - self._last_at, 0.0) / _WINDOW_S)


class _Own:
    """What this worker has seen of one deployment."""

    __slots__ = ("heard_at", "in_flight", "latency_s", "meter", "queue", "queue_at")

    def __init__(self) -> None:
        self.in_flight = 0
        self.latency_s = 0.0
        self.heard_at = float("-inf")
        self.meter = RateMeter()
        self.queue = Load()
        """What its own process says: only what it alone can know is filled in."""
        self.queue_at = float("-inf")

    def start(self, now: float) -> None:
        self.meter.start(now)
        self.in_flight += 1

    def end(self, latency_s: float | None, now: float) -> None:
        self.in_flight -= 1
        if latency_s is None:
            return
        old = self.latency_s if now - self.heard_at < _FRESH_S else latency_s
        self.latency_s = old + _RATE * (latency_s - old)
        self.heard_at = now

    def told(self, now: float) -> Load:
        latency_s = self.latency_s if now - self.heard_at < _FRESH_S else 0.0
        queue = self.queue if now - self.queue_at < _TOLD_S else Load()
        return Load(
            self.in_flight,
            0.0,
            latency_s,
            self.meter.rate_at(now),
            held=queue.held,
            wait_s=queue.wait_s,
            service_s=queue.service_s,
        )


class LoadBoard:
    """Requests in flight per deployment: this worker's own as they are, the other workers' as they last said.

    A local model's process tells what it holds, too. Most of that are requests in flight of ours, which must not be
    counted twice: `waiting` is only what it holds beyond them.
    """

    def __init__(self) -> None:
        self._started: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._own: dict[str, _Own] = {}
        self._others: tuple[Mapping[str, Load], ...] = ()

    def start(self, decision_id: str, deployment: str, now: float) -> None:
        """A deployment begins to answer; a second start of the same request replaces the first."""
        self.end(decision_id, None)
        self._started[decision_id] = (deployment, now)
        self._own.setdefault(deployment, _Own()).start(now)

    def end(self, decision_id: str, latency_s: float | None) -> None:
        """It has answered, after latency_s, or has not (None)."""
        found = self._started.pop(decision_id, None)
        if found is not None:
            deployment, started_at = found
            self._own[deployment].end(latency_s, started_at + (latency_s or 0.0))

    def tell(self, queues: Mapping[str, Load], now: float) -> None:
        """What the processes of deployments say of themselves just now: held, wait_s and service_s."""
        for deployment, queue in queues.items():
            own = self._own.setdefault(deployment, _Own())
            own.queue, own.queue_at = queue, now

    def hear(self, others: Sequence[Mapping[str, Load]]) -> None:
        """What the other workers say."""
        self._others = tuple(others)

    def own(self, now: float) -> Mapping[str, Load]:
        """What this worker has to say."""
        self._drop_lost(now)
        return {name: one.told(now) for name, one in self._own.items()}

    def total(self, now: float) -> Mapping[str, Load]:
        """Over all workers: requests and rates add up; of latencies and queues the worst counts, as all workers speak
        of the same process."""
        out = dict(self.own(now))
        for loads in self._others:
            for name, one in loads.items():
                out[name] = _together(out.get(name, Load()), one)
        return {name: _without_our_own(one) for name, one in out.items()}

    def _drop_lost(self, now: float) -> None:
        while self._started:
            decision_id, (_, started_at) = next(iter(self._started.items()))
            if now - started_at < _LOST_S:
                return
            self.end(decision_id, None)


def _together(one: Load, other: Load) -> Load:
    return Load(
        one.in_flight + other.in_flight,
        max(one.waiting, other.waiting),
        max(one.latency_s, other.latency_s),
        one.starts_per_s + other.starts_per_s,
        max(one.held, other.held),
        max(one.wait_s, other.wait_s),
        max(one.service_s, other.service_s),
    )


def _without_our_own(load: Load) -> Load:
    """Of what a process holds, only what is not known to be in flight waits beside."""
    return replace(load, waiting=max(load.waiting, load.held - load.in_flight, 0.0)) if load.held else load


# ------------------------------------------------------------------ bias


def load_bias(arms: Sequence[Arm], conditions: Conditions, rules: LoadPolicy) -> Adjustment | None:
    """What arms of busy deployments lose; None while no deployment is above its threshold: there quality decides alone.

    IC-Cache takes lambda * tanh(gamma * x) * cost. With the price as cost that moves traffic off a dear model only: a
    cheap local model whose queue is long would lose nothing. So the pressure tanh(gamma * x) is split in two. What a
    deployment has more than the least busy one is lost in full, whatever the arm costs: traffic moves to where there is
    room. What all of them share is lost in proportion to the arm's compute, as in the paper: when all are busy, traffic
    moves to the arm that takes least of its deployment's capacity.

        taken = lambda * (pressure - least + least * compute)

    Source: IC-Cache, arXiv 2501.12689, for lambda * tanh(gamma * x) * cost; the split is ours.
    """
    excess = np.array([_excess(arm.deployment, conditions.loads, rules) for arm in arms])  # (n_arms,)
    if not excess.any():
        return None
    pressure = np.tanh(rules.steepness * excess)  # (n_arms,), [0, 1)
    least = float(pressure.min())
    taken = rules.weight * (pressure - least + least * _compute(arms, conditions, rules))  # (n_arms,)
    over = ", ".join(f"{name} {x:.0%}" for name, x in _by_deployment(arms, excess).items() if x > 0)
    return Adjustment("load", tuple(map(float, taken)), f"above the threshold: {over}")


def threshold_of(deployment: str, rules: LoadPolicy) -> float:
    """Requests that a deployment answers without getting slow."""
    return rules.thresholds.get(deployment, rules.threshold)


def _excess(deployment: str, loads: Mapping[str, Load], rules: LoadPolicy) -> float:
    """How far the load lies above the threshold, in thresholds, at least 0: by requests or, where that is asked for,
    by latency, whichever is more. So one steepness suits small and large deployments."""
    load = loads.get(deployment)
    if load is None:
        return 0.0
    threshold = threshold_of(deployment, rules)
    over = (load.in_flight + load.waiting - threshold) / max(threshold, 1.0)
    if rules.latency_s is not None:
        over = max(over, load.latency_s / rules.latency_s - 1)
    return max(over, 0.0)


def _compute(arms: Sequence[Arm], conditions: Conditions, rules: LoadPolicy) -> Vector:
    """Share of its deployment's capacity that an answer takes, relative to the arm that takes most, shape (n_arms,),
    (0, 1]; an arm that never answered counts as the one that takes most."""
    takes = np.full(len(arms), np.nan)
    for i, arm in enumerate(arms):
        forecast = conditions.forecasts.get(arm.name)
        if forecast is not None and forecast.service_s > 0:
            takes[i] = forecast.service_s / max(threshold_of(arm.deployment, rules), 1.0)
    if np.isnan(takes).all():
        return np.ones(len(arms))
    shares = takes / np.nanmax(takes)
    return np.where(np.isnan(shares), 1.0, shares)


def _by_deployment(arms: Sequence[Arm], excess: Vector) -> Mapping[str, float]:
    return {arm.deployment: float(x) for arm, x in zip(arms, excess, strict=True)}
