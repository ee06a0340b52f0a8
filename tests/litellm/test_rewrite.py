"""Examples get into the request; the caller's own words and objects stay as they are."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.litellm.calls import call_from
from echo_proxy.litellm.rewrite import rewrite
from echo_proxy.types import Message, Prompt

TURNS = (Message("user", "Q1"), Message("assistant", "A1"))
SHOWN = [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A1"}]
AS_TURNS = Prompt(turns=TURNS, system_notice="Data.", example_ids=("e1",))
AS_BLOCK = Prompt(block="<examples/>\n\n", example_ids=("e1",))
USER = {"role": "user", "content": "Hi"}
ROUTES = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
PART = {"chat": "text", "messages": "text", "responses": "input_text"}


def test_chat_turns_stand_between_system_and_dialogue() -> None:
    """The notice follows the last leading system message."""
    lead = [{"role": "system", "content": "Brief."}, {"role": "developer", "content": "Kind."}]

    made = rewrite("chat", {"messages": [*lead, USER], "temperature": 0}, AS_TURNS)

    assert made["messages"] == [lead[0], {"role": "developer", "content": "Kind.\n\nData."}, *SHOWN, USER]
    assert made["temperature"] == 0


def test_chat_without_system_gets_the_notice_as_one() -> None:
    """No notice, no system message."""
    silent = Prompt(turns=TURNS, example_ids=("e1",))

    assert rewrite("chat", {"messages": [USER]}, AS_TURNS)["messages"] == [
        {"role": "system", "content": "Data."},
        *SHOWN,
        USER,
    ]
    assert rewrite("chat", {"messages": [USER]}, silent)["messages"] == [*SHOWN, USER]


def test_a_system_message_in_parts_gets_another_part() -> None:
    """In the shape that the caller used."""
    part = {"type": "text", "text": "Brief.", "cache_control": {"type": "ephemeral"}}

    made = rewrite("chat", {"messages": [{"role": "system", "content": [part]}, USER]}, AS_TURNS)

    assert made["messages"][0] == {"role": "system", "content": [part, {"type": "text", "text": "Data."}]}


@pytest.mark.parametrize(
    ("given_body", "expected"),
    [
        ({"input": "Hi"}, {"input": [*SHOWN, USER], "instructions": "Data."}),
        ({"input": "Hi", "instructions": "Brief."}, {"input": [*SHOWN, USER], "instructions": "Brief.\n\nData."}),
        (
            {"input": [{"role": "developer", "content": "Kind."}, USER]},
            {"input": [{"role": "developer", "content": "Kind."}, *SHOWN, USER], "instructions": "Data."},
        ),
    ],
)
def test_responses_take_turns_in_their_input(given_body: dict[str, Any], expected: dict[str, Any]) -> None:
    """And the notice in their instructions."""
    made = rewrite("responses", given_body, AS_TURNS)

    assert {key: made[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ({}, {"system": "Data."}),
        ({"system": "Brief."}, {"system": "Brief.\n\nData."}),
        (
            {"system": [{"type": "text", "text": "Brief."}]},
            {"system": [{"type": "text", "text": "Brief."}, {"type": "text", "text": "Data."}]},
        ),
    ],
)
def test_messages_take_the_notice_beside_the_dialogue(system: dict[str, Any], expected: dict[str, Any]) -> None:
    """Anthropic's system prompt is no message."""
    made = rewrite("messages", {"messages": [USER], **system}, AS_TURNS)

    assert (made["messages"], made["system"]) == ([*SHOWN, USER], expected["system"])


@pytest.mark.parametrize("system", [{}, {"system": ""}, {"system": "Brief."}, {"system": []}])
def test_without_notice_the_system_prompt_stays(system: dict[str, Any]) -> None:
    """Present or absent, empty or not."""
    made = rewrite("messages", {"messages": [USER], **system}, AS_BLOCK)

    assert {key: value for key, value in made.items() if key == "system"} == system


@pytest.mark.parametrize("endpoint", ["chat", "messages", "responses"])
def test_a_block_stands_before_the_first_question(endpoint: str) -> None:
    """In a part of its own where the caller used parts."""
    key = "input" if endpoint == "responses" else "messages"
    part = {"type": PART[endpoint], "text": "Hi"}
    dialogue = [USER, {"role": "assistant", "content": "Hello"}, USER]

    plain = rewrite(endpoint, {key: dialogue}, AS_BLOCK)[key]
    parts = rewrite(endpoint, {key: [{"role": "user", "content": [part]}]}, AS_BLOCK)[key]

    assert plain == [{"role": "user", "content": "<examples/>\n\nHi"}, *dialogue[1:]]
    assert parts == [{"role": "user", "content": [{"type": PART[endpoint], "text": "<examples/>\n\n"}, part]}]


