"""The words of a call, and whether they are all that a model sees of its dialogue."""

from typing import Any

import pytest

from echo_proxy.litellm.turns import is_told_by_turns, items_of, text_of, turns_of
from echo_proxy.types import Message

HI: dict[str, Any] = {"role": "user", "content": "Hi"}
BRIEF: dict[str, Any] = {"role": "system", "content": "Brief."}
HELLO: dict[str, Any] = {"role": "assistant", "content": "Hello."}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a", "a"),
        ("", ""),
        (None, None),
        ([], ""),
        (["a", {"type": "text", "text": "b"}], "a\nb"),
        ([{"type": "output_text", "text": "a"}, {"type": "text", "text": ""}], "a"),
        ([{"type": "text"}], None),
        ([{"type": "thinking", "thinking": "hm"}], None),
    ],
)
def test_text_is_taken_out_of_parts(content: Any, text: str | None) -> None:
    """None when a part is not text."""
    assert text_of(content) == text


@pytest.mark.parametrize(
    "items", [None, [{**HI, "content": [{"type": "image_url"}]}], [{**HI, "tool_calls": [1]}], [1]]
)
def test_what_is_not_text_makes_no_turns(items: Any) -> None:
    """Nor does a body without a dialogue."""
    assert turns_of(items) is None


def test_system_text_stands_first_wherever_the_endpoint_keeps_it() -> None:
    """Beside the dialogue, or within."""
    turns = (Message("system", "Brief."), Message("user", "Hi"))

    assert turns_of(items_of("chat", [BRIEF, HI], {"system": "Not of this endpoint."})) == turns
    assert turns_of(items_of("messages", [HI], {"system": "Brief."})) == turns
    assert turns_of(items_of("responses", None, {"instructions": "Brief.", "input": "Hi"})) == turns
    assert items_of("responses", None, {"input": 1}) is None


@pytest.mark.parametrize(
    "items",
    [
        [HI],
        [BRIEF, BRIEF, HI, HELLO, HI],
        [
            {**HI, "type": "message", "name": None},
            {**HELLO, "refusal": None, "tool_calls": None, "annotations": []},
            HI,
        ],
        [{**HI, "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}, "citations": []}]}],
    ],
)
def test_role_and_words_are_all_there_is(items: Any) -> None:
    """Empty fields say nothing, and a mark for a provider's cache changes no answer."""
    assert is_told_by_turns(items)


@pytest.mark.parametrize(
    "items",
    [
        [{**HI, "name": "Bob"}],
        [{**BRIEF, "name": "Bob"}, HI],
        [HI, {**HELLO, "prefix": True}, HI],
        [{**HI, "text": "More."}],
        [{**HI, "content": [{"type": "text", "text": "Hi", "citations": [1]}]}],
        [HI, BRIEF],
        [HI, HELLO, BRIEF, HI],
        [BRIEF, HI, {**BRIEF, "role": "developer"}, HI],
    ],
)
def test_else_the_turns_do_not_tell_all(items: Any) -> None:
    """Names, fields of some provider, and system text whose place would be lost."""
    assert not is_told_by_turns(items)
