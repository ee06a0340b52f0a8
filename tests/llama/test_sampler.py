"""Draws of llama.cpp's samplers, one answer at a time."""

import json
from typing import Any

import jsonschema
import numpy as np
import pytest

from echo_proxy.engine.chat import ChatRejected, ChatRequest, parse_chat
from echo_proxy.engine.runner import Run
from echo_proxy.llama.grammar import Grammar
from echo_proxy.llama.language import LlamaLanguage
from echo_proxy.llama.library import Weights
from echo_proxy.llama.runner import LlamaRunner
from echo_proxy.llama.sampler import LlamaSampler
from echo_proxy.llama.vocabulary import Vocabulary
from tests.llama.pair import QUESTIONS

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}, "size": {"enum": ["small", "large"]}},
    "required": ["city", "size"],
    "additionalProperties": False,
}


def chat(**fields: Any) -> ChatRequest:
    """A question with these fields."""
    return parse_chat({"messages": [{"role": "user", "content": QUESTIONS[0]}], "temperature": 0, **fields})


class Answerer:
    """Reads a prompt into a seat and lets a sampler write, until it ends."""

    def __init__(self, runner: LlamaRunner, language: LlamaLanguage) -> None:
        self.runner = runner
        self.language = language

    def read(self, request: ChatRequest) -> int:
        """The prompt, into seat 0; returns the row of its last token."""
        prompt = self.language.prompt(request.messages).tokens
        self.runner.cut(0, 0)
        self.runner.decode([Run(prompt, 0, (0,), 1)])
        self.n_read = len(prompt)
        return self.n_read - 1

    def tokens(self, request: ChatRequest, n_most: int = 24) -> list[int]:
        """The answer's tokens, its end included."""
        sampler = self.language.sampler(request)
        written = [sampler.draw(self.read(request))]
        while len(written) < n_most and not self.language.is_end(written[-1]):
            self.runner.decode([Run(written[-1:], self.n_read + len(written) - 1, (0,), 1)])
            written.append(sampler.draw(0))
        sampler.close()
        return written

    def text(self, request: ChatRequest, n_most: int = 100) -> str:
        """The answer."""
        return b"".join(map(self.language.piece, self.tokens(request, n_most))).decode()


@pytest.fixture
def answerer(runner: LlamaRunner, language: LlamaLanguage) -> Answerer:
    """Of the small model."""
    return Answerer(runner, language)


def test_without_temperature_the_likeliest_is_drawn(answerer: Answerer) -> None:
    """Argmax, whatever else would cut off the tail; the flag says so."""
    sampler = answerer.language.sampler(chat(top_k=3, top_p=0.1, min_p=0.9, typical_p=0.5, seed=4))
    row = answerer.read(chat())

    assert sampler.is_greedy
    assert sampler.draw(row) == int(answerer.runner.logits(row).argmax())
    assert sampler.draw(row) == sampler.draw(row)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.5},
        {"logit_bias": {"5": 1}},
        {"repeat_penalty": 1.1},
        {"presence_penalty": 0.1},
        {"frequency_penalty": -0.1},
        {"response_format": {"type": "json_object"}},
    ],
)
def test_greedy_is_said_of_argmax_only(fields: dict[str, Any], answerer: Answerer) -> None:
    """With anything that could change which token comes out, the flag is off."""
    sampler = answerer.language.sampler(chat(**fields))

    assert not sampler.is_greedy
    sampler.close()


@pytest.mark.parametrize("temperature", [1e-9, 1e-30])
def test_hardly_any_temperature_is_none(temperature: float, answerer: Answerer) -> None:
    """Dividing by it would leave the range of float32."""
    assert answerer.tokens(chat(temperature=temperature)) == answerer.tokens(chat())


@pytest.mark.parametrize("seed", [0, 7, -1, 2**32 - 1])
def test_same_seed_same_draws(seed: int, answerer: Answerer) -> None:
    """Also for the seed that llama.cpp itself takes as none."""
    request = chat(temperature=9.0, top_k=0, top_p=1, min_p=0, seed=seed)

    assert answerer.tokens(request) == answerer.tokens(request)


def test_other_seeds_draw_other_texts(answerer: Answerer) -> None:
    """Eight seeds, more than one text."""
    texts = [tuple(answerer.tokens(chat(temperature=9.0, top_k=0, top_p=1, min_p=0, seed=s))) for s in range(8)]

    assert len(set(texts)) > 4


