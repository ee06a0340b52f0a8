from types import SimpleNamespace
from typing import Any

import pytest
from litellm.constants import LITELLM_PROXY_ADMIN_NAME

from echo_proxy.litellm.calls import call_from, caller_from_auth, caller_of, obstacle_in
from echo_proxy.types import Caller, Message

HASH = "0123456789abcdef" * 4
ROUTES = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
USER = [{"role": "user", "content": "Hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat": {"messages": USER},
    "responses": {"input": "Hi"},
    "messages": {"messages": USER},
}


def kwargs_of(endpoint: str = "chat", **more: Any) -> dict[str, Any]:
    metadata = {"user_api_key_request_route": ROUTES.get(endpoint, endpoint), "user_api_key_hash": HASH}
    place = "metadata" if endpoint == "chat" else "litellm_metadata"
    return {"litellm_call_id": "c1", place: metadata, **BODIES.get(endpoint, {"messages": USER}), **more}


def test_a_chat_call_is_understood() -> None:
    """Who, what, where."""
    made = call_from("auto", USER, kwargs_of(stream=True))

    assert (made.call_id, made.model_group, made.endpoint) == ("c1", "auto", "chat")
    assert made.messages == (Message("user", "Hi"),)
    assert made.caller == Caller(key=HASH)
    assert (made.obstacle, made.is_opted_out, made.wants_json, made.is_streamed) == (None, False, False, True)


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("chat", {"messages": [{"role": "system", "content": "Brief."}, *USER]}),
        ("chat", {"messages": [{"role": "developer", "content": [{"type": "text", "text": "Brief."}]}, *USER]}),
        ("responses", {"instructions": "Brief.", "input": "Hi"}),
        ("responses", {"instructions": "Brief.", "input": [{"role": "user", "content": "Hi"}]}),
        (
            "responses",
            {
                "input": [
                    {"type": "message", "role": "system", "content": "Brief."},
                    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
                ]
            },
        ),
        ("messages", {"system": "Brief.", "messages": USER}),
        ("messages", {"system": [{"type": "text", "text": "Brief."}], "messages": USER}),
    ],
)
def test_all_endpoints_say_the_same(endpoint: str, body: dict[str, Any]) -> None:
    """System first, then the dialogue, whatever the shape."""
    made = call_from("auto", body.get("messages"), kwargs_of(endpoint, **body))

    assert made.endpoint == endpoint
    assert made.messages == (Message("system", "Brief."), Message("user", "Hi"))
    assert made.obstacle is None


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "image_url", "image_url": {"url": "data:"}}],
        [{"type": "text", "text": "Look"}, {"type": "input_image", "image_url": "data:"}],
        {"type": "text", "text": "Hi"},
        None,
        7,
    ],
)
@pytest.mark.parametrize("endpoint", ["chat", "messages", "responses"])
def test_what_is_not_only_text_is_passed_through(endpoint: str, content: Any) -> None:
    """Images, unknown parts, nothing at all."""
    items = [{"role": "user", "content": content}]

    made = call_from("auto", None, kwargs_of(endpoint, messages=items, input=items))

    assert (made.messages, made.obstacle) == ((), "not_only_text")


@pytest.mark.parametrize(
    "item",
    [
        {"role": "tool", "content": "42"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]},
        {"role": "assistant", "content": "", "function_call": {"name": "f"}},
        {"type": "function_call_output", "output": "42"},
        {"type": "reasoning", "summary": []},
        "words",
    ],
)
def test_traces_of_tools_are_passed_through(item: Any) -> None:
    """An example between a call and its result would break the dialogue."""
    made = call_from("auto", None, kwargs_of("responses", input=[item, *USER]))

    assert made.obstacle == "not_only_text"


