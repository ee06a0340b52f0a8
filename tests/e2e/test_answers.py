"""Answers that no model gives, over HTTP: from the store, and of the same request that is being answered already."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from echo_proxy.app import store_config
from echo_proxy.clock import SystemClock
from echo_proxy.embedders.local import LocalEmbedder
from echo_proxy.online.receive import answer_key_of, partition_of
from echo_proxy.policy import Policy
from echo_proxy.stores.connect import make_store
from echo_proxy.types import Call, Caller, Example, Message, Observation
from tests.e2e.conftest import greedy_policy
from tests.e2e.proxy import ALWAYS_LARGE, Proxy, Upstream, config_for, wait_for

KEY = "sk-tenant-one"
QUESTION = "What is the capital of Ruritania?"
STORED = "The capital of Ruritania is Strelsau.\n\n* It lies inland,\n* and has a castle."
EARLIER = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
LIMITED = '{"max_tokens":50}'
DOUBTED, DOUBTED_ANSWER = "Which river flows through Strelsau?", "large: Which river flows through Strelsau?"
ANSWERS = {"max_error": 0.5, "single_flight": "deterministic"}
POLICY = greedy_policy(scope="team", answers=ANSWERS) | {"bandit": ALWAYS_LARGE}


def seeds() -> list[dict[str, Any]]:
    """What the store holds before the proxy starts."""
    proven = {"request": QUESTION, "response": STORED, "n_observed": 60}
    return [
        {**proven, "id": "plain", "parameters": ""},
        {**proven, "id": "limited", "parameters": LIMITED},
        {"id": "doubted", "request": DOUBTED, "response": DOUBTED_ANSWER, "n_observed": 3, "parameters": ""},
    ]


async def stored(url: str, example_id: str) -> Example:
    store = make_store(url, store_config(Policy.model_validate(POLICY), LocalEmbedder()), SystemClock())
    await store.open()
    found = await store.get(example_id)
    await store.close()
    assert found is not None
    return found


async def fill(url: str, policy: Policy) -> None:
    embedder, now = LocalEmbedder(), time.time()
    store = make_store(url, store_config(policy, embedder), SystemClock())
    await store.open()
    for one in seeds():
        call = Call("", "auto", "chat", (), Caller(), parameters=one["parameters"])
        example = Example(
            id=one["id"],
            scope="team:one",
            partition=partition_of("", False),
            request=one["request"],
            response=one["response"],
            vector=(await embedder.embed([one["request"]]))[0],
            teacher="large",
            decision_id=one["id"],
            writer="somebody",
            quality=1.0,
            n_tokens=20,
            created_at=now - 100,
            expires_at=now + 10_000,
            answer_key=answer_key_of(call, "", (Message("user", one["request"]),)),
            observations=tuple(Observation(0.05, True, now - 50, f"person {i}") for i in range(one["n_observed"])),
        )
        await store.add(example)
    await store.close()


@pytest.fixture(scope="module")
def proxy(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """One worker over a store that holds proven answers of team one."""
    folder: Path = tmp_path_factory.mktemp("answers")
    url = f"sqlite://{folder / 'echo.db'}"
    asyncio.run(fill(url, Policy.model_validate(POLICY)))
    process = Proxy(folder, config_for(upstream), {"test": POLICY}, {"ECHO_STORE_URL": url})
    process.start()
    yield process
    process.stop()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[httpx.Client]:
    with proxy.client(KEY) as client:
        yield client


@pytest.fixture
def sdk(proxy: Proxy) -> Iterator[openai.OpenAI]:
    http = httpx.Client(trust_env=False)
    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=KEY, http_client=http, max_retries=0) as client:
        yield client


@pytest.fixture
def claude(proxy: Proxy) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=proxy.url, api_key=KEY, max_retries=0) as client:
        yield client


def body_of(text: str = QUESTION, **more: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": text}], **more}


def chat(client: httpx.Client, text: str = QUESTION, headers: Any = None, **more: Any) -> httpx.Response:
    return client.post("/v1/chat/completions", json=body_of(text, **more), headers=headers)


def until_served(ask: Callable[[], Any], headers_of: Callable[[Any], Any] = lambda answer: answer.headers) -> Any:
    """The first answer from the store: in one call of fifty a model is asked all the same."""
    for _ in range(6):
        answer = ask()
        if "x-echo-answer" in headers_of(answer):
            return answer
    raise AssertionError("expected a stored answer within 6 calls, got none")


def assert_told(headers: Any, example: str = "plain") -> None:
    told = {name: headers.get(name) for name in ("x-echo-answer", "x-echo-example-id", "x-echo-arm", "x-echo-examples")}

    assert told == {
        "x-echo-answer": "stored",
        "x-echo-example-id": example,
        "x-echo-arm": "none",
        "x-echo-examples": "0",
    }
    assert int(headers["x-echo-answer-age-s"]) >= 100
    assert headers["x-litellm-model-id"] == "echo-stored"


def settled(client: httpx.Client, headers: Any) -> dict[str, Any]:
    identity = headers["x-echo-decision-id"]

    def found() -> Any:
        answer = client.get(f"/echo/decisions/{identity}")
        return answer.json() if answer.status_code == 200 else None

    return dict(wait_for(found, what="settlement"))


def counted(client: httpx.Client, name: str) -> float:
    return float(client.get("/echo/stats").json()["test"]["counts"].get(name, 0.0))


def test_a_proven_answer_is_given_without_asking_a_model(client: httpx.Client, upstream: Upstream) -> None:
    """It says so, costs nothing, and no arm learns anything from it."""
    before = counted(client, "answered_from_store")
    upstream.take_asked()

    response = until_served(lambda: chat(client))
    found = settled(client, response.headers)

    answer = response.json()
    assert_told(response.headers)
    assert (answer["choices"][0]["message"]["content"], answer["choices"][0]["finish_reason"]) == (STORED, "stop")
    assert answer["model"] == "auto"
    assert answer["usage"]["completion_tokens"] > 10
    assert float(response.headers.get("x-litellm-response-cost", 0)) == 0.0
    assert (found["served_by"], found["is_acted"], found["cost_usd"]) == ("echo-stored", False, 0.0)
    assert (found["admitted_id"], found["learned"], found["is_whole"]) == ("", [], True)
    wait_for(lambda: counted(client, "answered_from_store") > before, what="count")


def test_it_streams_as_a_stream(client: httpx.Client) -> None:
    """Role first, several pieces, a reason, and the usage where it was asked for."""
    more: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    response = until_served(lambda: chat(client, **more))
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    chunks = [json.loads(line) for line in lines[:-1]]
    choices = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]

    assert_told(response.headers)
    assert lines[-1] == "[DONE]"
    assert choices[0]["delta"]["role"] == "assistant"
    assert "".join(one["delta"].get("content") or "" for one in choices) == STORED
    assert len([one for one in choices if one["delta"].get("content")]) > 2
    assert [one["finish_reason"] for one in choices if one.get("finish_reason")] == ["stop"]
    assert chunks[-1]["usage"]["completion_tokens"] > 10
    assert settled(client, response.headers)["is_whole"]


def test_openai_sdk_chat(sdk: openai.OpenAI) -> None:
    """The real client understands it, streamed and not."""
    create = sdk.chat.completions.with_raw_response.create
    asked: Any = {"model": "auto", "messages": [{"role": "user", "content": QUESTION}]}
    plain = until_served(lambda: create(**asked))
    stream = until_served(lambda: create(**asked, stream=True, stream_options={"include_usage": True}))
    chunks = list(stream.parse())

    assert plain.parse().choices[0].message.content == STORED
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == STORED
    assert chunks[-1].usage == plain.parse().usage.model_copy(
        update={"completion_tokens_details": chunks[-1].usage.completion_tokens_details}
    )


def test_openai_sdk_responses(sdk: openai.OpenAI) -> None:
    """With all events of a stream."""
    create = sdk.responses.with_raw_response.create
    plain = until_served(lambda: create(model="auto", input=QUESTION))
    stream = until_served(lambda: create(model="auto", input=QUESTION, stream=True))
    events = list(stream.parse())

    assert_told(plain.headers)
    assert_told(stream.headers)
    assert (plain.parse().output_text, plain.parse().status) == (STORED, "completed")
    assert plain.parse().usage.output_tokens > 10
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == STORED
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert events[-1].response.usage.output_tokens > 10


def test_anthropic_sdk(claude: anthropic.Anthropic) -> None:
    """As a message, and as the events of one."""
    asked: Any = {"model": "auto", "max_tokens": 50, "messages": [{"role": "user", "content": QUESTION}]}
    plain = until_served(lambda: claude.messages.with_raw_response.create(**asked))
    stream = until_served(lambda: claude.messages.with_raw_response.create(**asked, stream=True))
    events = list(stream.parse())

    message = plain.parse()
    assert_told(plain.headers, "limited")
    assert_told(stream.headers, "limited")
    assert (message.content[0].text, message.stop_reason) == (STORED, "end_turn")
    assert message.usage.output_tokens > 10
    assert "".join(event.delta.text for event in events if event.type == "content_block_delta") == STORED
    assert [event.type for event in events[-2:]] == ["message_delta", "message_stop"]
    assert events[-2].delta.stop_reason == "end_turn"
    assert events[-2].usage.output_tokens > 10


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 0.7},
        {"max_tokens": 51},
        {"seed": 1},
        {"response_format": {"type": "json_object"}},
        {"an_option_of_some_provider": True},
        {"headers": {"x-echo-no-answer": "true"}},
        {"headers": {"x-echo-bypass": "true"}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
        {"messages": [{"role": "system", "content": "Answer in French."}, {"role": "user", "content": QUESTION}]},
        {"messages": [*EARLIER, {"role": "user", "content": QUESTION}]},
    ],
)
def test_whatever_asks_for_another_answer_gets_a_model_s(
    client: httpx.Client, upstream: Upstream, more: dict[str, Any]
) -> None:
    """Other parameters, format, words before it, tools, and callers who want a fresh one."""
    upstream.take_asked()

    response = chat(client, **more)

    assert response.status_code == 200
    assert "x-echo-answer" not in response.headers
    assert response.json()["choices"][0]["message"]["content"] == f"large: {QUESTION}"
    assert len(upstream.take_asked()) == 1


def test_another_tenant_s_answers_are_not_there(proxy: Proxy, upstream: Upstream) -> None:
    """Nor can a client say that it is somebody else."""
    forged = {"user_api_key_team_id": "one", "user_api_key_metadata": {"echo_domain": "other"}}
    upstream.take_asked()
    with proxy.client("sk-tenant-two") as other:
        plain = chat(other)
        bold = chat(other, metadata=forged, litellm_metadata={**forged, "user_api_key_request_route": "/v1/messages"})

    assert ("x-echo-answer" in plain.headers, "x-echo-answer" in bold.headers) == (False, False)
    assert len(upstream.take_asked()) == 2


def test_what_shall_not_be_kept_is_not(proxy: Proxy) -> None:
    """By header of the caller, or as the operator has it in the key's metadata; answered it is all the same."""
    text = fresh()
    with proxy.client(KEY) as one, proxy.client("sk-tenant-quiet") as quiet:
        asked = [
            chat(one, text, headers={"x-echo-no-store": "true"}),
            chat(quiet, text, metadata={"echo_no_store": False}),
        ]
        found = [settled(client, answer.headers) for client, answer in zip((one, quiet), asked, strict=True)]
        kept = settled(one, chat(one, text).headers)

    assert [answer.status_code for answer in asked] == [200, 200]
    assert [one["admitted_id"] for one in found] == ["", ""]
    assert kept["admitted_id"] == kept["id"]


