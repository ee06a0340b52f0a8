import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.online.agreement import agreement, agreement_with_examples
from echo_proxy.types import Candidate, Names
from tests.builders import example


def near(response: str, utility: float = 1.0, names: Names = Names.NONE) -> Candidate:
    return Candidate(example(response=response), 0.1, names, utility)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("Paris.", "paris", 1.0),
        ("The capital is Paris.", "Paris is the capital!", 1.0),
        ("Paris", "London", 0.0),
        ("a b c d".replace("a", "w"), "w x y z", 0.5),
        ("It is 1,200 m", "It is 1200 m", 1.0),
        ("cost 12 dollars", "cost 13 dollars", 0.4082),
        ("", "", 1.0),
        ("", "Paris", 0.0),
        ("!", "?", 0.0),
    ],
)
def test_answers_agree_by_their_words(one: str, other: str, expected: float) -> None:
    """Order, case and small words do not matter; other numbers halve it."""
    assert agreement(one, other) == pytest.approx(expected, abs=1e-3)


@given(st.text(max_size=80), st.text(max_size=80))
def test_agreement_is_mutual(one: str, other: str) -> None:
    """And a share; every text agrees with itself."""
    assert 0 <= agreement(one, other) <= 1
    assert agreement(one, other) == agreement(other, one)
    assert agreement(one, one) == 1


def test_the_best_example_counts() -> None:
    """As far as it is useful: a useless one tells nothing."""
    assert agreement_with_examples("Paris", [near("London"), near("Paris")]) == 1.0
    assert agreement_with_examples("Paris", [near("Paris", utility=0.5)]) == 0.75
    assert agreement_with_examples("Paris", [near("London", utility=0.0)]) == 0.5


@pytest.mark.parametrize("names", [Names.MISSING, Names.NUMBERS])
def test_examples_about_something_else_do_not_count(names: Names) -> None:
    """Their right answer differs."""
    assert agreement_with_examples("Paris", [near("Paris", names=names)]) is None
    assert agreement_with_examples("Paris", []) is None