@pytest.mark.parametrize(
    ("endpoint", "more", "obstacle"),
    [
        ("chat", {"tools": [{"type": "function"}]}, "tools"),
        ("chat", {"functions": [{"name": "f"}]}, "tools"),
        ("chat", {"tools": []}, None),
        ("chat", {"n": 2}, "several_choices"),
        ("chat", {"n": 1}, None),
        ("chat", {"logprobs": True}, "logprobs"),
        ("chat", {"top_logprobs": 2}, "logprobs"),
        ("chat", {"modalities": ["audio"]}, "audio_or_prediction"),
        ("chat", {"prediction": {"content": "x"}}, "audio_or_prediction"),
        ("responses", {"previous_response_id": "r1"}, "server_side_history"),
        ("responses", {"conversation": "c"}, "server_side_history"),
        ("responses", {"background": True}, "server_side_history"),
        ("chat", {"response_format": {"type": "text"}}, None),
        ("chat", {"response_format": {"type": "json_object"}}, None),
        ("chat", {"response_format": {"type": "json_schema"}}, "response_format"),
        ("chat", {"response_format": dict}, "response_format"),
        ("responses", {"text": {"format": {"type": "json_schema"}}}, "response_format"),
        ("responses", {"text": {"verbosity": "low"}}, None),
        ("messages", {"output_format": {"type": "json_schema"}}, "response_format"),
        ("messages", {"output_config": {"format": {"type": "json_schema"}}}, "response_format"),
        ("messages", {"output_config": {"effort": "low"}}, None),
    ],
)
def test_what_stands_against_an_example(endpoint: str, more: dict[str, Any], obstacle: str | None) -> None:
    """The reason is what gets counted."""
    assert call_from("auto", None, kwargs_of(endpoint, **more)).obstacle == obstacle


@pytest.mark.parametrize(
    ("endpoint", "more"),
    [
        ("chat", {"response_format": {"type": "json_object"}}),
        ("responses", {"text": {"format": {"type": "json_object"}}}),
    ],
)
def test_a_wish_for_json_is_noticed(endpoint: str, more: dict[str, Any]) -> None:
    """Each endpoint has its own place for it."""
    assert call_from("auto", None, kwargs_of(endpoint, **more)).wants_json is True


