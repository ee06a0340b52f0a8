from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from echo_proxy.limits.budget import Pacer, budget_penalty
from echo_proxy.policy import BudgetPolicy
from echo_proxy.types import Conditions, Lesson
from tests.builders import LARGE, SMALL, lesson

PER_1000 = BudgetPolicy(usd_per_1000_requests=1.0)
PER_DAY = BudgetPolicy(usd_per_day=86.4)


def spent(usd: float, at: float = 0.0) -> Lesson:
    return lesson(cost_usd=usd, at=at)


def test_without_a_budget_cost_has_no_price() -> None:
    """Whatever is spent."""
    pacer = Pacer(None)
    for _ in range(100):
        pacer.learn(spent(1.0))

    assert pacer.price == 0.0
    assert budget_penalty([SMALL, LARGE], np.array([0.1, 1.0]), Conditions(budget_price=0.0)) is None


def test_the_price_rises_while_too_much_is_spent_and_falls_after() -> None:
    """And never above its most, nor below zero."""
    pacer = Pacer(PER_1000)
    for _ in range(1000):
        pacer.learn(spent(0.01))
    dear = pacer.price
    for _ in range(20_000):
        pacer.learn(spent(0.0))

    assert dear == PER_1000.max_price
    assert pacer.price == 0.0


def test_the_total_comes_out_right() -> None:
    """Two arms, the dear one better: after 2,000 requests what was spent is the target, debts of the start paid."""
    pacer, total = Pacer(PER_1000), 0.0
    rng = np.random.default_rng(7)
    for i in range(2000):
        is_dear = 0.3 + rng.normal(0, 0.1) > pacer.price
        cost = (0.0025 if is_dear else 0.0002) * rng.uniform(0.5, 1.5)
        total += cost
        pacer.learn(spent(cost, at=float(i)))

    assert total / 2000 * 1000 == pytest.approx(1.0, rel=0.01)


def served(arrivals: Sequence[float], finished: Sequence[float]) -> Sequence[float]:
    """Times of arrival in the order in which the answers end."""
    return [at for _, at in sorted(zip(finished, arrivals, strict=True))]


def played(pacer: Pacer, arrivals: Sequence[float], seed: int = 7) -> float:
    """USD spent when the dear arm is taken as long as it is worth its price."""
    rng, total = np.random.default_rng(seed), 0.0
    for at in arrivals:
        is_dear = 0.3 + rng.normal(0, 0.1) > pacer.price
        cost = (0.0025 if is_dear else 0.00002) * rng.uniform(0.5, 1.5)
        total += cost
        pacer.learn(spent(cost, at=at))
    return total


def test_a_day_s_budget_is_spread_over_the_requests_that_come() -> None:
    """86.40 USD a day are 1/1000 a second; with a request every two seconds each may cost twice that."""
    pacer = Pacer(PER_DAY)
    pacer.learn(spent(0.0, at=0.0))
    first = pacer.target_usd()
    for i in range(1, 400):
        pacer.learn(spent(0.0, at=2.0 * i))

    assert first is None
    assert pacer.target_usd() == pytest.approx(0.002)


@pytest.mark.parametrize("per_s", [1, 10, 50])
def test_a_day_s_budget_holds_when_answers_end_in_another_order(per_s: int) -> None:
    """Answers take 0.5 to 3 s: what each may cost, and the total, are as if they had come one by one."""
    rng = np.random.default_rng(1)
    arrivals = np.cumsum(rng.exponential(1 / per_s, 6000)).tolist()
    order = served(arrivals, [at + rng.uniform(0.5, 3.0) for at in arrivals])
    pacer = Pacer(BudgetPolicy(usd_per_day=86.4 * per_s))
    total = played(pacer, order)

    assert pacer.target_usd() == pytest.approx(0.001, rel=0.3)  # of some 100 arrivals at least
    assert total == pytest.approx(0.001 * 6000, rel=0.05)


def test_a_day_s_budget_holds_with_several_workers() -> None:
    """Each tells of its answers once in two seconds, all at a time, and its clock is off by up to half a second."""
    rng = np.random.default_rng(2)
    arrivals = np.cumsum(rng.exponential(1 / 20, 6000))
    workers = rng.integers(4, size=6000)
    told = np.ceil((arrivals + rng.uniform(0.5, 3.0, 6000) + workers / 2) / 2) * 2 + workers / 10
    order = served((arrivals + workers / 6).tolist(), told.tolist())
    total = played(Pacer(BudgetPolicy(usd_per_day=1728)), order)

    assert total == pytest.approx(0.001 * 6000, rel=0.05)


def test_a_quiet_night_is_not_spent_in_the_morning() -> None:
    """After eight hours what a request may cost is as before, and at most an hour's worth is caught up."""
    pacer = Pacer(BudgetPolicy(usd_per_day=864))
    evening = [i / 10 for i in range(6000)]
    morning = [at + 8 * 3600 for at in evening]
    played(pacer, evening)
    before = pacer.target_usd()
    pacer.learn(spent(0.0, at=morning[0]))
    saved = -pacer.debt_usd
    targets, total = [], 0.0
    for at in morning[1:]:
        cost = 0.0025 if pacer.price < 0.3 else 0.00002
        total += cost
        pacer.learn(spent(cost, at=at))
        targets.append(pacer.target_usd())

    assert saved <= 864 / 24
    assert max(target for target in targets if target) < 1.5 * (before or 0.0)
    assert total < 1.6 * 0.001 * 6000  # the target moves by half at most


def test_bursts_are_paid_from_the_pauses_between_them() -> None:
    """Ten requests within a second, then a minute of nothing: the day's total counts."""
    pacer = Pacer(PER_DAY)
    arrivals = [60.0 * burst + i / 10 for burst in range(600) for i in range(10)]
    total = played(pacer, arrivals)

    assert total == pytest.approx(0.001 * 36_000, rel=0.6)
    assert total <= 1.05 * 0.001 * 36_000


def test_a_clock_that_is_ahead_or_behind_changes_little() -> None:
    """One worker's lesson from next year, and one from the last, neither stop the pace nor pay for it."""
    pacer = Pacer(BudgetPolicy(usd_per_day=864))
    arrivals = [1e6 + i / 10 for i in range(6000)]
    arrivals[1000], arrivals[2000] = 3e7, 0.0
    total = played(pacer, arrivals)

    assert total == pytest.approx(0.001 * 6000, rel=0.05)


def test_the_penalty_is_price_times_cost() -> None:
    """In reward units, told in words."""
    taken = budget_penalty([SMALL, LARGE], np.array([0.1, 1.0]), Conditions(budget_price=2.0))

    assert taken is not None
    assert (taken.name, taken.penalties, taken.why) == ("budget", (0.2, 2.0), "price of cost 2")


def test_failed_requests_count_too() -> None:
    """A fallback is paid from the same purse."""
    pacer = Pacer(PER_1000)
    pacer.learn(replace(spent(0.1), is_acted=False))

    assert pacer.debt_usd == pytest.approx(0.099)