def test_a_model_s_answer_proves_the_stored_one(proxy: Proxy, client: httpx.Client) -> None:
    """As long as too little is known, the teacher answers, and whether it says the same is noted with the example."""
    response = chat(client, DOUBTED)
    told = settled(client, response.headers)["explanation"]["stored_answer"]

    def noted() -> Any:
        example = asyncio.run(stored(proxy.env["ECHO_STORE_URL"], "doubted"))
        return example.observations[3:]

    assert "x-echo-answer" not in response.headers
    assert (told["example"], told["fate"]) == ("doubted", "asked")
    assert [one.is_correct for one in wait_for(noted, what="observation")] == [True]


# ------------------------------------------------------------------ the same request, at the same time


def fresh(trouble: str = "") -> str:
    """A question that nobody has asked yet."""
    name = "".join(chr(ord("a") + int(digit, 16)) for digit in uuid.uuid4().hex[:10]).capitalize()
    return f"What is the capital of {name}? {trouble}".strip()


@pytest.fixture
async def many(proxy: Proxy) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=proxy.url, headers=headers, timeout=60, trust_env=False) as client:
        yield client


async def ask(many: httpx.AsyncClient, text: str, **more: Any) -> httpx.Response:
    return await many.post("/v1/chat/completions", json=body_of(text, temperature=0, **more))


