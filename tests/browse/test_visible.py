import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.browse.visible import as_json, beginning, visible

ATTACKS = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b31m",
    "a\rb\x08c\x7f",
    "user\u202egnp.exe",
    "a\u200bb\ufeff",
    "line\u2028separator",
    "\ud800",
    "\U000e0041",
)


@pytest.mark.parametrize("text", ATTACKS)
def test_nothing_that_steers_a_terminal_is_left(text: str) -> None:
    """Escape sequences, of 7 and of 8 bits, backspaces, directions of writing, what cannot be seen."""
    for shown in (visible(text), visible(text, keeps_lines=True), beginning(text, 100)):
        assert shown.isprintable()
        assert "\\" in shown


@given(st.text(), st.booleans())
def test_whatever_is_shown_can_be_printed(text: str, keeps_lines: bool) -> None:
    """Each character has a picture of its own; only wanted line breaks are left."""
    for one in visible(text, keeps_lines=keeps_lines):
        assert unicodedata.category(one)[0] not in "C" or (one == "\n" and keeps_lines)


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_readable_text_stays_as_it_is(text: str) -> None:
    """Letters of all scripts."""
    assert visible(text) == text


@given(st.recursive(st.text() | st.floats(allow_nan=False), st.lists))
def test_json_is_ascii_and_tells_all(value: object) -> None:
    """A reader gets every character back; a terminal sees none that steers it."""
    told = as_json(value)

    assert told.isascii()
    assert told.isprintable()
    assert json.loads(told) == value


def test_a_beginning_is_one_line() -> None:
    """Of the length that was asked for, told where something is left out."""
    assert beginning("one\ntwo", 20) == "one\\ntwo"
    assert beginning("abcdef", 6) == "abcdef"
    assert beginning("abcdefg", 6) == "abcde…"
    assert len(beginning("\x1b" * 50, 10)) == 10
