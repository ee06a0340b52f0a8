import math
import random

import pytest

from echo_proxy.engine.queue import QueueLimits
from tests.engine.queue_simulation import Arrival, Fate, SimulatedEngine, poisson, quantile

SEEDS = pytest.mark.parametrize("seed", [1, 2, 3])
CAPACITY_PER_S = 6.0
"""Requests of usual length that eight slots serve."""


def _overload(seed: int) -> list[Arrival]:
    """Three times what can be served, for a minute; one in ten is urgent."""
    rng = random.Random(seed)
    return [_usual_or_urgent(rng, at) for at in poisson(rng, 3 * CAPACITY_PER_S, 0, 60)]


def _usual_or_urgent(rng: random.Random, at: float) -> Arrival:
    n_answer = max(int(rng.lognormvariate(3.9, 0.6)), 1)
    if rng.random() < 0.1:
        return Arrival(at, min(n_answer, 150), scope="urgent", priority=1, deadline_s=5.0, most_tokens=150)
    return Arrival(at, min(n_answer, 512), scope=f"s{rng.randrange(4)}")


def _long_before_urgent(seed: int) -> list[Arrival]:
    """Answers of ten seconds fill every slot; short urgent ones come in between."""
    rng = random.Random(seed)
    long = [Arrival(at, rng.randint(350, 500), scope="batch") for at in poisson(rng, 2.5, 0, 60)]
    urgent = [
        Arrival(at, rng.randint(20, 60), scope="chat", priority=1, deadline_s=3.0, most_tokens=64)
        for at in poisson(rng, 0.6, 0, 60)
    ]
    return long + urgent


def _attainment(fates: list[Fate]) -> float:
    return sum(one.is_attained for one in fates) / len(fates)


def _with_priority(fates: list[Fate], priority: int) -> list[Fate]:
    return [one for one in fates if one.arrival.priority == priority]


@SEEDS
def test_urgent_ones_meet_their_deadlines_under_threefold_load(seed: int) -> None:
    """Of all urgent requests, refused ones counted as missed, 99 % end in time; without the order most do not."""
    limits = QueueLimits(8, 4096, max_queue=64, max_queue_s=10.0)
    with_order = _with_priority(SimulatedEngine(limits).run(_overload(seed)), 1)
    without = _with_priority(SimulatedEngine(limits, is_ordered=False).run(_overload(seed)), 1)

    assert _attainment(with_order) >= 0.99
    assert _attainment(without) < 0.6


@SEEDS
def test_everybody_is_served_or_refused_in_time(seed: int) -> None:
    """Nobody waits longer than allowed, those who are refused hear when to come back, and no slot is idle."""
    engine = SimulatedEngine(QueueLimits(8, 4096, max_queue=64, max_queue_s=10.0))
    fates = engine.run(_overload(seed))
    refused = [one for one in fates if one.refused_at is not None]

    assert all(one.wait_s <= 10.0 + 0.1 for one in fates)  # a step may be under way when the time is over
    assert all((one.ended_at is None) != (one.refused_at is None) for one in fates)
    assert refused
    assert all(one.retry_after_s is not None and 1 <= one.retry_after_s <= 60 for one in refused)
    assert sum(one.ended_at is not None for one in fates) / engine.now >= CAPACITY_PER_S


@SEEDS
def test_most_refusals_come_at_once(seed: int) -> None:
    """Who cannot be served in time hears so at the door, not after a wait."""
    fates = SimulatedEngine(QueueLimits(8, 4096, max_queue=64, max_queue_s=10.0)).run(_overload(seed))
    refused = [one for one in fates if one.refused_at is not None]

    assert sum(one.wait_s < 0.1 for one in refused) >= 0.6 * len(refused)


