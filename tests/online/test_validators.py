import json
from typing import Any

import pytest

from echo_proxy.online.validators import VALIDATORS, code_parses, fulfils, matches, repetition, validate
from echo_proxy.policy import JudgePolicy
from tests.builders import outcome

ALL = JudgePolicy(
    max_tokens=1000,
    pattern="Paris",
    json_schema={"type": "object", "required": ["city"]},
    code_compiles=True,
    arithmetic=True,
)
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "pattern": "^[A-Z]"}, "tags": {"uniqueItems": True}},
    "patternProperties": {"^n_": {"type": "integer"}},
    "required": ["city"],
}


def block(code: str, language: str = "python") -> str:
    return f"Here you are:\n```{language}\n{code}\n```\nThat is all."


def test_every_validator_speaks_when_it_can() -> None:
    """Each has a name of its own; those with nothing to judge keep silent."""
    text = '{"city": "Paris"}'
    full = json.dumps({"city": "Paris", "why": "\n1 + 1 = 2\n```python\nx = 1\n```\n"}).replace("\\n", "\n")

    assert set(validate(outcome(text), True, ALL)) == VALIDATORS - {"code", "arithmetic"}
    assert set(validate(outcome(full), False, ALL)) == VALIDATORS - {"json", "schema"}
    assert validate(outcome(error="Timeout"), True, ALL) == {"answered": 0.0}


@pytest.mark.parametrize(
    ("text", "signal"),
    [
        ("Paris " * 1001, "length"),
        ("London.", "pattern"),
        (block("x = ("), "code"),
        ("It follows that 2 + 2 = 5.", "arithmetic"),
        ("I love Paris in the springtime. " * 40, "repetition"),
    ],
)
def test_each_finds_its_own_fault(text: str, signal: str) -> None:
    """It says 0 for it."""
    assert validate(outcome(text), False, ALL)[signal] == 0.0


def test_only_what_the_policy_asks_for_is_judged() -> None:
    """Beside the basics."""
    text = block("x = (") + " 2 + 2 = 5 " + "again and " * 200

    assert set(validate(outcome(text), False, JudgePolicy(max_repetition=1.0))) == {
        "answered",
        "whole",
        "length",
        "refusal",
    }


# ------------------------------------------------------------------ JSON


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        ({"city": "Paris"}, True),
        ({"city": "paris"}, False),
        ({"city": "Paris", "n_a": 1, "tags": [1, 2]}, True),
        ({"city": "Paris", "n_a": "one"}, False),
        ({"city": "Paris", "tags": [{"a": 1}, {"a": 1}]}, False),
        ({}, False),
        ([], False),
    ],
)
def test_an_answer_fulfils_its_schema(value: object, verdict: bool) -> None:
    """Patterns and uniqueness too, which are our own because the package's may take for ever."""
    assert fulfils(json.dumps(value), SCHEMA) is verdict


def test_no_json_fulfils_no_schema() -> None:
    """Nor does NaN, which Python would read."""
    assert fulfils("Paris", {}) is False
    assert fulfils("[NaN]", {}) is False


@pytest.mark.parametrize(
    ("text", "schema"),
    [
        ("{}", {"$ref": "http://127.0.0.1:9/nothing"}),
        ("{}", {"$ref": "#"}),
        ("[" * 400 + "]" * 400, {"items": {"$ref": "#"}, "type": "array"}),
        (json.dumps([1] * 20_000), {"items": {"anyOf": [{"type": "string"}, {"type": "null"}, {"type": "integer"}]}}),
        (json.dumps(["a" * 2000 + "b"]), {"items": {"pattern": "^(a|a?)+$"}}),
        (" " * 60_000 + "{}", {}),
    ],
)
def test_a_schema_that_takes_too_long_tells_nothing(text: str, schema: dict[str, Any]) -> None:
    """Nor does one that would be fetched, or that goes round in circles."""
    assert fulfils(text, schema) is None


def test_json_that_is_nested_too_deep_is_none() -> None:
    """It ends in a verdict, not in an error."""
    assert validate(outcome("[" * 100_000), True, JudgePolicy())["json"] == 0.0


# ------------------------------------------------------------------ pattern


def test_a_pattern_is_searched_anywhere() -> None:
    """As the operator wrote it."""
    assert matches("so: Paris", "Par[i]s") is True
    assert matches("so: Paris", "^Paris") is False


@pytest.mark.parametrize("text", ["a" * 5000 + "b", "a" * 50_001])
def test_a_pattern_that_takes_too_long_tells_nothing(text: str) -> None:
    """The worst are those that try every way to split a text."""
    assert matches(text, "(a+)+$") is None


# ------------------------------------------------------------------ code


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (block("x = 1"), True),
        (block("  x = 1\n  y = 2", "py"), True),
        (block("await x\nreturn '\\d'", "Python3"), True),
        (block("x = ("), False),
        (block("x = 1") + block("def f(:"), False),
        (block("a\0b"), False),
        (block("x = '\ud800'"), False),
        (block("x = (", "js"), None),
        (block("x = (", ""), None),
        (block(">>> 1 + 1\n2"), None),
        (block("!pip install x"), None),
        ("```python\nx = (", None),
        ("no code", None),
    ],
)
def test_python_in_fences_must_parse(text: str, verdict: bool | None) -> None:
    """Other languages, shell lines, sessions and blocks that were cut off are not judged."""
    assert code_parses(text) is verdict


@pytest.mark.parametrize("code", ["-" * 9_000 + "1", "1+" * 4_000 + "1", "a" + "[0]" * 3_000, "x = 1\n" * 2_000])
def test_code_that_is_too_much_for_the_parser_is_not_judged(code: str) -> None:
    """Too deep or too long; Python's own parser has its limits."""
    assert code_parses(block(code)) is None


def test_code_is_never_run() -> None:
    """Only parsed."""
    assert code_parses(block("raise SystemExit")) is True


# ------------------------------------------------------------------ repetition


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("again and again and again", 0.0, 0.0),
        (" ".join(str(i) for i in range(1000)), 0.0, 0.0),
        ("the same thing over and over " * 50, 0.9, 1.0),
        ("同じことを何度も繰り返します。" * 50, 0.9, 1.0),
        (" ".join(str(i) for i in range(20_000)) + " and so on" * 5000, 0.9, 1.0),
        ("", 0.0, 0.0),
    ],
)
def test_repetition_is_a_share(text: str, least: float, most: float) -> None:
    """Short texts have none; scripts without spaces count by character; the end of a long text counts."""
    assert least <= repetition(text) <= most


def test_endless_json_is_not_judged() -> None:
    """A million characters are not parsed on the event loop."""
    verdicts = [validate(outcome(text), True, JudgePolicy()) for text in ("[" + "1," * 500_000 + "1]", "{" * 1_000_000)]

    assert all("json" not in one for one in verdicts)
