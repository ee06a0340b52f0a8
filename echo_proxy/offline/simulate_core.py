"""What happens when requests meet busy deployments? A discrete-event simulation.

A deployment serves first come, first served with c slots, so the moment in which a slot takes up a request is known as
soon as the request comes: the earliest moment in which one becomes free. Only answers are events of their own.
"""

from dataclasses import dataclass
from heapq import heappop, heappush, heapreplace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from echo_proxy.offline.simulate_arrivals import Indices, Traffic
from echo_proxy.offline.simulate_fleet import Fleet, Takes
from echo_proxy.types import Vector

Matrix = NDArray[np.float64]


class Queues:
    """The deployments' queues at a moment."""

    __slots__ = ("free_at", "in_flight")

    def __init__(self, fleet: Fleet) -> None:
        self.in_flight = [0] * len(fleet.deployments)
        """Requests that each deployment has been given and has not answered."""
        self.free_at = [[0.0] * model.slots for model in fleet.models]
        """Per deployment a heap: when each slot becomes free."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer has come."""

    request: int
    arm: int
    at: float
    first_s: float
    """Time to the first token, waiting included."""
    latency_s: float


class Router(Protocol):
    """Chooses arms in a simulation."""

    is_listening: bool
    """Whether it wants to hear of answers."""

    def pick(self, request: int, now: float, queues: Queues) -> int:
        """Index of the arm that serves the request."""

    def hear(self, answer: Answered) -> None:
        """An answer has come."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of every request, each of shape (n,)."""

    arm: Indices
    wait_s: Vector
    """Before a slot took it up."""
    latency_s: Vector
    cost_usd: Vector
    quality: Vector
    """Of the answer, whenever it came."""


def simulate(traffic: Traffic, fleet: Fleet, router: Router, takes: Takes | None = None) -> Run:
    """Every request answered once, by the arm that the router picks."""
    takes = takes or fleet.takes(traffic.arrivals)
    arm = np.zeros(len(traffic), dtype=np.int64)
    wait_s = np.zeros(len(traffic))
    _pass(traffic, fleet, router, takes, arm, wait_s)
    rows = np.arange(len(traffic))
    latency_s = wait_s + takes.occupied_s[rows, arm] + takes.overhead_s[rows, arm]
    return Run(arm, wait_s, latency_s, takes.cost_usd[rows, arm], traffic.quality[rows, arm])


def _pass(traffic: Traffic, fleet: Fleet, router: Router, takes: Takes, arm: Indices, wait_s: Vector) -> None:
    """Fill in the arm and the waiting time of every request, in the order of their arrival."""
    queues, deployment_of = Queues(fleet), fleet.deployment_of
    in_flight, free_at = queues.in_flight, queues.free_at
    coming: list[tuple[float, int, int, float]] = []  # (moment of the answer, request, arm, first_s)
    occupied = takes.occupied_s.tolist()
    overhead = takes.overhead_s[0].tolist() if len(traffic) else []
    prefill = takes.prefill_s
    for request, now in enumerate(traffic.arrivals.at.tolist()):
        while coming and coming[0][0] <= now:
            _answer(coming, in_flight, deployment_of, router, traffic)
        picked = router.pick(request, now, queues)
        deployment = deployment_of[picked]
        slots = free_at[deployment]
        begins = slots[0] if slots[0] > now else now
        ends = begins + occupied[request][picked]
        heapreplace(slots, ends)
        in_flight[deployment] += 1
        first_s = begins - now + float(prefill[request, picked]) + overhead[picked] if router.is_listening else 0.0
        heappush(coming, (ends + overhead[picked], request, picked, first_s))
        arm[request] = picked
        wait_s[request] = begins - now
    while coming:
        _answer(coming, in_flight, deployment_of, router, traffic)


def _answer(
    coming: list[tuple[float, int, int, float]],
    in_flight: list[int],
    deployment_of: tuple[int, ...],
    router: Router,
    traffic: Traffic,
) -> None:
    at, request, arm, first_s = heappop(coming)
    in_flight[deployment_of[arm]] -= 1
    if router.is_listening:
        router.hear(Answered(request, arm, at, first_s, at - float(traffic.arrivals.at[request])))
