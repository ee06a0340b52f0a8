"""The error bound: when a model must be asked all the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.keeping.answers_bound import TRUTHS, simulate
from echo_proxy.answers.bound import CAUTION, LEAST_EXPLORING, explore_chance, proof, wrong_chance
from echo_proxy.answers.curves import curves
from echo_proxy.policy_keeping import AnswersPolicy
from echo_proxy.types import Observation

distances = st.floats(0, 2)
observations = st.lists(st.builds(Observation, distances, st.booleans(), st.just(0.0)), max_size=64)


def seen(n_right: int, n_wrong: int = 0, distance: float = 0.1) -> list[Observation]:
    """So many right and wrong answers, all at one distance."""
    return [Observation(distance, i < n_right, float(i)) for i in range(n_right + n_wrong)]


@given(st.lists(st.builds(Observation, distances, st.booleans(), st.just(0.0)), max_size=5), distances)
def test_nothing_is_proven_by_fewer_than_six(history: list[Observation], distance: float) -> None:
    """With fewer than six observations a model is always asked."""
    made = proof(history, distance, AnswersPolicy(max_error=0.5))

    assert made.explore_chance == 1.0


@given(observations, distances)
def test_chances_are_chances(history: list[Observation], distance: float) -> None:
    """Whatever was observed, also all right, all wrong, or all at one distance, both numbers lie in [0, 1]."""
    made = proof(history, distance, AnswersPolicy())

    assert 0 <= made.wrong_chance <= 1
    assert LEAST_EXPLORING <= made.explore_chance <= 1


@given(observations, distances, st.floats(0.001, 0.5), st.floats(0.001, 0.5))
def test_who_allows_more_errors_is_not_asked_more(
    history: list[Observation], distance: float, one: float, other: float
) -> None:
    """A looser bound never leads to more exploration."""
    strict, loose = sorted((one, other))

    tight = proof(history, distance, AnswersPolicy(max_error=strict)).explore_chance
    wide = proof(history, distance, AnswersPolicy(max_error=loose)).explore_chance

    assert wide <= tight


@given(observations, distances)
def test_a_wrong_answer_never_lowers_exploration_there(history: list[Observation], distance: float) -> None:
    """One more wrong answer at a distance makes the next one there no likelier to be right; a right one no less."""
    before = wrong_chance(history, distance)

    after_wrong = wrong_chance([*history, Observation(distance, False, 0.0)], distance)
    after_right = wrong_chance([*history, Observation(distance, True, 0.0)], distance)

    assert after_wrong >= before - 1e-9
    assert after_right <= before + 1e-9


@given(observations, distances, distances)
def test_farther_is_never_safer(history: list[Observation], one: float, other: float) -> None:
    """Of two requests the farther one is not likelier to be answered rightly."""
    near, far = sorted((one, other))

    assert wrong_chance(history, near) <= wrong_chance(history, far) + 1e-9


def test_the_formula_keeps_the_bound() -> None:
    """(1 - explore chance) * chance of a wrong answer is just the bound while it binds."""
    assert (1 - explore_chance(0.1, 0.01)) * 0.1 == pytest.approx(0.01)


def test_an_answer_that_is_probably_wrong_is_never_served() -> None:
    """Though the bound would let a few through."""
    assert proof(seen(2, 10), 0.1, AnswersPolicy(max_error=0.5)).explore_chance == 1.0


def test_many_right_answers_are_served() -> None:
    """64 right answers at a distance leave little to explore at a bound of 5 %."""
    assert proof(seen(64), 0.1, AnswersPolicy(max_error=0.05)).explore_chance == LEAST_EXPLORING


def test_the_chance_is_about_that_of_exchangeable_answers() -> None:
    """At one distance nothing is assumed beyond exchangeability: (f + 1) / (n + 1), caution aside."""
    chances = [wrong_chance(seen(n - f, f, 0.0), 0.0) / CAUTION for n, f in ((6, 0), (20, 1), (40, 4))]

    assert chances == pytest.approx([1 / 7, 2 / 21, 5 / 41], rel=0.25)


def test_the_prior_is_a_distribution() -> None:
    """The weights of the curves sum to one."""
    assert float(np.sum(curves().prior)) == pytest.approx(1)


@pytest.mark.parametrize(
    "truth", ["always 0.8", "always 0.95", "logistic around 0.15, slope 20", "a dent at 0.03 to 0.06"]
)
def test_the_bound_holds_for_every_single_example(truth: str) -> None:
    """Asked about again and again, an example's wrong answers stay within the bound, logistic or not."""
    made = simulate(TRUTHS[truth], 0.05, n=150, n_runs=150, caution=CAUTION, seed=3)

    assert made.error - made.half <= 1
    assert made.served > 0
