import json
from typing import Any

import pytest

from echo_proxy.errors import InputError
from echo_proxy.online.receive import partition_of
from echo_proxy.transfer.foreign import Defaults, Unfit, foreign_row
from echo_proxy.transfer.lines import Line
from echo_proxy.transfer.rows import Row

DEFAULTS = Defaults(scope="team:red", writer="w", teacher="gpt", quality=0.8, system="", now=1000.0, ttl_s=60.0)


def read(found: Any, **changes: Any) -> tuple[Row, str]:
    """The row of line 4 of a file."""
    defaults = Defaults(**{**{name: getattr(DEFAULTS, name) for name in DEFAULTS.__slots__}, **changes})
    return foreign_row(Line(4, json.dumps(found).encode()), "f", defaults)


def chat(*turns: tuple[str, Any]) -> dict[str, Any]:
    """A row of fine-tuning data."""
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def test_a_pair_is_an_example() -> None:
    """What it does not say comes from the command line; other columns are left alone."""
    row, text = read({"request": "Where is Rome?", "response": "In Italy.", "source": "wiki", "quality": "?"})

    assert text == "Where is Rome?"
    assert (row.request, row.response, row.scope, row.teacher) == ("Where is Rome?", "In Italy.", "team:red", "gpt")
    assert (row.quality, row.created_at, row.expires_at) == (0.8, 1000.0, 1060.0)
    assert row.partition == partition_of("", False)


def test_a_dialogue_is_an_example_of_its_last_turn() -> None:
    """Under its system prompt, and embedded as the path of a request embeds: with the user's turn before."""
    row, text = read(
        chat(
            ("system", "Be brief."),
            ("user", "Rome?"),
            ("assistant", "Italy."),
            ("user", "And Bonn?"),
            ("assistant", "Germany."),
        )
    )

    assert (row.request, row.response, row.n_turns, row.system) == ("And Bonn?", "Germany.", 2, "Be brief.")
    assert row.partition == partition_of("Be brief.", False)
    assert text == "Rome?\nAnd Bonn?"


def test_parts_of_text_are_joined() -> None:
    """As OpenAI's newer format has them."""
    row, _ = read(
        chat(
            ("user", [{"type": "text", "text": "Where is"}, {"type": "text", "text": "Rome?"}]), ("assistant", "Italy.")
        )
    )

    assert row.request == "Where is\nRome?"


def test_a_system_prompt_of_the_command_line_is_for_rows_without() -> None:
    """It decides which requests may use them."""
    plain, _ = read(chat(("user", "a"), ("assistant", "b")), system="S")
    own, _ = read(chat(("developer", "own"), ("user", "a"), ("assistant", "b")), system="S")

    assert (plain.system, own.system) == ("S", "own")
    assert plain.partition == partition_of("S", False)


def test_the_same_row_has_the_same_id() -> None:
    """In one scope; another answer, or another scope, is another example."""
    row = {"request": "a", "response": "b"}
    ids = [
        read(row)[0].id,
        read(row, scope="key:x")[0].id,
        read({**row, "response": "c"})[0].id,
        read(row, system="s")[0].id,
    ]

    assert read(row, quality=0.1)[0].id == ids[0]
    assert len(set(ids)) == 4


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (chat(("user", "a")), "does not end with"),
        (chat(("assistant", "a"), ("assistant", "b")), "does not end with"),
        (chat(("user", " "), ("assistant", "b")), "does not end with"),
        (chat(("user", "a"), ("assistant", "")), "empty answer"),
        (chat(("user", "a"), ("tool", "x"), ("assistant", "b")), "tools"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [{}]}]}, "tools"),
        (chat(("user", [{"type": "image_url"}]), ("assistant", "b")), "not only text"),
    ],
)
def test_what_can_be_no_example_is_left_out(found: Any, reason: str) -> None:
    """The file is not wrong for it: it counts under a reason."""
    with pytest.raises(Unfit, match=reason):
        read(found)


@pytest.mark.parametrize(
    ("found", "complaint"),
    [
        ({"prompt": "a"}, r"f:4: request: expected a text .* got only \['prompt'\]"),
        ({"request": "a", "response": 5}, "f:4: response: expected a text that is not blank .* got 5"),
        ({"request": "", "response": "b"}, "f:4: request: expected a text that is not blank .* got ''"),
        ({"request": "a", "response": "b", "system": []}, r"f:4: system: expected a text, got \[\]"),
        ({"messages": "hello"}, "f:4: messages: expected a list of objects, got 'hello'"),
        ({"messages": [1]}, r"f:4: messages: expected a list of objects, got \[1\]"),
        ({"request": "\ud800", "response": "b"}, "f:4: expected texts that UTF-8 can hold"),
        ({"request": "a", "response": "b", "system": "\udfff"}, "f:4: expected texts that UTF-8 can hold"),
        (chat(("pirate", "a")), r"f:4: messages.0.role: expected system, .* got 'pirate'"),
        (chat(("user", 5)), "f:4: messages.0.content: expected a text or a list of parts, got 5"),
        (chat(("user", [{"type": "text", "text": 5}])), "f:4: messages.0.content: expected parts with a text"),
    ],
)
def test_a_wrong_row_says_what_is_wrong(found: Any, complaint: str) -> None:
    """File, line, field, what was expected and what came."""
    with pytest.raises(InputError, match=complaint):
        read(found)


def test_a_scope_must_be_named() -> None:
    """Nobody's data must end in a scope by chance."""
    with pytest.raises(InputError, match="f:4: scope: expected --scope"):
        read({"request": "a", "response": "b"}, scope=None)
