import math
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.learning.text_features import TEXT_FEATURES, text_features
from echo_proxy.learning.text_measures import measures


def feature(name: str, text: str) -> float:
    return text_features(text)[TEXT_FEATURES.index(name)]


@given(st.text(max_size=3000))
def test_every_text_has_all_features(text: str) -> None:
    """Whatever a caller sends, the features are complete, finite and of a modest size."""
    features = text_features(text)

    assert len(features) == len(TEXT_FEATURES)
    assert all(0.0 <= value <= 15.0 for value in features)


def test_names_are_told_apart() -> None:
    """No two features share a name."""
    assert len(set(TEXT_FEATURES)) == len(TEXT_FEATURES)


def test_the_same_text_has_the_same_features() -> None:
    """Features depend on the text alone, so that lessons of all workers agree."""
    assert text_features("How many of 12 apples?") == text_features("How many of 12 apples?")


def test_numbers_are_counted() -> None:
    """A sum with more and longer numbers shows more of them."""
    few, many = "Add 3 and 4.", "Add 3, 4, 1,250 and 17.5, then 3 again."

    assert feature("numbers", few) < feature("numbers", many)
    assert feature("longest_number", few) < feature("longest_number", many)
    assert feature("decimals", few) == 0.0 < feature("decimals", many)


def test_choices_are_seen() -> None:
    """Lines that begin with a letter or digit and a mark are answers to choose from."""
    text = "Which is a prime?\nA. 4\nB. 7\nC. 9\nD. none of them"

    assert feature("choices", text) == 1.0
    assert feature("choice_numbers", text) == 0.75
    assert feature("choices", "Name a prime.") == 0.0


def test_code_and_formulas_are_seen() -> None:
    """Python and TeX leave their marks."""
    assert feature("code", "def f(x):\n    return x") > feature("code", "Define it and come back.") == 0.0
    assert feature("tex", r"What is \frac{1}{2}?") > feature("tex", "What is one half?") == 0.0


def test_cue_words_count_in_any_case() -> None:
    """Question words are found whether or not they are capitals, and only as whole words."""
    assert feature("many", "How MANY?") == feature("many", "how many?") > 0.0
    assert feature("many", "He is from Germany.") == 0.0


def test_scripts_other_than_ascii_are_seen() -> None:
    """A text in another script says so, and its words are counted."""
    assert feature("foreign", "Сколько яблок?") > feature("foreign", "How many apples?") == 0.0
    assert feature("words", "Сколько яблок?") == feature("words", "How many?")


def test_only_both_ends_of_a_long_text_are_read() -> None:
    """The middle of a long text does not matter beyond its length."""
    one, other = ("start " * 1000 + middle + " end" * 1000 for middle in ("12345", "abcde"))

    assert text_features(one) == text_features(other)
    assert feature("characters", one) > feature("characters", one[:100])


@pytest.mark.parametrize(
    ("text", "n_ends"),
    [
        ("One. Two! Three?", 3),
        ("One...\n\nTwo", 1),
        ("pi is 3.14, i.e. about", 1),
        ("One.\nTwo", 1),
        ("One\nTwo", 0),
        ("Really?! Yes.", 2),
    ],
)
def test_sentences_end_at_marks_before_space(text: str, n_ends: int) -> None:
    """A run of marks ends one sentence, if white space or nothing follows."""
    assert feature("sentences", text) == pytest.approx(math.log1p(n_ends + 1))


def test_hostile_texts_take_no_longer() -> None:
    """Runs of what patterns begin with, a million characters each: every character that is read is read once."""
    runs = ("\n", ".", "?!", " ", "\t\n", "(", "A", "1,", "'a", "\\", "\n ", ".\n.x", "a.", "A.\n")
    texts = [run * (1_000_000 // len(run)) + "x" for run in runs]
    usual_s = taken_s("What is the capital of France? " * 30_000)

    assert max(map(taken_s, texts)) < 20 * usual_s  # newlines took 240 times as long once


def taken_s(text: str) -> float:
    """CPU time, the least of some."""
    started = [(process_time(), text_features(text), measures(text), process_time()) for _ in range(3)]
    return max(min(after - before for before, _, _, after in started), 1e-5)
