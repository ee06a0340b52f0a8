"""Schemas of callers: usual ones are followed, hostile ones are refused before llama.cpp sees them."""

import json
import random
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_proxy.engine.chat import ChatRejected, ChatRequest, parse_chat
from echo_proxy.llama import grammar as grammar_module
from echo_proxy.llama.grammar import Grammar, grammar_rules
from echo_proxy.llama.language import LlamaLanguage
from echo_proxy.llama.library import Weights, last_errors
from echo_proxy.llama.pattern import Effort, pattern_rules
from echo_proxy.llama.schema import SchemaRefused, read_schema
from echo_proxy.llama.schema_rules import MOST_BYTES
from echo_proxy.llama.vocabulary import Vocabulary

TEXT, WHOLE, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}


def chat(schema: Any) -> ChatRequest:
    """A request for an answer that follows it."""
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return parse_chat({"messages": [{"role": "user", "content": "hi"}], "response_format": response_format})


def closed(**properties: Any) -> dict[str, Any]:
    """An object with just these fields."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def recursive(form: dict[str, Any]) -> dict[str, Any]:
    """A schema that is `form`, in which {"$ref": "#/$defs/my_node"} is itself."""
    return {"$defs": {"my_node": form}, "$ref": "#/$defs/my_node"}


SELF = {"$ref": "#/$defs/my_node"}
WORDS = {"type": "string", "enum": ["div", "button", 'a "quoted" \\ one', "größer"]}
USUAL: dict[str, Any] = {
    "event": closed(name=TEXT, date=TEXT, participants={"type": "array", "items": TEXT}),
    "page": {**closed(kind=WORDS, children={"type": "array", "items": {"$ref": "#"}}), "description": "itself"},
    "list": recursive(closed(value=NUMBER, next={"anyOf": [SELF, {"type": "null"}]})),
    "verdict": closed(bad={"type": "boolean"}, kind={"type": ["string", "null"], "enum": ["a", "b", None]}),
    "either": closed(item={"anyOf": [closed(name=TEXT, age=NUMBER), closed(name=TEXT, city=TEXT)]}),
    "large": closed(**{f"f{i}": closed(a=WHOLE, b={"type": "boolean"}) for i in range(30)}),
    "optional": {"type": "object", "properties": {f"f_{i}": WHOLE for i in range(30)}, "required": ["f_3", "f_7"]},
    "words": closed(country={"enum": [f"country {i}" for i in range(200)]}),
    "objects": {"type": "array", "items": closed(id=WHOLE), "minItems": 1, "maxItems": 50},
    "dates": closed(
        day={"type": "string", "format": "date"},
        time={"type": "string", "format": "date-time"},
        id={"type": "string", "format": "uuid"},
        other={"type": "string", "pattern": "^\\d{4}-\\d{2}-\\d{2}$"},
    ),
    "mail": {"type": "string", "pattern": "^[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\\.[a-zA-Z]{2,5}$"},
    "quotation": {"type": "string", "pattern": '^[^a]{1,9}"\\\\\\n?$'},
    "part": {"type": "string", "pattern": "foo|^b{2}$"},
    "lengths": closed(title={"type": "string", "maxLength": 20}, pair={"type": "array", "items": WHOLE, "maxItems": 2}),
    "expression": recursive(
        {
            "anyOf": [
                closed(op={"const": "number"}, value=NUMBER),
                closed(op={"const": "plus"}, left=SELF, right=SELF),
                closed(op={"const": "times"}, left=SELF, right=SELF),
            ]
        }
    ),
    "any": recursive({"anyOf": [WHOLE, {"type": "array", "items": SELF, "maxItems": 3}, {"type": "null"}]}),
    "pets": {
        "$defs": {"Color": {"enum": ["red", "green"]}},
        "type": "object",
        "properties": {"color": {"allOf": [{"$ref": "#/$defs/Color"}]}, "more": {"type": "object"}},
        "additionalProperties": WHOLE,
    },
    "merged": {"allOf": [closed(a=WHOLE) | {"additionalProperties": True}, {"properties": {"b": WHOLE}}]},
    "places": {"type": "array", "prefixItems": [WHOLE, {"type": "boolean"}]},
    "constant": {"const": {"a": [1, None, "é\n\x7f\ud83d\" root \\"]}},
}  # fmt: skip


def levels(form: Any) -> dict[str, Any]:
    """Twenty-four of them; `form` makes one of a reference to the level below."""
    parts = {f"l{i}": form({"$ref": f"#/$defs/l{i - 1}"}) for i in range(1, 25)}
    return {"$defs": {"l0": WHOLE, **parts}, "$ref": "#/$defs/l24"}


def pattern(text: str) -> dict[str, Any]:
    """A string that it allows."""
    return {"type": "string", "pattern": text}


HOSTILE: dict[str, Any] = {
    "items overflow": {"type": "array", "items": WHOLE, "minItems": 10**20},
    "items memory": {"type": "array", "items": WHOLE, "minItems": 10**12},
    "length overflow": {"type": "string", "minLength": 10**20},
    "length": {"type": "string", "minLength": 10**8},
    "huge length": {"type": "string", "maxLength": 10**400},
    "negative": {"type": "string", "maxLength": -1},
    "fraction": {"type": "array", "items": WHOLE, "minItems": 0.5},
    "crossed": {"type": "array", "items": WHOLE, "minItems": 2, "maxItems": 1},
    "repetition overflow": pattern("^a{1,99999999999999999999}$"),
    "stars": pattern("^" + ".*" * 3000 + "$"),
    "options": pattern("^((a?){20}){20}$"),
    "nested": pattern("^((a{1000}){1000}){10}$"),
    "nothing": pattern("^((){9999}){9999}$"),
    "many classes": pattern("^[" + "".join(chr(0x4E00 + 2 * i) for i in range(1500)) + "]{1,1400}$"),
    "states": pattern("^(a|b)*a(a|b){20}$"),
    "parentheses": pattern("^" + "(" * 900 + "a" + ")" * 900 + "$"),
    "impossible": pattern("^[^\\s\\S]$"),
    "ranges": closed(**{f"p{i}": pattern(f"^{'(a?b?)' * 20}{{1,{i}}}$") for i in range(1, 200)}),
    "empty": {"anyOf": []},
    "no words": {"enum": []},
    "many words": {"enum": list(range(1001))},
    "infinite": {"const": float("inf")},
    "itself": recursive(SELF),
    "itself or nothing": recursive({"anyOf": [SELF, {"type": "null"}]}),
    "allOf itself": {"allOf": [{"$ref": "#"}]},
    "elsewhere": {"$ref": "https://127.0.0.1:9/x.json"},
    "nowhere": {"$ref": "#/$defs/x"},
    "arrays": recursive({"anyOf": [{"type": "array", "items": SELF}, {"type": "array", "items": SELF, "minItems": 1}]}),
    "left": recursive({"anyOf": [closed(left=SELF, op={"const": "+"}), closed(left=SELF, op={"const": "-"}), NUMBER]}),
    "beside": recursive({"type": "object", "properties": {"a": SELF}, "additionalProperties": SELF}),
    "levels": levels(lambda below: {"anyOf": [{"type": "array", "items": below, "minItems": n} for n in (0, 1)]}),
    "unions": levels(lambda below: {"anyOf": [below, {"anyOf": [below, {"type": "null"}]}]}),
    "ways": {"anyOf": [{"type": "string", "maxLength": n} for n in range(65)]},
    "size": closed(**{f"p{i}": pattern(f"^[{i}a-z._%+-]{{1,300}}$") for i in range(10)}),
}  # fmt: skip


def written(vocabulary: Vocabulary, rules: str, seed: int) -> str | None:
    """A random answer that the grammar allows and that ends soon; None if it did not."""
    grammar, draw, text = Grammar(vocabulary, rules), random.Random(seed), b""
    for _ in range(600):
        allowed = [token for token in range(vocabulary.n_vocab) if grammar.allows(token)]
        assert allowed
        closing = [
            t for t in allowed if t in vocabulary.ends or vocabulary.piece(t).strip() in (b'"', b"}", b"]", b",")
        ]
        token = draw.choice(closing if closing and draw.random() < 0.7 else allowed)
        if token in vocabulary.ends:
            grammar.close()
            return text.decode()
        grammar.accept(token)
        text += vocabulary.piece(token)
    grammar.close()
    return None


@pytest.mark.parametrize("name", USUAL)
def test_usual_schemas_are_followed(name: str, small: Weights) -> None:
    """Every answer is JSON that the schema allows."""
    rules = grammar_rules(chat(USUAL[name]))
    answers = [text for seed in range(3) if (text := written(Vocabulary(small), rules or "", seed)) is not None]

    assert answers or name in ("page", "list", "large", "expression", "part")
    for text in answers:
        jsonschema.validate(json.loads(text), USUAL[name])


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schemas_are_refused(name: str, capfd: pytest.CaptureFixture[str], small: Weights) -> None:
    """By name, in few words, without a word from llama.cpp."""
    with pytest.raises(ChatRejected, match="response_format") as caught:
        grammar_rules(chat(HOSTILE[name]))

    assert caught.value.field == "response_format"
    assert capfd.readouterr() == ("", "")


def test_what_a_caller_wrote_never_becomes_rules(small: Weights, capfd: pytest.CaptureFixture[str]) -> None:
    """Quotation marks, backslashes and names of rules in words, keys and references are only text."""
    odd = 'x" | root | "\\" ::= \n\\'
    schema = {"$defs": {odd: {"enum": [odd, "y\\"]}}, **closed(**{odd: {"$ref": f"#/$defs/{odd}"}})}
    answer = written(Vocabulary(small), grammar_rules(chat(schema)) or "", 1)

    assert json.loads(answer or "") in ({odd: odd}, {odd: "y\\"})
    assert capfd.readouterr().err == ""


def test_errors_of_grammars_are_forgotten(small: Weights) -> None:
    """One caller's schema does not show up in what another is told."""
    with pytest.raises(ChatRejected):
        Grammar(Vocabulary(small), "root ::= root")

    assert last_errors() == "it gave no reason"


