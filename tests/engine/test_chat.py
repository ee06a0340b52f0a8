from typing import Any

import pytest

from echo_proxy.engine.chat import ChatRejected, Service, parse_chat, unsupported_fields

USER = {"role": "user", "content": "hi"}


def _body(**more: Any) -> dict[str, Any]:
    return {"messages": [USER], **more}


def test_plain_request() -> None:
    """What is not said gets llama.cpp's defaults."""
    chat = parse_chat(_body())

    assert chat.messages == ({"role": "user", "content": "hi"},)
    assert chat.max_tokens is None
    assert chat.sampling.temperature == 0.8
    assert (chat.grammar, chat.is_streamed, chat.wants_usage, chat.stop) == ("text", False, False, ())


def test_sampling_fields_arrive() -> None:
    """Every number that steers the draw is passed on."""
    chat = parse_chat(_body(temperature=0, top_p=0.5, top_k=3, min_p=0.1, seed=-1, logit_bias={"7": -100}))

    assert (chat.sampling.temperature, chat.sampling.top_p, chat.sampling.top_k) == (0, 0.5, 3)
    assert chat.sampling.seed == 2**32 - 1
    assert chat.sampling.logit_bias == ((7, -100.0),)


def test_content_parts_are_joined_and_developer_is_system() -> None:
    """Chat templates get plain texts and roles they know."""
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    chat = parse_chat({"messages": [{"role": "developer", "content": content}, USER]})

    assert chat.messages[0] == {"role": "system", "content": "ab"}


def test_one_stop_text_may_stand_alone() -> None:
    """OpenAI allows a string or a list."""
    assert parse_chat(_body(stop="x")).stop == ("x",)
    assert parse_chat(_body(stop=["x", "y"])).stop == ("x", "y")


def test_smaller_of_two_token_limits_counts() -> None:
    """Both of OpenAI's names are understood."""
    assert parse_chat(_body(max_tokens=9, max_completion_tokens=4)).max_tokens == 4


def test_json_schema_is_taken_from_either_place() -> None:
    """OpenAI's json_schema and llama.cpp's json_object with a schema mean the same."""
    schema = {"type": "object"}
    named = parse_chat(_body(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}))
    short = parse_chat(_body(response_format={"type": "json_object", "schema": schema}))

    assert (named.grammar, named.json_schema) == ("json", '{"type": "object"}')
    assert short.json_schema == named.json_schema


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"n": 2}, "n"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"gguf": "/etc/passwd"}, "gguf"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": [""]}, "stop.0"),
        ({"stop": ["x"] * 65}, "stop"),
        ({"stop": ["x" * 501]}, "stop.0"),
        ({"stop": "x" * 501}, "stop.0"),
        ({"logit_bias": {str(token): 1 for token in range(1001)}}, "logit_bias"),
        ({"logit_bias": {"9" * 5000: 1}}, "logit_bias"),
        ({"logit_bias": {"1_0": 1}}, "logit_bias"),
        ({"n": 10**5000}, "n"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(more: dict[str, Any], field: str) -> None:
    """Nothing is silently ignored: the error names the field."""
    with pytest.raises(ChatRejected) as caught:
        parse_chat(_body(**more))

    assert (caught.value.field or "").startswith(field)
    assert field.split(".")[0] in str(caught.value)


def test_harmless_fields_and_empty_ones_are_ignored() -> None:
    """Fields that change no answer pass, and so do those that say nothing."""
    more = {"user": "u", "metadata": {}, "store": True, "tools": None, "functions": [], "n": 1, "logprobs": False}

    assert parse_chat(_body(**more)) == parse_chat(_body())
    assert unsupported_fields(more) == frozenset()
    assert unsupported_fields({"tools": [1], "temperature": 1, "audio": {}}) == {"tools", "audio"}


def test_a_body_must_be_an_object() -> None:
    """A list is not a request."""
    with pytest.raises(ChatRejected, match="expected a JSON object, got list"):
        parse_chat([])


def test_service_and_logprobs_are_read() -> None:
    """What the proxy adds, and how many rivals of each token are wanted."""
    service = {"scope": "key:1", "priority": 3, "deadline_s": 2.5, "hints": ["a", "b"]}
    found = parse_chat(_body(echo_service=service, logprobs=True, top_logprobs=4))
    plain = parse_chat(_body(logprobs=False, top_logprobs=4))

    assert found.service == Service("key:1", 3, 2.5, ("a", "b"))
    assert found.n_logprobs == 4
    assert (plain.n_logprobs, plain.service) == (None, Service())


def test_messages_of_refusals_are_short_and_whole() -> None:
    """However long the names that a caller sends are, and with half characters in them."""
    for more in ({"logit_bias": {f"k{i}": 1 for i in range(1000)}}, {"\ud83d" * 10000: 1}, {"n": "\ud83d" * 10000}):
        with pytest.raises(ChatRejected) as caught:
            parse_chat(_body(**more))

        assert len(str(caught.value)) <= 500
        assert len(caught.value.field or "") <= 500
        assert f"{caught.value}{caught.value.field}".encode()


def test_long_hints_are_cut() -> None:
    """They only speed an answer up: no reason to refuse it."""
    chat = parse_chat(_body(echo_service={"hints": ["x" * 10**6, "y"]}))

    assert chat.service.hints == ("x" * 20_000, "y")


def test_a_schema_that_is_too_deep_is_refused() -> None:
    """RecursionError would be nobody's to catch."""
    schema: dict[str, Any] = {}
    for _ in range(3000):
        schema = {"items": schema}
    with pytest.raises(ChatRejected) as caught:
        parse_chat(_body(response_format={"type": "json_object", "schema": schema}))

    assert (caught.value.field or "").startswith("response_format")


def test_half_characters_are_question_marks() -> None:
    """JSON can bring them in every text."""
    parts = [{"type": "text", "text": "c\ud83d"}]
    messages = [{"role": "user", "content": "a\ud83d"}, {"role": "user", "content": parts}]
    chat = parse_chat({"messages": messages, "stop": ["\ud83d"], "echo_service": {"hints": ["h\ud83d"]}})

    assert [one["content"] for one in chat.messages] == ["a?", "c?"]
    assert (chat.stop, chat.service.hints) == (("?",), ("h?",))
    assert parse_chat(_body(stop="x\ud83d")).stop == ("x?",)