async def leading(upstream: Upstream) -> None:
    """Until the first request has reached the model."""
    await asyncio.to_thread(
        wait_for, lambda: httpx.get(f"{upstream.url}/asked", trust_env=False).json(), 60, "a leader"
    )


def words_of(response: httpx.Response) -> str:
    if not response.headers["content-type"].startswith("text/event-stream"):
        return str(response.json()["choices"][0]["message"]["content"])
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: {")]
    choices = [choice for line in lines for choice in json.loads(line)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_twenty_at_once_share_one_call(
    many: httpx.AsyncClient, upstream: Upstream, client: httpx.Client, is_streamed: bool
) -> None:
    """Whether the first is streamed or not; those that follow may be of the other kind."""
    text = fresh("[slow]")
    upstream.take_asked()
    first = asyncio.create_task(ask(many, text, stream=is_streamed))
    await leading(upstream)
    others = await asyncio.gather(*[ask(many, text, stream=bool(i % 2)) for i in range(19)])
    answers = [await first, *others]

    assert len(upstream.take_asked()) == 1
    assert [words_of(one) for one in answers] == [f"large: {text}"] * 20
    assert [one.headers.get("x-echo-answer") for one in answers] == [None] + ["shared"] * 19
    assert [one.headers["x-echo-arm"] for one in answers] == ["large+0"] + ["none"] * 19
    assert settled(client, others[0].headers)["cost_usd"] == 0.0
    wait_for(lambda: counted(client, "answered_jointly") >= 1, what="count")


async def test_when_the_leader_fails_the_others_are_answered(many: httpx.AsyncClient, upstream: Upstream) -> None:
    """One of them asks again, and the rest share that."""
    text = fresh("[fails 2]")
    upstream.take_asked()
    first = asyncio.create_task(ask(many, text))
    await leading(upstream)
    others = await asyncio.gather(*[ask(many, text) for _ in range(5)])

    assert (await first).status_code == 500
    assert [words_of(one) for one in others] == [f"large: {text}"] * 5
    assert len(upstream.take_asked()) == 3


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_when_the_leader_leaves_the_others_are_answered(
    many: httpx.AsyncClient, upstream: Upstream, is_streamed: bool
) -> None:
    """In mid-stream, or while it waits."""
    text = fresh("[slow]")
    upstream.take_asked()
    first = asyncio.create_task(ask(many, text, stream=is_streamed))
    await leading(upstream)
    others = [asyncio.create_task(ask(many, text)) for _ in range(3)]
    first.cancel()
    answers = await asyncio.gather(*others)

    assert [words_of(one) for one in answers] == [f"large: {text}"] * 3
    assert len(upstream.take_asked()) <= 2


async def test_when_a_follower_leaves_nobody_notices(many: httpx.AsyncClient, upstream: Upstream) -> None:
    """The call goes on for the others."""
    text = fresh("[slow]")
    upstream.take_asked()
    first = asyncio.create_task(ask(many, text))
    await leading(upstream)
    leaver, stayer = (asyncio.create_task(ask(many, text)) for _ in range(2))
    await asyncio.wait([leaver], timeout=1)  # it has no answer yet
    leaver.cancel()

    assert words_of(await first) == words_of(await stayer) == f"large: {text}"
    assert len(upstream.take_asked()) == 1


def test_without_temperature_0_each_has_its_own(proxy: Proxy, upstream: Upstream) -> None:
    """Answers may differ then, and shall."""
    text = fresh("[slow]")
    upstream.take_asked()
    with proxy.client(KEY) as client, ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: chat(client, text), range(3)))

    assert [one.headers.get("x-echo-answer") for one in answers] == [None] * 3
    assert len(upstream.take_asked()) == 3


def test_at_temperature_0_the_same_words_are_answered_from_the_store(client: httpx.Client, upstream: Upstream) -> None:
    """Once the teacher has answered them, without any other proof; where the answer hangs on chance it takes one."""
    text = fresh()
    for temperature in (0, 1):
        first = chat(client, text, temperature=temperature)
        assert "x-echo-answer" not in first.headers
        assert settled(client, first.headers)["admitted_id"]
    upstream.take_asked()

    again = until_served(lambda: chat(client, text, temperature=0))
    others = [chat(client, text, temperature=1) for _ in range(3)]
    told = settled(client, again.headers)["explanation"]["stored_answer"]

    assert (again.headers["x-echo-answer"], words_of(again)) == ("stored", f"large: {text}")
    assert (told["fate"], told["why"].split(";")[0]) == ("served", "asked word for word before")
    assert ["x-echo-answer" in one.headers for one in others] == [False] * 3