def test_the_models_seed_serves_requests_without_one(small: Weights, runner: LlamaRunner) -> None:
    """And theirs comes first."""
    answerer = Answerer(runner, LlamaLanguage(small, runner, seed=3))
    hot = {"temperature": 9.0, "top_k": 0, "top_p": 1, "min_p": 0}

    assert answerer.tokens(chat(**hot)) == answerer.tokens(chat(**hot, seed=3))
    assert answerer.tokens(chat(**hot, seed=4)) != answerer.tokens(chat(**hot, seed=3))


def test_several_rows_of_a_decode_are_drawn_as_one_by_one(answerer: Answerer) -> None:
    """A draft that is verified draws the tokens that would have come without it, at any temperature."""
    request = chat(temperature=1.5, top_k=0, seed=5, frequency_penalty=0.5, repeat_penalty=1.2)
    expected = answerer.tokens(request, 6)
    sampler = answerer.language.sampler(request)
    first = sampler.draw(answerer.read(request))
    answerer.runner.decode([Run(expected[:5], answerer.n_read, (0,), 5)])

    assert [first, *(sampler.draw(row) for row in range(5))] == expected
    sampler.close()


def test_a_bias_forbids_and_forces(answerer: Answerer) -> None:
    """A large one decides alone."""
    token = answerer.tokens(chat())[0]

    assert answerer.tokens(chat(logit_bias={str(token): -100}))[0] != token
    assert answerer.tokens(chat(logit_bias={"300": 1000}), 3) == [300, 300, 300]


@pytest.mark.parametrize(
    ("bias", "message"),
    [({"1024": 1}, "tokens in"), ({"5": 1e30}, "numbers in"), ({"5": float("nan")}, "got nan")],
)
def test_an_impossible_bias_is_refused(bias: dict[str, float], message: str, answerer: Answerer) -> None:
    """Before it reaches llama.cpp."""
    with pytest.raises(ChatRejected, match=message) as caught:
        answerer.language.sampler(chat(logit_bias=bias))

    assert caught.value.field == "logit_bias"


@pytest.mark.parametrize("penalty", [{"presence_penalty": 2.0}, {"frequency_penalty": 2.0}, {"repeat_penalty": 9.0}])
def test_penalties_look_at_what_was_drawn(penalty: dict[str, float], answerer: Answerer) -> None:
    """At one and the same row, a token that was drawn or accepted is less likely the next time."""
    request = chat(**penalty, logit_bias={"300": 25.0})
    row = answerer.read(request)
    likeliest = answerer.tokens(chat(logit_bias={"300": 25.0}))[0]
    row = answerer.read(request)
    sampler, told = answerer.language.sampler(request), answerer.language.sampler(request)
    logits = answerer.runner.logits(row) + np.where(np.arange(answerer.runner.n_vocab) == 300, 25, 0)
    margin = float(np.diff(np.sort(logits)[-2:])[0])
    drawn = [sampler.draw(row) for _ in range(1 + int(margin / 2) + 1)]
    for token in drawn[:-1]:
        told.accept(token)

    assert drawn[0] == likeliest
    if "frequency_penalty" in penalty:
        assert drawn[-1] != likeliest
    assert told.draw(row) == drawn[-1]