@pytest.mark.parametrize(
    ("route", "endpoint"),
    [
        ("/chat/completions", "chat"),
        ("/openai/deployments/x/chat/completions", "chat"),
        ("/v1/completions", "/v1/completions"),
        ("/v1/embeddings", "/v1/embeddings"),
        ("/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("", "unknown"),
    ],
)
def test_the_endpoint_is_told_by_the_route(route: str, endpoint: str) -> None:
    """Others keep their route, which is what gets counted."""
    made = call_from("auto", USER, {"metadata": {"user_api_key_request_route": route}})

    assert made.endpoint == endpoint


@pytest.mark.parametrize(
    ("name", "value", "is_opted_out"),
    [
        ("x-echo-bypass", "true", True),
        ("X-Echo-Bypass", "1", True),
        ("x-echo-bypass", "TRUE", True),
        ("x-echo-bypass", "false", False),
        ("x-echo-bypass", "", False),
        ("x-other", "true", False),
    ],
)
def test_a_caller_opts_out_by_header(name: str, value: str, is_opted_out: bool) -> None:
    """Names of headers have no case."""
    kwargs = kwargs_of()
    kwargs["metadata"]["headers"] = {name: value}

    assert call_from("auto", USER, kwargs).is_opted_out is is_opted_out


def metadata(**known: Any) -> dict[str, Any]:
    return {f"user_api_key_{name}": value for name, value in known.items()}


def test_a_client_s_own_metadata_is_not_taken_for_litellm_s() -> None:
    """Who asks stands where LiteLLM's key check has written; the place depends on the endpoint."""
    kwargs = kwargs_of("chat", litellm_metadata={"tags": ["mine"]})

    assert call_from("auto", USER, kwargs).caller == Caller(HASH)
    assert call_from("auto", None, kwargs_of("messages", metadata={"user_id": "mine"})).caller == Caller(HASH)


def auth(**known: Any) -> Any:
    return SimpleNamespace(
        **{"api_key": None, "team_id": None, "org_id": None, "user_id": None, "user_role": None} | known
    )


def test_a_caller_is_who_the_key_check_says() -> None:
    """LiteLLM's hash of the key, team, organization, user."""
    made = caller_of(metadata(hash=HASH, team_id="t", org_id="o", user_id="u"))

    assert made == Caller(HASH, "t", "o", "u")


@pytest.mark.parametrize(
    "known",
    [
        {"api_key": HASH, "team_id": "t"},
        {"api_key": "raw-key"},
        {"user_id": "u"},
        {"user_id": "u", "team_id": "t", "org_id": "o"},
        {},
    ],
)
def test_calls_and_our_own_routes_see_the_same_caller(known: dict[str, Any]) -> None:
    """Otherwise nobody could ask about its own decisions."""
    logged = {{"api_key": "hash"}.get(name, name): value for name, value in known.items()}

    assert caller_of(metadata(**logged)) == caller_from_auth(auth(**known))


def test_a_raw_key_is_never_kept() -> None:
    """LiteLLM hashes its own keys, but not those of an operator's own check."""
    made = caller_of(metadata(hash="raw-key"))

    assert "raw-key" not in made.key
    assert len(made.key) == 64


def test_callers_without_a_key_are_told_apart() -> None:
    """With JWTs nobody has a key: one key for all would mix tenants."""
    keys = {
        caller_of(metadata(**known)).key
        for known in (
            {"user_id": "a"},
            {"user_id": "b"},
            {"user_id": "a", "team_id": "t"},
            {"team_id": "a", "user_id": "t"},
        )
    }

    assert len(keys) == 4
    assert "anonymous" not in keys
    assert caller_of({}).key == "anonymous"


@pytest.mark.parametrize(
    ("role", "is_admin"),
    [
        ("proxy_admin", True),
        (SimpleNamespace(value="proxy_admin"), True),
        (SimpleNamespace(value="proxy_admin_viewer"), False),
        ("internal_user", False),
        (None, False),
    ],
)
def test_admins_are_told_by_their_role(role: Any, is_admin: bool) -> None:
    """A string or an enumeration."""
    assert caller_from_auth(auth(user_role=role)).is_admin is is_admin


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"stop": ["."]}, "stop"),
        ({"stop_sequences": ["x"]}, "stop"),
        ({"web_search_options": {}}, "web_search"),
        ({"no-log": True}, "no_log"),
    ],
)
def test_answers_that_would_mislead_are_none_of_ours(fields: dict[str, Any], reason: str) -> None:
    """Cut at the caller's word, true only today, or never reported to us."""
    assert obstacle_in("chat", fields) == reason


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", 7),
        (" -100 ", -100),
        ("high", 10),
        ("Normal", 0),
        ("low", -10),
        ("101", None),
        ("1.5", None),
        ("urgent", None),
        ("", None),
        ("9" * 5000, None),
    ],
)
def test_a_caller_says_how_urgent_it_is(value: str, expected: int | None) -> None:
    """A wrong wish is as good as none: it must not fail the call."""
    kwargs = kwargs_of()
    kwargs["metadata"]["headers"] = {"X-Echo-Priority": value}

    assert call_from("auto", USER, kwargs).priority == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (False, False)),
        ({"X-Echo-No-Store": " True "}, (True, False)),
        ({"x-echo-no-store": "false"}, (False, False)),
        ({"x-echo-no-answer": "1"}, (False, True)),
    ],
)
def test_a_caller_may_want_nothing_kept_and_nothing_stored(
    headers: dict[str, str], expected: tuple[bool, bool]
) -> None:
    """By two headers."""
    kwargs = kwargs_of(proxy_server_request={"body": {}})
    kwargs["metadata"]["headers"] = headers

    made = call_from("auto", USER, kwargs)

    assert (made.is_unkept, made.wants_fresh, made.parameters) == (*expected, "")


@pytest.mark.parametrize("endpoint", ["chat", "responses", "messages"])
def test_what_shapes_the_answer_is_part_of_a_call(endpoint: str) -> None:
    """In the same words for all endpoints."""
    made = call_from("auto", USER, kwargs_of(endpoint, temperature=0.0, proxy_server_request={"body": {"top_k": 3}}))

    assert (made.parameters, made.wants_fresh) == ('{"temperature":0,"top_k":3}', False)


