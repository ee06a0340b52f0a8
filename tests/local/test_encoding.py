import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.local.encoding import decode_json, encode_json

ANY_TEXT = st.text(st.characters(exclude_categories=[]))


@given(ANY_TEXT)
def test_every_text_becomes_bytes_and_back(text: str) -> None:
    """Whatever Python's strings hold; what UTF-8 can hold is unchanged."""
    came = decode_json(encode_json({text: [text]}))
    ((name, (value,)),) = came.items()

    assert name == value
    assert decode_json(json.dumps({text: [text]}).encode()) == came
    assert value.encode().decode() == value
    if text.isascii():
        assert value == text


def test_half_an_emoji_is_replaced_and_two_halves_are_joined() -> None:
    """A text that was cut and one that was not."""
    assert encode_json("a\ud83d") == '"a\ufffd"'.encode()
    assert encode_json("\ud83d\ude00 \ud83d") == '"\U0001f600 \ufffd"'.encode()
    assert decode_json(b'["\\ud83d", "\\uD83D\\uDE00", "\\\\ud83d"]') == ["\ufffd", "\U0001f600", "\\ud83d"]


def test_what_is_no_json_is_refused() -> None:
    """As by the library."""
    with pytest.raises(ValueError, match="Expecting"):
        decode_json(b"{\\ud")
