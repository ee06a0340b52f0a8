from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.offline.simulate_core import Answered, Queues, simulate
from echo_proxy.offline.simulate_routers import ByChance, Static
from tests.offline.fleets import fleet, markov, traffic


class Watcher:
    """Deals out in turn and writes down what it sees and hears."""

    is_listening = True

    def __init__(self, n_arms: int) -> None:
        self.n_arms = n_arms
        self.in_flight: list[list[int]] = []
        self.heard: list[Answered] = []

    def pick(self, request: int, now: float, queues: Queues) -> int:
        self.in_flight.append(list(queues.in_flight))
        return request % self.n_arms

    def hear(self, answer: Answered) -> None:
        self.heard.append(answer)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_mean_wait_in_one_queue(load: float) -> None:
    """M/M/1: the mean wait is rho / (mu - lambda)."""
    run = simulate(traffic(markov(load, 400_000)), fleet(), Static(0))

    assert run.wait_s.mean() == pytest.approx(load / (1 - load), rel=0.06)


@pytest.mark.parametrize("slots", [2, 8])
def test_mean_wait_with_several_slots(slots: int) -> None:
    """M/M/c: the mean wait is Erlang's C / (c mu - lambda)."""
    offered = 0.8 * slots
    run = simulate(traffic(markov(offered, 400_000)), fleet((slots,)), Static(0))
    last = offered**slots / factorial(slots) / 0.2
    erlang_c = last / (sum(offered**k / factorial(k) for k in range(slots)) + last)

    assert run.wait_s.mean() == pytest.approx(erlang_c / (slots - offered), rel=0.06)
    assert (run.wait_s > 0).mean() == pytest.approx(erlang_c, rel=0.03)


def test_littles_law() -> None:
    """Requests in flight, as an arrival meets them, are the arrival rate times the mean latency."""
    arrivals = markov(1.5, 200_000)
    watcher = Watcher(1)
    run = simulate(traffic(arrivals), fleet((2,)), watcher)

    assert np.mean(watcher.in_flight) == pytest.approx(arrivals.rate * run.latency_s.mean(), rel=0.03)


def test_every_request_is_answered_once() -> None:
    """Nothing is lost, nothing is answered twice, answers come in the order of time and last as the run says."""
    watcher = Watcher(2)
    run = simulate(traffic(markov(3.0, 5_000), (0.5, 0.5)), fleet((1, 2), (1.0, 2.0)), watcher)
    latencies = {one.request: one.latency_s for one in watcher.heard}
    times = [one.at for one in watcher.heard]

    assert sorted(one.request for one in watcher.heard) == list(range(5_000))
    assert times == sorted(times)
    assert [latencies[i] for i in range(5_000)] == pytest.approx(run.latency_s.tolist())
    assert all(0 <= one.first_s <= one.latency_s + 1e-9 for one in watcher.heard)


@given(st.integers(1, 4), st.floats(0.1, 5.0), st.integers(0, 50))
def test_a_slot_writes_one_answer_at_a_time(slots: int, rate: float, seed: int) -> None:
    """At no moment are more answers written than there are slots, and none waits while a slot is free."""
    arrivals = markov(rate, 200, seed=seed)
    run = simulate(traffic(arrivals), fleet((slots,)), Static(0))
    begins = arrivals.at + run.wait_s
    ends = arrivals.at + run.latency_s
    busy = [int(((begins <= t) & (ends > t)).sum()) for t in begins + 1e-9]
    met = [int(((begins < t) & (ends > t)).sum()) for t in arrivals.at[run.wait_s > 1e-6]]

    assert max(busy) <= slots
    assert set(met) <= {slots}


def test_same_seed_same_run() -> None:
    """A simulation is determined by its seed; another seed gives another one."""
    runs = [
        simulate(traffic(markov(2.0, 2_000, seed=s), (0.3, 0.9), s), fleet((1, 1), (1, 2)), _by_chance(s))
        for s in (1, 1, 2)
    ]

    assert all((getattr(runs[0], name) == getattr(runs[1], name)).all() for name in ("arm", "latency_s", "quality"))
    assert not (runs[0].latency_s == runs[2].latency_s).all()


def test_costs_and_qualities_are_the_picked_arms() -> None:
    """Money is counted per token of the deployment that answered, quality is the arm's."""
    arrivals = markov(1.0, 4_000)
    dear = simulate(traffic(arrivals, (0.2, 0.9)), fleet((1, 1), (5, 5)), Static(1))

    assert dear.cost_usd == pytest.approx(arrivals.completion_tokens * 2e-6)
    assert dear.quality.mean() == pytest.approx(0.9, abs=0.02)


def _by_chance(seed: int) -> ByChance:
    return ByChance(2, 2_000, np.random.default_rng(seed))
