import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.learning.utility import BetaUtility, relevance
from echo_proxy.policy import Utility
from echo_proxy.types import Candidate, Names
from tests.builders import candidate, example, request

RULES = Utility()
amounts = st.floats(-0.001, 1000)


def at(distance: float, names: Names = Names.HELD) -> Candidate:
    return Candidate(example(), distance, names)


def test_utility_is_one_half_at_the_half_distance() -> None:
    """And falls with the distance."""
    near, half, far = relevance([at(0.1), at(RULES.half_distance), at(0.6)], RULES)

    assert half == pytest.approx(0.5)
    assert near == pytest.approx(1 / (1 + np.exp(-0.25 / 0.06)))
    assert near > half > far


def test_a_missing_name_costs_its_factor() -> None:
    """Numbers that differ cost nothing: the task may be the same."""
    held, numbers, missing = relevance([at(0.1), at(0.1, Names.NUMBERS), at(0.1, Names.MISSING)], RULES)

    assert numbers == held
    assert missing == pytest.approx(held * RULES.missing_names_factor)


def test_failures_take_utility_away_and_successes_add_none() -> None:
    """The prior is worth prior_weight good outcomes; serving well elsewhere does not make an example relevant here."""
    model = BetaUtility(Utility(prior_weight=8.0))
    fresh = candidate(distance=0.35)
    proven = candidate(distance=0.35, uses=8.0, gain=8.0, response="Paris!")
    useless = candidate(distance=0.35, uses=8.0, gain=0.0, response="Lyon.")

    assert model.utilities(request(), [fresh, proven, useless]) == pytest.approx([0.5, 0.5, 0.25])


def test_candidates_that_say_the_same_share_their_outcomes() -> None:
    """What failed under one wording of the question fails under another."""
    model = BetaUtility(Utility(prior_weight=8.0))
    fresh = candidate(distance=0.35, response="Paris.")
    useless = candidate(distance=0.35, uses=8.0, gain=0.0, response="Paris.")

    assert model.utilities(request(), [fresh, useless]) == pytest.approx([0.25, 0.25])


def test_gain_never_counts_for_more_than_its_uses() -> None:
    """An answer that was forgotten and judged again could leave more gain than uses."""
    model = BetaUtility(Utility(prior_weight=8.0))

    assert model.utilities(request(), [candidate(distance=0.35, uses=2.0, gain=5.0)]) == pytest.approx([0.5])


@given(st.floats(0, 2), st.floats(1e-300, 1), st.floats(0, 2), amounts, amounts, st.sampled_from(Names))
def test_utilities_are_probabilities(
    distance: float, width: float, half: float, uses: float, gain: float, names: Names
) -> None:
    """Whatever the rules and however rounding has bent the counts; no overflow either."""
    model = BetaUtility(Utility(width=width, half_distance=half))
    one = Candidate(example(uses=uses, gain=gain), distance, names)

    (utility,) = model.utilities(request(), [one])

    assert 0.0 <= utility <= 1.0