def test_where_that_is_not_known_a_model_answers() -> None:
    """Better asked once too often than given another's answer; so it is where a plugin names the models."""
    narrowed = kwargs_of(proxy_server_request={"body": {}})
    narrowed["metadata"]["_routing_plugin_candidate_models"] = []

    made = [call_from("auto", USER, kwargs) for kwargs in (kwargs_of(), narrowed)]

    assert [(one.parameters, one.wants_fresh) for one in made] == [(None, True), ("", True)]


@pytest.mark.parametrize(
    ("said", "domain", "is_unkept"),
    [
        ({"echo_domain": "support", "echo_no_store": True}, "support", True),
        ({"echo_no_store": "yes"}, None, True),
        ({"echo_domain": "", "echo_no_store": "false"}, None, False),
        ({"echo_no_store": None}, None, False),
        ({}, None, False),
        (None, None, False),
        ("broken", None, False),
    ],
)
def test_the_operator_s_words_at_the_key_count(said: Any, domain: str | None, is_unkept: bool) -> None:
    """On a call and on our own routes alike."""
    metadata = {"user_api_key_hash": HASH, "user_api_key_metadata": said}
    auth = SimpleNamespace(api_key=HASH, team_id=None, org_id=None, user_id=None, user_role=None, metadata=said)

    for caller in (caller_of(metadata), caller_from_auth(auth)):
        assert (caller.domain, caller.key_domain, caller.is_unkept) == (None, domain, is_unkept)


def test_a_team_s_domain_is_its_members() -> None:
    """Its metadata are the operator's; a key's are kept apart from them."""
    said = {"echo_domain": "law"}
    metadata = {"user_api_key_hash": HASH, "user_api_key_team_metadata": said, "user_api_key_metadata": {}}
    auth = SimpleNamespace(api_key=HASH, team_id=None, org_id=None, user_id=None, user_role=None, team_metadata=said)

    for caller in (caller_of(metadata), caller_from_auth(auth)):
        assert (caller.domain, caller.key_domain) == ("law", None)


def test_the_admin_s_user_id_tells_nobody_apart() -> None:
    """Keys that the admin makes without naming a user may carry it; each is somebody's."""
    metadata = {"user_api_key_hash": HASH, "user_api_key_user_id": LITELLM_PROXY_ADMIN_NAME}
    auth = SimpleNamespace(api_key=HASH, team_id=None, org_id=None, user_id="default_user_id", user_role=None)

    for caller in (caller_of(metadata), caller_from_auth(auth)):
        assert (caller.user, caller.person) == (None, HASH)


def test_a_client_s_words_do_not() -> None:
    """Whatever it writes into the metadata of its request."""
    metadata = {"user_api_key_hash": HASH, "echo_domain": "mine", "echo_no_store": True, "requester_metadata": {}}

    assert caller_of(metadata) == Caller(key=HASH)


@pytest.mark.parametrize("changed", [{"name": "Bob"}, {"an_unheard_of_field": 1}])
def test_turns_that_do_not_tell_all_get_a_model_s_answer(changed: dict[str, Any]) -> None:
    """Bob's answer is not Alice's: what it depends on beside its words cannot be told."""
    body = {"temperature": 0}

    def asked(turn: dict[str, Any]) -> Any:
        return call_from("auto", [turn], kwargs_of(**body, proxy_server_request={"body": body}))

    plain, named = asked(USER[0]), asked({**USER[0], **changed})

    assert (plain.parameters, plain.wants_fresh) == ('{"temperature":0}', False)
    assert (named.parameters, named.wants_fresh, named.obstacle) == (None, True, None)


def test_tags_are_taken_from_where_litellm_has_put_them_together() -> None:
    """Those of key and team stand there too, and decide which deployments may answer."""
    kwargs = kwargs_of(proxy_server_request={"body": {}})
    kwargs["metadata"]["tags"] = ["eu"]

    assert call_from("auto", USER, kwargs).parameters == '{"tags":["eu"]}'
