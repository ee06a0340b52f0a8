"""What a lenient reader sees, and where it stands."""

from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.privacy.folding import Folding, without_invisible

as_seen = Folding({"\u2011": "-"}, keeps_superscripts=True)
odd = st.text(st.sampled_from("ab1 <\n\u200b\u00ad\ufe0f\u2028\uff11\u0661\u00b2\u2011\u202e\U000e0041é"))


def test_what_nobody_sees_is_left_out() -> None:
    """Forms that mean the same are one; digits of other scripts are ours; what is raised stays."""
    seen = as_seen("a\u200bb\u00ad \uff11\u0661 10\u00b2 c\u2011d\u2028e")

    assert seen.text == "ab 11 10\u00b2 c-d\ne"
    assert seen.span(0, 2) == (0, 3)


@given(odd)
def test_every_place_is_that_of_its_character(text: str) -> None:
    """In order, with the end of the text as the last."""
    for seen in (as_seen(text), without_invisible(text)):
        assert len(seen.places) == len(seen.text) + 1
        assert seen.places[len(seen.text)] == len(text)
        assert all(text[seen.places[at]] == one for at, one in enumerate(seen.text) if one in "ab<\u00b2")
