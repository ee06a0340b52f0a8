"""The whole path over HTTP: LiteLLM's real proxy, a real store, a scripted upstream."""

import uuid
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.e2e.proxy import MASTER_KEY, Proxy, Upstream, wait_for


@pytest.fixture
def client(proxy: Proxy) -> Iterator[httpx.Client]:
    with proxy.client() as client:
        yield client


@pytest.fixture
def sdk(proxy: Proxy) -> Iterator[openai.OpenAI]:
    http = httpx.Client(trust_env=False)
    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=MASTER_KEY, http_client=http, max_retries=0) as client:
        yield client


def question() -> str:
    """One that nobody has asked yet."""
    name = "".join(chr(ord("a") + int(digit, 16)) for digit in uuid.uuid4().hex[:10]).capitalize()
    return f"What is the capital of {name}?"


def chat(client: httpx.Client, text: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    body = {"model": "auto", "messages": [{"role": "user", "content": text}], **more}
    return client.post("/v1/chat/completions", json=body, headers=headers)


def decision(client: httpx.Client, response: httpx.Response) -> dict[str, Any]:
    """The settled decision of a response."""
    identity = response.headers["x-echo-decision-id"]

    def settled() -> Any:
        found = client.get(f"/echo/decisions/{identity}")
        return found.json() if found.status_code == 200 else None

    return wait_for(settled, what="settlement")


def ask(client: httpx.Client, endpoint: str, text: str, is_streamed: bool) -> httpx.Response:
    if endpoint == "responses":
        body: dict[str, Any] = {"model": "auto", "instructions": "Be brief.", "input": text}
    elif endpoint == "messages":
        body = {
            "model": "auto",
            "max_tokens": 50,
            "system": "Be brief.",
            "messages": [{"role": "user", "content": text}],
        }
    else:
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
        body = {"model": "auto", "messages": messages}
    path = {"chat": "/v1/chat/completions"}.get(endpoint, f"/v1/{endpoint}")
    return client.post(path, json={**body, "stream": is_streamed})


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("endpoint", ["chat", "responses", "messages"])
def test_an_answer_of_the_teacher_teaches_the_small_model(
    client: httpx.Client, upstream: Upstream, endpoint: str, is_streamed: bool
) -> None:
    """Asked again, the small model answers with the teacher's answer as its example, on every endpoint."""
    text = question()
    first = ask(client, endpoint, text, is_streamed)
    taught = decision(client, first)
    upstream.take_asked()

    second = ask(client, endpoint, text, is_streamed)
    sent = str(upstream.take_asked()[-1])

    assert first.status_code == 200
    assert (taught["arm"], taught["admitted_id"]) == ("large+0", taught["id"])
    assert second.status_code == 200
    assert int(second.headers["x-echo-examples"]) >= 1
    assert second.headers["x-litellm-model-id"] == "small"
    assert f"large: {text}" in sent
    assert sent.count(f"large: {text}") == 1
    explained = decision(client, second)
    assert explained["explanation"]["endpoint"] == endpoint
    assert explained["explanation"]["candidates"][0]["fate"] == "used"
    assert explained["is_whole"]
    assert explained["completion_tokens"] > 0


def test_the_caller_sees_its_own_words_answered(client: httpx.Client) -> None:
    """Examples change what the model is sent, not what the caller gets back."""
    text = question()
    decision(client, chat(client, text))

    body = chat(client, text).json()

    assert body["model"] == "auto"
    assert body["choices"][0]["message"]["content"] == f"small: {text}"


PASSED = {
    "tools": {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
    "several_choices": {"n": 2},
    "logprobs": {"logprobs": True},
    "response_format": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
    "not_only_text": {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]}
        ]
    },
}


@pytest.mark.parametrize("reason", PASSED)
def test_calls_that_an_example_could_break_pass_through(client: httpx.Client, upstream: Upstream, reason: str) -> None:
    """Such a call goes to the default deployment as it came, and is counted with its reason."""
    text = question()
    decision(client, chat(client, text))
    upstream.take_asked()
    before = counts(client).get(f"pass:{reason}", 0)

    response = chat(client, text, **PASSED[reason])
    sent = upstream.take_asked()[-1]

    assert response.status_code == 200
    assert response.headers["x-echo-pass"] == reason
    assert "x-echo-decision-id" not in response.headers
    assert len(sent["messages"]) == 1
    assert sent["model"] == "large"
    wait_for(lambda: counts(client).get(f"pass:{reason}", 0) == before + 1, what="count")


def counts(client: httpx.Client) -> dict[str, float]:
    return dict(client.get("/echo/stats").json()["test"]["counts"])


def test_a_call_can_opt_out_by_header(client: httpx.Client) -> None:
    """With x-echo-bypass Echo neither decides nor keeps the answer."""
    response = chat(client, question(), headers={"x-echo-bypass": "true"})

    assert response.status_code == 200
    assert response.headers["x-echo-pass"] == "opt_out"


