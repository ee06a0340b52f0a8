"""Whether two answers say the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.answers.same import say_the_same

LONG = "The capital of France is Paris, which lies on the Seine and has been the seat of its government for very long."


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris.", "paris"),
        ("  The capital is Paris. ", "the capital  is Paris"),
        ("1,000", "1000.0"),
        ("```bash\nls -l\n```", "ls -l"),
        ('{"a": 1, "b": [2]}', '{ "b": [2], "a": 1 }'),
        ("card_arrival", "card_arrival"),
    ],
)
def test_what_makes_no_difference(one: str, other: str) -> None:
    """White space, fences, a closing stop and a capital at a word's beginning make no other answer."""
    assert say_the_same(one, other) is True


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris", "London"),
        ("sort -r", "sort -R"),
        ("R", "r"),
        ("41", "42"),
        ("It takes 3 days.", "It takes 5 days."),
        ('{"a": 1}', '{"a": true}'),
        ("", "Paris"),
        ("", ""),
        ("yes", "no"),
    ],
)
def test_what_makes_a_difference(one: str, other: str) -> None:
    """Other brief answers, other numbers, other switches are other answers; nothing says the same as nothing."""
    assert say_the_same(one, other) is False


@pytest.mark.parametrize(
    ("one", "other"),
    [(LONG, "Paris."), ("find . -name x -print", "find  . -name 'x'"), ("if a:\n    b\nc", "if a:\n    b\n    c")],
)
def test_what_only_a_judge_can_tell(one: str, other: str) -> None:
    """Longer texts in other words are undecided; so is code that is indented otherwise."""
    assert say_the_same(one, other) is None


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_order_does_not_matter(one: str, other: str) -> None:
    """Whatever the texts, both orders say the same."""
    assert say_the_same(one, other) == say_the_same(other, one)


@given(st.text(max_size=60).filter(str.strip))
def test_an_answer_says_what_it_says(text: str) -> None:
    """An answer that holds anything is never another one than itself."""
    assert say_the_same(text, text) in (True, False)
    assert say_the_same(f"a{text}", f"a{text}") is True
