"""Rules of which texts can be embedded."""

import pytest

from echo_proxy.embedders.texts import check_texts


def test_ordinary_texts_pass() -> None:
    """Anything with a visible character can be embedded, in any script."""
    check_texts(["Hello", " x ", "你好", "😀"])


@pytest.mark.parametrize("blank", ["", " ", "\n\t"])
def test_a_blank_text_is_refused(blank: str) -> None:
    """A blank text has no meaning to point at; the message says which one it was."""
    with pytest.raises(ValueError, match="at least one visible character, got a blank one at index 1"):
        check_texts(["fine", blank])


def test_half_a_character_is_refused() -> None:
    """A lone surrogate, which JSON can carry, is refused before it can spoil a batch of others."""
    with pytest.raises(ValueError, match="lone surrogate at index 0"):
        check_texts(["broken \ud83d"])