@SEEDS
def test_pauses_save_deadlines(seed: int) -> None:
    """Behind long answers urgent ones are served by pausing; the paused ones go on and end."""
    paused, patient = (
        SimulatedEngine(QueueLimits(8, 8192, max_queue=64, max_queue_s=30.0, max_pauses=n)).run(
            _long_before_urgent(seed)
        )
        for n in (2, 0)
    )
    interrupted = [one for one in paused if one.n_pauses]

    assert _attainment(_with_priority(paused, 1)) >= 0.93
    assert _attainment(_with_priority(paused, 1)) >= _attainment(_with_priority(patient, 1)) + 0.1
    assert interrupted
    assert all(one.n_pauses <= 2 and one.ended_at is not None for one in interrupted)
    assert not any(one.n_pauses for one in patient)


@SEEDS
def test_flood_of_one_scope_hardly_slows_another(seed: int) -> None:
    """A scope that asks for little is served soon, while another fills the queue and is refused."""
    rng = random.Random(seed)
    flood = [Arrival(at, rng.randint(20, 100), scope="flood") for at in poisson(rng, 16, 0, 60)]
    modest = [Arrival(at, rng.randint(20, 100), scope="modest") for at in poisson(rng, 0.8, 5, 60)]
    fates = SimulatedEngine(QueueLimits(8, 4096, max_queue=64, max_queue_s=20.0)).run(flood + modest)
    modest_waits = [one.wait_s for one in fates if one.arrival.scope == "modest" and one.ended_at is not None]
    flood_waits = [one.wait_s for one in fates if one.arrival.scope == "flood" and one.ended_at is not None]

    assert len(modest_waits) == len(modest)
    assert quantile(modest_waits, 0.95) < 1.5
    assert quantile(flood_waits, 0.5) > 5


@SEEDS
def test_short_ones_pass_long_ones_but_not_for_ever(seed: int) -> None:
    """Short answers wait less than long ones, and every long one is served."""
    rng = random.Random(seed)
    long = [Arrival(at, 450) for at in poisson(rng, 0.75, 0, 60)]
    short = [Arrival(at, 20, most_tokens=24) for at in poisson(rng, 4, 0, 60)]
    fates = SimulatedEngine(QueueLimits(8, 8192, max_queue=64, max_queue_s=30.0)).run(long + short)
    long_waits = [one.wait_s for one in fates if one.arrival.n_answer == 450]
    short_waits = [one.wait_s for one in fates if one.arrival.n_answer == 20]

    assert all(one.ended_at is not None for one in fates)
    assert quantile(short_waits, 0.5) < quantile(long_waits, 0.5)
    assert quantile(short_waits, 0.95) < 4


@SEEDS
def test_scarce_memory_stalls_nobody(seed: int) -> None:
    """With memory for two large prompts, all that are begun end, and large ones are not passed for ever."""
    rng = random.Random(seed)
    arrivals = [
        Arrival(at, rng.randint(20, 300), scope=f"s{rng.randrange(3)}", n_prompt=rng.choice((50, 100, 800)))
        for at in poisson(rng, 1.5, 0, 60)
    ]
    fates = SimulatedEngine(QueueLimits(8, 1600, max_queue=200, max_queue_s=600.0)).run(arrivals)

    assert all(one.ended_at is not None for one in fates)


@SEEDS
def test_nobody_starves(seed: int) -> None:
    """Under a flood of higher priority, one that comes when k wait is overtaken at most 32 times per place."""
    rng = random.Random(seed)
    flood = [Arrival(at, rng.randint(20, 60), scope="flood", priority=1) for at in poisson(rng, 20, 0, 25)]
    low = [Arrival(at, rng.randint(20, 60), scope="low") for at in poisson(rng, 0.3, 0, 25)]
    limits = QueueLimits(8, 100_000, max_queue=10_000, max_queue_s=math.inf, max_pauses=0)
    fates = [one for one in SimulatedEngine(limits).run(flood + low) if one.arrival.scope == "low"]

    assert all(one.n_overtaken <= (one.n_before + 1) * 33 for one in fates)
    # Those before it are mostly served in their order too, so it is far better than the bound.
    assert all(one.n_overtaken <= one.n_before + 32 for one in fates)