def test_an_error_that_nobody_foresaw_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's thread never meets it."""

    def fail(text: str) -> None:
        raise MemoryError(text)

    monkeypatch.setattr(grammar_module, "read_schema", fail)

    with pytest.raises(ChatRejected, match="MemoryError"):
        grammar_rules(chat({"const": "unforeseen"}))


def test_a_request_is_checked_before_it_waits(language: LlamaLanguage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sampler would refuse is refused, and a schema that passed is not read again."""
    language.check(chat({"const": "checked"}))
    monkeypatch.setattr(grammar_module, "read_schema", None)
    language.sampler(chat({"const": "checked"})).close()

    with pytest.raises(ChatRejected, match="response_format"):
        language.check(chat({"enum": []}))
    with pytest.raises(ChatRejected, match="logit_bias"):
        language.check(parse_chat({"messages": [{"role": "user", "content": ""}], "logit_bias": {"99999": 1}}))


PIECES = st.sampled_from(["a", "b", "[ab]", "[^b]", ".", "\\d", "(a|b)", "(?:ab|b)", "\\."])
COUNTS = st.sampled_from(["", "*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}"])


@settings(max_examples=60)
@given(st.lists(st.tuples(PIECES, COUNTS), max_size=5), st.lists(st.text("ab.1", max_size=6), max_size=8))
def test_patterns_mean_what_they_mean_in_python(parts: list[tuple[str, str]], texts: list[str]) -> None:
    """The automaton takes just those strings that the regular expression takes."""
    text = "".join(one + count for one, count in parts)
    rules = pattern_rules(f"^{text}$", "p", Effort())

    for one in texts:
        assert _accepts(rules, one) == bool(re.fullmatch(text, one))


@given(st.text(max_size=30))
def test_any_pattern_is_followed_or_refused(text: str) -> None:
    """Nothing else is raised, and no state offers one character twice."""
    try:
        rules = pattern_rules(text, "p", Effort())
    except SchemaRefused:
        return

    for rule in rules.values():
        assert len(_next_states(rule, "a")) <= 1


def _accepts(rules: dict[str, str], text: str) -> bool:
    state = "p-0"
    for one in text:
        following = _next_states(rules[state], one)
        assert len(following) <= 1
        if not following:
            return False
        state = following[0]
    return rules[state].endswith('"\\"" space')


def _next_states(rule: str, one: str) -> list[str]:
    ways = re.findall(r"(?:^|\| )(\[[^ ]+\]) (p-\d+)", rule)
    return [to for characters, to in ways if re.match(characters, one)]


def test_grammars_stay_small(small: Weights) -> None:
    """What is accepted is at most so many bytes, as it is parsed while all others wait."""
    rules = grammar_rules(chat(closed(**{f"field {i}": {"type": "string", "maxLength": 2000} for i in range(10)})))

    assert len(rules or "") < MOST_BYTES
    Grammar(Vocabulary(small), rules or "").close()


@pytest.mark.parametrize(
    ("schema", "came"),
    [
        ({"type": "array", "minItems": 3000}, "got 3000"),
        ({"type": "array", "minItems": 10**400}, "got one of many digits"),
        ({"type": "strin"}, "got 'strin'"),
    ],
)
def test_a_refusal_says_what_came(schema: dict[str, Any], came: str) -> None:
    """However long it was."""
    with pytest.raises(SchemaRefused, match=re.escape(came)):
        read_schema(json.dumps(schema))
