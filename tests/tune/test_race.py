import math
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.tune.race import Deadline, Races, Rules, interval
from echo_proxy.tune.records import changed
from tests.tune.surface import LOAD, START, PaperMachine

OTHER = changed(START, min_rows=2)


def races(machine: PaperMachine, budget_s: float = 1000.0) -> Races:
    return Races(machine, "latency", LOAD, Deadline(budget_s, machine.now), Rules())


@given(st.lists(st.floats(-2, 2), min_size=2, max_size=20))
def test_the_interval_lies_around_the_mean(logs: list[float]) -> None:
    """For all ratios."""
    low, high = interval(logs)

    assert low <= fmean(logs) + 1e-12
    assert high >= fmean(logs) - 1e-12


def test_a_single_pair_proves_nothing() -> None:
    """There is no measure of noise in it."""
    assert interval([3.0]) == (-math.inf, math.inf)


def test_a_disturbance_of_both_does_not_count() -> None:
    """A machine that is now fast and now slow is so for both, so a gain of 5 % is seen."""
    machine = PaperMachine(lambda options: 1.05 if options.min_rows == 2 else 1.0, 0.005, shared_noise=0.7)
    result = races(machine).run(START, OTHER)

    assert result.is_better
    assert result.ratio == pytest.approx(1.05, rel=0.02)


def test_what_is_much_slower_is_given_up_after_one_pair() -> None:
    """Time is better spent."""
    machine = PaperMachine(lambda options: 0.5 if options.min_rows == 2 else 1.0)
    result = races(machine).run(START, OTHER)

    assert (result.is_better, machine.n_rounds) == (False, 2)


def test_who_goes_first_alternates() -> None:
    """A cache that one of them has warmed helps each as often."""
    machine = PaperMachine(lambda options: 1.0 + 0.03 * (options.min_rows == 2), 0.05)
    order: list[int] = []
    measure = machine.measure
    machine.measure = lambda options, *rest: (order.append(options.min_rows), measure(options, *rest))[1]  # type: ignore[method-assign, func-returns-value]
    races(machine).run(START, OTHER)

    assert order[:4] == [2, 1, 1, 2]


def test_a_race_ends_with_the_time() -> None:
    """And proves nothing then."""
    machine = PaperMachine(lambda options: 1.5 if options.min_rows == 2 else 1.0)
    result = races(machine, budget_s=7.0).run(START, OTHER)

    assert (result.is_better, result.note) == (False, "within the noise")
    assert machine.now_s < 9.0