@pytest.mark.parametrize("cache", [None, {}, {"no-cache": False, "ttl": 60}])
def test_the_response_cache_is_left_out(cache: dict[str, Any] | None) -> None:
    """Its key would hold the examples."""
    made = rewrite("chat", {"messages": [USER], "cache": cache}, AS_TURNS)

    assert made["cache"] == {**(cache or {}), "no-cache": True, "no-store": True}


PARTS = [{"type": "text", "text": "Brief."}]


@pytest.mark.parametrize("prompt", [AS_TURNS, AS_BLOCK])
@pytest.mark.parametrize(
    ("endpoint", "kwargs"),
    [
        ("chat", {"messages": [{"role": "system", "content": "Brief."}, USER], "cache": {"ttl": 1}}),
        ("chat", {"messages": [{"role": "system", "content": PARTS}, {"role": "user", "content": PARTS}]}),
        ("responses", {"input": "Hi", "instructions": "Brief."}),
        ("responses", {"input": [{"role": "system", "content": "Brief."}, USER]}),
        ("messages", {"messages": [USER], "system": "Brief."}),
        ("messages", {"messages": [{"role": "user", "content": PARTS}], "system": PARTS}),
    ],
)
def test_a_retry_finds_the_request_as_it_was(endpoint: str, kwargs: dict[str, Any], prompt: Prompt) -> None:
    """Neither the dict nor a list nor a message in it has changed."""
    before = copy.deepcopy(kwargs)

    made = rewrite(endpoint, kwargs, prompt)

    assert kwargs == before
    assert made != before


texts = st.text(max_size=5)


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    endpoint = draw(st.sampled_from(sorted(ROUTES)))
    kind = PART[endpoint]
    parts = st.lists(texts.map(lambda text: {"type": kind, "text": text}), min_size=1, max_size=2)
    dialogue = [
        {"role": role, "content": draw(texts | parts)}
        for role in draw(st.lists(st.sampled_from(["user", "assistant"]), max_size=4))
    ]
    items = [*dialogue, {"role": "user", "content": draw(texts | parts)}]
    system = draw(st.none() | texts | st.lists(texts.map(lambda text: {"type": "text", "text": text}), max_size=2))
    kwargs: dict[str, Any] = {"cache": draw(st.none() | st.just({"ttl": 1})), "metadata": {}}
    if endpoint == "chat":
        kwargs["messages"] = [*([] if system is None else [{"role": "system", "content": system}]), *items]
    elif endpoint == "responses":
        kwargs["input"] = draw(st.sampled_from([items, "Hi"]))
        kwargs |= {"instructions": system} if isinstance(system, str) else {}
    else:
        kwargs |= {"messages": items} | ({} if system is None else {"system": system})
    return endpoint, kwargs


prompts = st.builds(
    lambda notice, is_block: Prompt(
        turns=() if is_block else TURNS,
        system_notice="" if is_block else notice,
        block="<examples/>" if is_block else "",
        example_ids=("e1",),
    ),
    st.sampled_from(["", "Data."]),
    st.booleans(),
)


@given(requests(), prompts)
def test_the_given_request_is_not_touched(asked: tuple[str, dict[str, Any]], prompt: Prompt) -> None:
    """LiteLLM uses it again for a retry: neither the dict nor anything in it may change."""
    endpoint, kwargs = asked
    before = copy.deepcopy(kwargs)

    rewrite(endpoint, kwargs, prompt)

    assert kwargs == before


@given(requests(), prompts)
def test_the_caller_s_own_words_stay(asked: tuple[str, dict[str, Any]], prompt: Prompt) -> None:
    """Every message of the caller is still there, in order, with at most something of ours before or after its text."""
    endpoint, kwargs = asked
    metadata = {"user_api_key_request_route": ROUTES[endpoint]}
    own = call_from("auto", None, {**kwargs, "metadata": metadata}).messages
    seen = call_from("auto", None, {**rewrite(endpoint, kwargs, prompt), "metadata": metadata}).messages
    additions = (*prompt.turns, Message("system", prompt.system_notice), Message("system", ""))
    mine = [_without(prompt, one) for one in seen if one not in additions]

    assert mine == [_without(prompt, one) for one in own if one != Message("system", "")]
    assert [one for one in seen if one in prompt.turns] == list(prompt.turns)
    assert sum("<examples/>" in one.content for one in seen) == bool(prompt.block)
    assert sum("Data." in one.content for one in seen) == bool(prompt.system_notice)


def _without(prompt: Prompt, one: Message) -> Message:
    """The caller's part of a message; the newline between two parts counts for nothing."""
    return Message(one.role, one.content.removeprefix(prompt.block).removesuffix(prompt.system_notice).strip("\n"))
