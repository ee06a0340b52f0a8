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


def test_a_day_s_budget_is_spread_over_the_requests_that_come() -> None:
    """86.40 USD a day are 1/1000 a second; with a request every two seconds each may cost twice that."""
    pacer = Pacer(PER_DAY)
    pacer.learn(spent(0.0, at=0.0))
    first = pacer.target_usd()
    for i in range(1, 400):
        pacer.learn(spent(0.0, at=2.0 * i))

    assert first is None
    assert pacer.target_usd() == pytest.approx(0.002)


def test_a_quiet_night_is_not_spent_in_the_morning() -> None:
    """What a day's budget has saved is kept for a few requests only."""
    pacer = Pacer(PER_DAY)
    for i in range(1000):
        pacer.learn(spent(0.0, at=float(i)))
    saved = -pacer.debt_usd

    assert saved == pytest.approx(20 * 0.001, rel=0.01)


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
