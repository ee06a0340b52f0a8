import pytest

from echo_proxy.online.names import compare_names, names_in
from echo_proxy.types import Names
from tests.builders import example


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("What is the capital of France?", {"france"}),
        ("Is it so? Yes. The end", set()),
        ("Who was Ada Lovelace?", {"ada", "lovelace"}),
        ("add 3.5 and 1,000 to x2", {"3.5", "1,000", "x2"}),
        ("why do I sleep", set()),
        ("\n  Hello", set()),
        ("ask: What is it", set()),
        ("", set()),
        ("日本の首都", set()),
    ],
)
def test_names_are_capitalised_words_within_a_sentence_and_words_with_digits(text: str, names: set[str]) -> None:
    """A word that only begins a sentence is no name; one letter is none either."""
    assert names_in(text) == names


@pytest.mark.parametrize(
    ("wanted", "verdict"),
    [
        (set(), Names.NONE),
        ({"france"}, Names.HELD),
        ({"paris"}, Names.HELD),
        ({"france", "7"}, Names.NUMBERS),
        ({"italy"}, Names.MISSING),
        ({"italy", "7"}, Names.MISSING),
        ({"franc"}, Names.MISSING),
    ],
)
def test_an_example_holds_names_in_its_request_or_its_response(wanted: set[str], verdict: Names) -> None:
    """Whole words count, whatever their case; a missing name weighs more than a missing number."""
    one = example(request="What is the capital of FRANCE?", response="Paris.")

    assert compare_names(frozenset(wanted), one) == verdict


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("It is 3.5.", "3"), ("It is 3.5.", "5"), ("1,000 of them", "000"), ("x12", "12"), ("Parisian", "paris")],
)
def test_a_part_of_a_word_or_number_is_not_held(text: str, wanted: str) -> None:
    """3 is not 3.5."""
    assert compare_names(frozenset({wanted}), example(request="Q", response=text)) != Names.HELD


@pytest.mark.parametrize("wanted", ["3.5", "1,000", "x2", "rome", "paris", "7"])
def test_punctuation_does_not_hide_a_name(wanted: str) -> None:
    """Quotes, commas and full stops around it are not its own."""
    one = example(request="Rome,Paris", response="(3.5) and 1,000; `x2`, 7.")

    assert compare_names(frozenset({wanted}), one) == Names.HELD


def test_a_pasted_log_is_read_at_its_ends_only() -> None:
    """Names are looked for on the event loop: the work must not grow with the prompt."""
    text = "About Alpha " + "in Beta42 " * 100_000 + "and Omega"

    names = names_in(text)

    assert {"alpha", "omega", "beta42"} >= names
    assert "alpha" in names
    assert len(names_in(" ".join(f"x{number}" for number in range(3_000)))) == 64
