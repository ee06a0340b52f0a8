"""What shapes an answer beside its dialogue, over the bodies of three endpoints."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.answers.identical import is_deterministic
from echo_proxy.litellm.parameters import parameters_of

PLAIN: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}


def asked(tags: Any = None, **body: Any) -> str | None:
    whole = {**PLAIN, **body}
    return parameters_of({**whole, "proxy_server_request": {"body": whole}}, {"tags": tags})


def found(**body: Any) -> Any:
    text = asked(**body)
    return None if text is None else json.loads(text or "{}")


def test_a_plain_call_has_none() -> None:
    """Dialogue, delivery and billing shape no answer, or stand in the key themselves."""
    body = {
        "stream": True,
        "stream_options": {"include_usage": True},
        "_litellm_strip_stream_usage": True,
        "user": "u",
        "metadata": {"a": 1},
        "n": 1,
        "input": "Hi",
        "instructions": "Brief.",
        "response_format": {"type": "json_object"},
        "text": {"format": {"type": "text"}},
        "output_config": {"format": None},
        "temperature": None,
    }

    assert asked() == ""
    assert asked(**body) == ""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"max_output_tokens": 5}, {"max_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 5}, {"max_tokens": 5}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ({"reasoning": {"effort": "low", "summary": None}}, {"reasoning_effort": "low"}),
        ({"reasoning": {"summary": "auto"}}, {"reasoning": {"summary": "auto"}}),
        ({"output_config": {"effort": "low", "format": {"type": "text"}}}, {"reasoning_effort": "low"}),
        ({"verbosity": "low"}, {"verbosity": "low"}),
        ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, {"thinking": {"budget_tokens": 9, "type": "enabled"}}),
        ({"logit_bias": {"5": -1.0}}, {"logit_bias": {"5": -1}}),
    ],
)
def test_one_meaning_has_one_name(body: dict[str, Any], expected: dict[str, Any]) -> None:
    """Whatever the endpoint calls it."""
    assert found(**body) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [({"temperature": 0}, {"temperature": 0.0}), ({"top_p": 0.5, "seed": 1}, {"seed": 1, "top_p": 0.5})],
)
def test_the_same_is_written_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Neither order nor the kind of number counts."""
    assert asked(**one) == asked(**other)


@pytest.mark.parametrize(
    "body",
    [{"temperature": 0.5}, {"top_k": 3}, {"mirostat": 2}, {"extra_body": {"a": 1}}, {"tool_choice": "none"}],
)
def test_whatever_else_is_sent_counts(body: dict[str, Any]) -> None:
    """Also what nobody here knows."""
    assert found(**body) == body


def test_what_a_hook_has_set_counts() -> None:
    """The operator's change is what the model is sent."""
    kwargs = {**PLAIN, "temperature": 0, "seed": 4, "proxy_server_request": {"body": {**PLAIN, "temperature": 1}}}

    assert json.loads(parameters_of(kwargs, {}) or "") == {"seed": 4, "temperature": 0}
    assert parameters_of({**kwargs, "allowed_model_region": "eu"}, {}) != parameters_of(kwargs, {})


def test_tags_keep_requests_apart() -> None:
    """They decide which deployments may answer: an answer from elsewhere is not one of those."""
    assert asked(tags=["eu", "b", "eu"]) == asked(tags=("b", "eu")) == '{"tags":["b","eu"]}'
    assert len({asked(), asked(tags=["eu"]), asked(tags=["us"])}) == 3
    assert asked(tags=[]) == asked(tags=None) == ""
    assert asked(tags="eu") == asked(tags=["eu"])


@pytest.mark.parametrize(
    "body",
    [
        {"api_key": "mine"},
        {"api_base": "http://mine"},
        {"base_url": "http://mine"},
        {"max_tokens": 5, "max_completion_tokens": 6},
        {"temperature": float("nan")},
        {"top_p": object()},
    ],
)
def test_what_cannot_be_told_is_not_guessed(body: dict[str, Any]) -> None:
    """A provider of the caller's own, contradictions, and what JSON cannot hold."""
    assert asked(**body) is None


@pytest.mark.parametrize("request_of", [None, {}, {"body": None}])
def test_without_the_body_nothing_is_known(request_of: Any) -> None:
    """There might be fields that nobody sees."""
    assert parameters_of({**PLAIN, "proxy_server_request": request_of}, {}) is None


@given(st.dictionaries(st.text(min_size=1), st.integers() | st.text() | st.booleans(), max_size=4))
def test_two_bodies_that_differ_are_told_apart(body: dict[str, Any]) -> None:
    """One more field, of whatever name, gives other parameters."""
    more = {**body, "an_unheard_of_field": 1}

    assert asked(**more) is None or asked(**more) != asked(**body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, False),
        ({"temperature": 0.0}, True),
        ({"seed": 7}, True),
        ({"temperature": 0.1}, False),
        ({"top_p": 0}, False),
    ],
)
def test_temperature_0_or_a_seed_ask_for_the_same_again(body: dict[str, Any], expected: bool) -> None:
    """Nothing else promises it."""
    assert is_deterministic(asked(**body) or "") is expected
