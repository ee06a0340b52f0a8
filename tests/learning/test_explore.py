from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.learning.explore import vary
from echo_proxy.policy import SelectionPolicy
from echo_proxy.types import Rejection, Selection
from tests.builders import candidate

RULES = SelectionPolicy(explore=0.4)


def made(n_chosen: int, n_rejected: int, n_tokens: int = 10) -> Selection:
    chosen = tuple(candidate(f"c{i}", n_tokens=n_tokens) for i in range(n_chosen))
    rejected = tuple(Rejection(candidate(f"r{i}", n_tokens=n_tokens), "utility") for i in range(n_rejected))
    return Selection(chosen, rejected)


def ids(selection: Selection) -> list[str]:
    return [one.example.id for one in selection.chosen]


@pytest.mark.parametrize(("n_chosen", "n_rejected"), [(0, 3), (1, 0), (1, 3), (2, 0), (3, 2)])
def test_propensities_are_how_often_it_happens(n_chosen: int, n_rejected: int) -> None:
    """Over many seeds each example is among the chosen as often as its propensity says."""
    draws = [vary(made(n_chosen, n_rejected), 3, RULES, seed) for seed in range(8000)]
    counts = Counter(example_id for draw in draws for example_id in ids(draw.selection))
    said = {example_id: chance for draw in draws for example_id, chance in draw.chances.items()}

    assert {example_id: counts[example_id] / 8000 for example_id in said} == pytest.approx(said, abs=0.02)


@pytest.mark.parametrize(("n_chosen", "n_rejected"), [(0, 3), (1, 0), (1, 3)])
def test_the_chance_of_showing_nothing_is_known_too(n_chosen: int, n_rejected: int) -> None:
    """Answers without examples are weighted by it."""
    draws = [vary(made(n_chosen, n_rejected), 3, RULES, seed) for seed in range(8000)]
    empty = [draw for draw in draws if not draw.selection.chosen]

    assert len(empty) / 8000 == pytest.approx(empty[0].none_chance, abs=0.02)


@given(st.integers(0, 4), st.integers(0, 4), st.floats(0, 0.5), st.integers(0, 2**63 - 1))
def test_same_seed_same_draw(n_chosen: int, n_rejected: int, explore: float, seed: int) -> None:
    """And every candidate stays chosen or rejected, once; propensities lie in (0, 1]."""
    rules, before = SelectionPolicy(explore=explore), made(n_chosen, n_rejected)
    first, second = vary(before, 4, rules, seed), vary(before, 4, rules, seed)
    seen = ids(first.selection) + [one.candidate.example.id for one in first.selection.rejected]
    wanted = ids(before) + [one.candidate.example.id for one in before.rejected]

    assert first == second
    assert sorted(seen) == sorted(wanted)
    assert all(0 < chance <= 1 for chance in first.chances.values())
    assert 0 < first.none_chance <= 1


@given(st.lists(st.integers(1, 60), max_size=6), st.integers(0, 80), st.integers(0, 1000))
def test_what_is_taken_by_chance_fits_into_the_budget(sizes: list[int], budget: int, seed: int) -> None:
    """Also when it takes the place of a shorter one."""
    rules = SelectionPolicy(explore=0.5, max_tokens=budget)
    pool = [candidate(f"e{i}", n_tokens=size) for i, size in enumerate(sizes)]
    chosen = tuple(one for one in pool[:2] if sum(other.example.n_tokens for other in pool[:2]) <= budget)
    rejected = tuple(Rejection(one, "utility") for one in pool if one not in chosen)

    drawn = vary(Selection(chosen, rejected), 2, rules, seed).selection.chosen

    assert sum(one.example.n_tokens for one in drawn) <= budget


def test_without_a_seed_nothing_is_left_to_chance() -> None:
    """Whoever wants the plain selection gets it, with propensity one."""
    before = made(2, 2)

    draw = vary(before, 2, SelectionPolicy(explore=0.5), None)

    assert draw.selection == before
    assert set(draw.chances.values()) == {1.0}


def test_an_arm_that_takes_no_examples_tries_none() -> None:
    """With n_most 0 no candidate is taken by chance."""
    draws = [vary(made(0, 3), 0, SelectionPolicy(explore=0.5), seed) for seed in range(50)]

    assert all(not draw.selection.chosen for draw in draws)
