from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_proxy.upkeep.knapsack import choose

things = st.lists(
    st.tuples(st.one_of(st.integers(0, 6).map(float), st.floats(0, 100)), st.integers(1, 40), st.booleans()),
    max_size=10,
)
budgets = st.integers(0, 250)


def columns(drawn):
    values = np.array([value for value, _, _ in drawn])
    weights = np.array([weight for _, weight, _ in drawn], dtype=np.int64)
    return values, weights, np.array([must for _, _, must in drawn], dtype=bool)


def best_of_all(values, weights, budget, forced):
    """The most that can be had, by trying everything."""
    return max(
        float(values[kept].sum())
        for kept in (np.array(one, dtype=bool) for one in product((False, True), repeat=len(values)))
        if weights[kept].sum() <= budget and not (forced & ~kept).any()
    )


@given(things, budgets)
def test_never_over_budget_unless_forced(drawn, budget):
    """What is kept fits, or holds nothing but what must be kept, and says that this is too much."""
    values, weights, forced = columns(drawn)

    made = choose(values, weights, budget, forced)

    assert made.weight == weights[made.is_kept].sum()
    assert made.is_kept[forced].all()
    assert made.is_over == (weights[forced].sum() > budget)
    assert made.weight <= budget or np.array_equal(made.is_kept, forced)


@settings(max_examples=100)
@given(things, budgets)
def test_small_cases_are_solved(drawn, budget):
    """With few things the choice is the best there is, to within a billionth of the value."""
    values, weights, forced = columns(drawn)
    if weights[forced].sum() > budget:
        return
    best = best_of_all(values, weights, budget, forced)

    made = choose(values, weights, budget, forced)

    assert made.value == pytest.approx(best, rel=2e-9, abs=1e-9)
    assert made.bound >= best - 1e-9


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
@settings(max_examples=20, deadline=None)
def test_the_gap_is_that_of_one_thing_at_most(seed, share):
    """With many things less than the value of a single one is missing, and the stated gap is true."""
    rng = np.random.default_rng(seed)
    values, weights = rng.pareto(1.5, 3000), rng.integers(1, 10_000, 3000)

    made = choose(values, weights, int(share * weights.sum()))

    assert made.value <= made.bound
    assert made.bound - made.value <= values.max()
    assert made.gap == pytest.approx(1 - made.value / made.bound, abs=1e-12)


@given(things, budgets)
def test_choosing_again_drops_nothing(drawn, budget):
    """What was kept is kept, when it is all there is."""
    values, weights, forced = columns(drawn)
    kept = choose(values, weights, budget, forced).is_kept

    again = choose(values[kept], weights[kept], budget, forced[kept])

    assert again.is_kept.all()


@pytest.mark.parametrize("budget", [0, 9, 10, 35, 100])
def test_of_equals_the_earlier_is_kept(budget):
    """Ties do not depend on chance: the first ones stay."""
    made = choose(np.full(10, 2.0), np.full(10, 10), budget)

    assert made.is_kept.tolist() == [10 * (place + 1) <= budget for place in range(10)]


def test_what_is_worth_nothing_stays_where_there_is_room():
    """Nothing is dropped without need."""
    made = choose(np.array([0.0, 5.0, 0.0]), np.array([3, 4, 4]), 8)

    assert made.is_kept.tolist() == [True, True, False]


def test_the_first_that_do_not_fit_together_are_exchanged():
    """Value per weight alone would keep the first and waste the rest of the room."""
    made = choose(np.array([6.0, 10.0, 10.0]), np.array([5, 10, 10]), 20)

    assert made.is_kept.tolist() == [False, True, True]
    assert made.gap == pytest.approx(0.0, abs=1e-8)


@pytest.mark.parametrize(
    ("values", "weights", "told"),
    [
        ([1.0, -1.0], [1, 1], "at least 0"),
        ([1.0, np.nan], [1, 1], "finite"),
        ([1.0, 1.0], [1, 0], "at least 1, got 0"),
        ([1.0], [1, 1], r"got \(1,\), \(2,\)"),
    ],
)
def test_impossible_numbers_are_refused(values, weights, told):
    """A wrong column stops the plan instead of spoiling it."""
    with pytest.raises(ValueError, match=told):
        choose(np.array(values), np.array(weights), 10)