def test_completions_and_embeddings_pass_untouched(client: httpx.Client, upstream: Upstream) -> None:
    """Endpoints without a dialogue are not ours."""
    upstream.take_asked()
    completion = client.post("/v1/completions", json={"model": "auto", "prompt": "once upon"})
    vectors = client.post("/v1/embeddings", json={"model": "vectors", "input": "hello"})
    sent = upstream.take_asked()

    assert completion.json()["choices"][0]["text"] == "large: once upon"
    assert vectors.json()["data"][0]["embedding"] == [1.0, 2.0, 3.0]
    assert [one.get("prompt") or one.get("input") for one in sent] == ["once upon", ["hello"]] or [
        one.get("prompt") or one.get("input") for one in sent
    ] == ["once upon", "hello"]


@pytest.mark.parametrize("trouble", ["[refuse]", "[empty]", "[long]"])
def test_only_whole_and_wanted_answers_are_kept(client: httpx.Client, trouble: str) -> None:
    """Refusals, empty answers and answers cut at the token limit never become examples."""
    found = decision(client, chat(client, f"{question()} {trouble}"))

    assert found["admitted_id"] == ""
    assert found["quality"] == 0.0


def test_a_stream_that_its_reader_leaves_is_not_kept(client: httpx.Client) -> None:
    """LiteLLM reports success for a stream that was cut; only one that was read to its end is whole."""
    body = {
        "model": "auto",
        "stream": True,
        "messages": [{"role": "user", "content": f"{question()} [words 200]"}],
    }
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        next(response.iter_lines())
        identity = response.headers["x-echo-decision-id"]

    def settled() -> Any:
        found = client.get(f"/echo/decisions/{identity}")
        return found.json() if found.status_code == 200 else None

    found = wait_for(settled, what="settlement")

    assert not found["is_whole"]
    assert found["admitted_id"] == ""


def test_a_failing_arm_is_blamed_and_another_answers(client: httpx.Client, upstream: Upstream) -> None:
    """The caller gets an answer; the arm that failed earns nothing, the one that served earns its own reward."""
    text = question()
    decision(client, chat(client, text))
    upstream.set_broken("small")
    try:
        response = chat(client, text)
        found = decision(client, response)
    finally:
        upstream.set_broken()

    assert response.status_code == 200
    assert response.json()["choices"][0]["message"]["content"] == f"large: {text}"
    assert [one["deployment"] for one in found["explanation"]["attempts"]] == ["small", "large"]
    assert [(one["arm"], one["reward"] > 0) for one in found["learned"]] == [("small+2", False), ("large+0", True)]


def test_feedback_replaces_what_was_believed(client: httpx.Client) -> None:
    """Bad feedback on a teacher's answer forgets the example that it became."""
    text = question()
    response = chat(client, text)
    identity = response.headers["x-echo-decision-id"]

    answer = client.post("/echo/feedback", json={"decision_id": identity, "score": 0.0, "comment": "wrong"})

    assert answer.status_code == 200
    assert answer.json()["reward"] == 0.0
    assert answer.json()["learned"][-1]["weight"] == 1.0
    assert client.get(f"/echo/examples/{identity}").status_code == 404
    assert chat(client, text).headers["x-echo-examples"] == "0"


def test_tenants_never_share(proxy: Proxy) -> None:
    """Another key's examples, decisions and counts are as good as not there."""
    text = question()
    with proxy.client("sk-tenant-one") as one, proxy.client("sk-tenant-two") as two:
        taught = decision(one, chat(one, text))
        theirs = chat(two, text)
        own = chat(one, text)

        assert theirs.headers["x-echo-examples"] == "0"
        assert own.headers["x-echo-examples"] == "1"
        assert two.get(f"/echo/decisions/{taught['id']}").status_code == 404
        assert two.get(f"/echo/examples/{taught['id']}").status_code == 404
        assert two.delete(f"/echo/examples/{taught['id']}").status_code == 404
        assert one.get(f"/echo/examples/{taught['id']}").json()["request"] == text
        assert one.get("/echo/stats").json()["test"]["arms"] == []


@pytest.mark.parametrize("path", ["ready", "stats", "decisions", "examples"])
def test_every_route_needs_a_key(proxy: Proxy, path: str) -> None:
    """Without a key that the proxy knows nothing is told."""
    response = httpx.get(f"{proxy.url}/echo/{path}", trust_env=False)

    assert response.status_code in (400, 401, 403)


def test_the_routes_stand_in_openapi(client: httpx.Client) -> None:
    """LiteLLM's own documentation shows them."""
    paths = client.get("/openapi.json").json()["paths"]

    assert {"/echo/ready", "/echo/stats", "/echo/feedback", "/echo/examples", "/echo/decisions/{decision_id}"} <= set(
        paths
    )


def test_openai_sdk(sdk: openai.OpenAI) -> None:
    """The real client works, streamed and not."""
    text = question()
    plain = sdk.chat.completions.create(model="auto", messages=[{"role": "user", "content": text}])
    stream = sdk.chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": text}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    words = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    assert plain.choices[0].message.content == f"large: {text}"
    assert words.endswith(text)
    assert chunks[-1].usage is not None


def test_anthropic_sdk(proxy: Proxy) -> None:
    """The real client of /v1/messages works."""
    text = question()
    with anthropic.Anthropic(base_url=proxy.url, api_key=MASTER_KEY) as sdk:
        message = sdk.messages.create(model="auto", max_tokens=50, messages=[{"role": "user", "content": text}])

    assert message.content[0].text.endswith(text)
