import pytest

from echo_proxy.online.segment import segment_of
from echo_proxy.policy import Segments
from echo_proxy.types import Candidate, Names, Selection
from tests.builders import candidate, example, request, selection

RULES = Segments(utility_edges=(0.5, 0.9))


def best(utility: float, names: Names = Names.HELD) -> Selection:
    return selection(Candidate(example(), 0.1, names, utility))


@pytest.mark.parametrize(
    ("utility", "band"), [(0.0, "0-0.5"), (0.49, "0-0.5"), (0.5, "0.5-0.9"), (0.9, "0.9-1"), (1.0, "0.9-1")]
)
def test_a_band_holds_its_lower_edge(utility: float, band: str) -> None:
    """The label names the bounds, so that other edges start fresh."""
    assert segment_of(request(), best(utility), RULES) == f"utility={band} names=held"


@pytest.mark.parametrize(
    ("names", "segment"),
    [
        (Names.NONE, "utility=0.5-0.9 names=none"),
        (Names.HELD, "utility=0.5-0.9 names=held"),
        (Names.NUMBERS, "utility=0.5-0.9 names=numbers"),
        (Names.MISSING, "names=missing"),
    ],
)
def test_names_keep_bands_apart(names: Names, segment: str) -> None:
    """An example about something else helps little, however near it lies."""
    assert segment_of(request(), best(0.6, names), RULES) == segment


@pytest.mark.parametrize(
    ("text", "segment"),
    [("What is the capital of France?", "names=missing"), ("How do magnets work?", "utility=none names=none")],
)
def test_without_an_example_the_request_s_own_names_decide(text: str, segment: str) -> None:
    """A name that no example holds is missing."""
    assert segment_of(request(text), Selection(), RULES) == segment


def test_the_best_example_decides() -> None:
    """It is the first of the chosen."""
    chosen = selection(candidate("a", utility=0.95), candidate("b", utility=0.1))

    assert segment_of(request(), chosen, Segments(utility_edges=(0.5, 0.9), names=False)) == "utility=0.9-1"


def test_segments_can_be_switched_off() -> None:
    """Names alone, utility alone, or both."""
    assert segment_of(request(), best(0.6), Segments(utility_edges=(0.5,), names=False)) == "utility=0.5-1"
    assert segment_of(request(), best(0.6), Segments(utility_edges=())) == "utility=0-1 names=held"
    assert segment_of(request(), Selection(), None) == "all"