@pytest.mark.parametrize("temperature", [0, 1.0, 5.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_schema_makes_json_that_follows_it(temperature: float, seed: int, answerer: Answerer) -> None:
    """However hot, the whole answer parses, and then it ends."""
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    request = chat(response_format=response_format, temperature=temperature, seed=seed, top_k=0, top_p=1, min_p=0)
    tokens = answerer.tokens(request, 200)
    text = b"".join(map(answerer.language.piece, tokens)).decode()

    jsonschema.validate(json.loads(text), SCHEMA)
    assert answerer.language.is_end(tokens[-1])


def test_a_grammar_does_not_change_what_it_allows(small: Weights, answerer: Answerer) -> None:
    """A token that may come anyway is drawn as without the grammar."""
    plain = chat(temperature=1.5, seed=9, top_k=0)
    free = Grammar(Vocabulary(small), "root ::= [^\\x00]*")
    sampler = LlamaSampler(answerer.runner, plain.sampling, 9, free, None)
    row = answerer.read(plain)

    other = answerer.language.sampler(plain)

    assert [sampler.draw(row) for _ in range(5)] == [other.draw(row) for _ in range(5)]
    sampler.close()
    other.close()


def test_no_character_is_broken_in_a_grammar(small: Weights, answerer: Answerer) -> None:
    """Not even by a token of one byte that llama.cpp's grammar would take for the beginning of a character."""
    vocabulary = Vocabulary(small)
    byte = {vocabulary.piece(token): token for token in range(vocabulary.n_vocab)}
    grammar = Grammar(vocabulary, 'root ::= "\\"" [^\\x00-\\x1f]+')
    grammar.accept(byte[b'"'])
    first = grammar.allows(byte[b"\xc3"]), grammar.allows(byte[b"\xfb"]), grammar.allows(byte[b"\xa4"])
    grammar.accept(byte[b"\xc3"])

    assert first == (True, False, False)
    assert grammar.allows(byte[b"\xa4"])
    assert not grammar.allows(byte[b'"'])
    grammar.close()


@pytest.mark.parametrize("typical_p", [1.0, 0.5])
@pytest.mark.parametrize("temperature", [0, 3.0])
def test_a_likely_but_broken_token_is_passed_over(
    typical_p: float, temperature: float, small: Weights, answerer: Answerer
) -> None:
    """The next best comes, and no sampler is confused by what is impossible."""
    vocabulary = Vocabulary(small)
    broken = next(token for token in range(vocabulary.n_vocab) if vocabulary.piece(token) == b"\xfb")
    response_format = {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
    drawing = {"temperature": temperature, "typical_p": typical_p, "top_k": 0, "seed": 3}
    text = answerer.text(chat(response_format=response_format, logit_bias={str(broken): 1000}, **drawing))

    jsonschema.validate(json.loads(text), SCHEMA)


def test_no_surrogate_begins_in_a_grammar(small: Weights) -> None:
    """Its first two bytes look harmless, and then nothing could follow."""
    vocabulary = Vocabulary(small)
    byte = {vocabulary.piece(token): token for token in range(vocabulary.n_vocab)}
    grammar = Grammar(vocabulary, "root ::= [^x]+")
    grammar.accept(byte[b"\xed"])

    assert grammar.allows(byte[b"\x9f"])
    assert not grammar.allows(byte[b"\xa0"])
    grammar.close()


def test_after_its_end_only_the_end_comes(answerer: Answerer) -> None:
    """A finished JSON text allows nothing but an end token, again and again."""
    sampler = answerer.language.sampler(chat(response_format={"type": "json_object"}, temperature=1.0, seed=1))
    row = answerer.read(chat())
    for token in answerer.language.tokenize("{}"):
        sampler.accept(token)
    drawn = {sampler.draw(row) for _ in range(40)}
    text = {answerer.language.piece(token).strip() for token in drawn}

    assert text == {b""}  # spaces may follow
    assert any(map(answerer.language.is_end, drawn))
    sampler.close()


def test_a_token_against_the_grammar_is_refused(answerer: Answerer) -> None:
    """ValueError where llama.cpp would end the process, for texts and for an end that comes too early."""
    sampler = answerer.language.sampler(chat(response_format={"type": "json_object"}))
    end = next(token for token in range(1024) if answerer.language.is_end(token))

    for token in (answerer.language.tokenize("x")[0], end):
        with pytest.raises(ValueError, match="grammar"):
            sampler.accept(token)
    sampler.close()


def test_a_dead_end_ends_the_answer(small: Weights, answerer: Answerer) -> None:
    """Where the grammar needs what the model has no token for, the end comes; without one it is an error."""
    row = answerer.read(chat())
    rules = "root ::= <[300]> <[99999999]>"
    sampler = LlamaSampler(answerer.runner, chat().sampling, 0, Grammar(Vocabulary(small), rules), 1)
    endless = LlamaSampler(answerer.runner, chat().sampling, 0, Grammar(Vocabulary(small), rules), None)

    assert [sampler.draw(row) for _ in range(3)] == [300, 1, 1]
    assert endless.draw(row) == 300
    with pytest.raises(RuntimeError, match="none to end with"):
        endless.draw(row)
    sampler.close()
    endless.close()


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.invalid/x.json"},
        {"type": "nothing"},
        {"type": "string", "pattern": "(?=ahead)"},
        {"type": "string", "minLength": 1000000},
        {"type": "string", "maxLength": 30000},
        {"enum": ["long" * 10000]},
    ],
)
def test_a_schema_without_a_grammar_is_refused(schema: dict[str, Any], answerer: Answerer) -> None:
    """ChatRejected, naming the field; the process lives on."""
    request = chat(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    with pytest.raises(ChatRejected) as caught:
        answerer.language.sampler(request)

    assert caught.value.field == "response_format"


def test_a_row_that_was_not_wanted_is_refused(answerer: Answerer) -> None:
    """llama.cpp would end the process."""
    row = answerer.read(chat())
    for request in (chat(), chat(temperature=1.0), chat(response_format={"type": "json_object"})):
        sampler = answerer.language.sampler(request)

        with pytest.raises(ValueError, match="wanted row"):
            sampler.draw(row - 1)
        sampler.close()
        sampler.close()
