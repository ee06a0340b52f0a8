"""The whole path with real inference: LiteLLM's real proxy, a real store, the bundled pair of models in llama.cpp."""

import itertools
import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from echo_proxy.demo.setup import PAIR
from echo_proxy.demo.world import Item, Relation, correct, make_world
from echo_proxy.litellm.config import CALLBACK, PROVIDER, PROVIDER_HANDLER
from tests.e2e.conftest import greedy_policy
from tests.e2e.proxy import MASTER_KEY, Proxy, wait_for

WORLD = make_world()
PRICES = {"large": 1e-5}
USUAL_PRICE = 1e-7
TOO_LONG = "hello " * 2000
ENDPOINTS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}


def deployment(group: str, name: str, id: str, **options: Any) -> dict[str, Any]:
    path = PAIR / f"{'large' if name == 'large' else 'small'}-q8_0.gguf"
    model: dict[str, Any] = {"path": str(path), "n_threads": 1, "n_threads_batch": 1, **options}
    price = PRICES.get(name, USUAL_PRICE)
    info = {"id": id, "input_cost_per_token": price, "output_cost_per_token": price, PROVIDER: model}
    return {"model_name": group, "litellm_params": {"model": f"{PROVIDER}/{name}"}, "model_info": info}


CONFIG: dict[str, Any] = {
    "model_list": [
        deployment("auto", "small", "home-small"),
        deployment("auto", "large", "home-large"),
        deployment("alone", "small", "alone-small"),
        # Its answers could take half a minute: nothing but a reader who leaves ends them early.
        deployment("endless", "wide", "endless-wide", n_ctx=30_000),
        # Holds a question and its answer, but not with an example before it.
        deployment("tight", "tight", "tight-small", n_ctx=40),
        deployment("tight", "large", "tight-large"),
        deployment("tutor", "large", "tutor-large"),
        deployment("keeper", "keeper", "keeper-small", kept_cells=1024, prefix_sharing="all"),
        deployment("busy", "busy", "busy-small", n_parallel=1, max_queue=0, n_ctx=30_000),
        deployment("fragile", "victim", "fragile-victim"),
        deployment("fragile", "large", "fragile-large"),
        deployment("first", "first", "first-small", process="shared", max_loaded=1, load="first_call"),
        deployment("second", "second", "second-small", process="shared", max_loaded=1, load="first_call"),
    ],
    "router_settings": {"num_retries": 1, "allowed_fails": 1000, "disable_cooldowns": True},
    "general_settings": {"master_key": MASTER_KEY, "custom_auth": "tenants.check"},
    "litellm_settings": {
        "callbacks": [CALLBACK],
        "custom_provider_map": [{"provider": PROVIDER, "custom_handler": PROVIDER_HANDLER}],
    },
}
TEACHING = greedy_policy(
    arms=[
        {"deployment": "home-small", "n_examples": 0},
        {"deployment": "home-small", "n_examples": 1},
        {"deployment": "home-large", "n_examples": 0, "teacher": True, "prior_reward": 0.9},
    ],
    default_deployment="home-large",
    prompt={"notice": ""},
)
ENDLESS = greedy_policy(
    name="endless",
    match={"model_groups": ["endless"]},
    arms=[{"deployment": "endless-wide", "teacher": True}],
    default_deployment="endless-wide",
)
TIGHT = greedy_policy(
    name="tight",
    match={"model_groups": ["tight"]},
    arms=[
        {"deployment": "tight-small", "n_examples": 1},
        {"deployment": "tight-large", "n_examples": 0, "teacher": True, "prior_reward": 0.9},
    ],
    default_deployment="tight-large",
    prompt={"notice": ""},
)
FRAGILE = greedy_policy(
    name="fragile",
    match={"model_groups": ["fragile"]},
    arms=[{"deployment": "fragile-victim", "prior_reward": 0.9}, {"deployment": "fragile-large", "teacher": True}],
    default_deployment="fragile-large",
)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    policies = {"test": TEACHING, "endless": ENDLESS, "tight": TIGHT, "fragile": FRAGILE}
    process = Proxy(tmp_path_factory.mktemp("local"), CONFIG, policies)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[httpx.Client]:
    """A tenant of its own for each test: nobody else's examples, decisions and counts."""
    with proxy.client(f"sk-tenant-{uuid.uuid4().hex}") as client:
        yield client


_countries = itertools.cycle(WORLD.rare)


def rare_fact() -> tuple[Item, Item]:
    """A fact that only the large model was taught, asked in two ways."""
    country = next(_countries)
    return WORLD.fact(country, Relation.CAPITAL, 0), WORLD.fact(country, Relation.CAPITAL, 2)


def ask(
    client: httpx.Client, text: str, endpoint: str = "chat", is_streamed: bool = False, model: str = "auto"
) -> httpx.Response:
    body: dict[str, Any] = {"model": model, "temperature": 0, "stream": is_streamed}
    if endpoint == "responses":
        body |= {"input": text, "max_output_tokens": 64}
    else:
        body |= {"messages": [{"role": "user", "content": text}], "max_tokens": 64}
    return client.post(ENDPOINTS[endpoint], json=body)


def text_of(response: httpx.Response, endpoint: str, is_streamed: bool) -> str:
    """What the caller reads."""
    if is_streamed:
        lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: {")]
        return "".join(_piece(json.loads(line), endpoint) for line in lines)
    body = response.json()
    if endpoint == "responses":
        return str(body["output"][0]["content"][0]["text"])
    return str(body["content"][0]["text"] if endpoint == "messages" else body["choices"][0]["message"]["content"])


def _piece(event: dict[str, Any], endpoint: str) -> str:
    if endpoint == "responses":
        return str(event["delta"]) if event["type"] == "response.output_text.delta" else ""
    if endpoint == "messages":
        return str(event["delta"].get("text", "")) if event["type"] == "content_block_delta" else ""
    return str(event["choices"][0]["delta"].get("content") or "") if event["choices"] else ""


def settled(client: httpx.Client, response: httpx.Response) -> dict[str, Any]:
    """The decision of a response, once it is written."""

    def look() -> Any:
        found = client.get(f"/echo/decisions/{response.headers['x-echo-decision-id']}")
        return found.json() if found.is_success else None

    return dict(wait_for(look, what="settlement"))


def n_prompt_tokens(client: httpx.Client, *texts: str) -> int:
    """As llama.cpp counts a dialogue of these turns, the caller's first."""
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    body = {"model": "alone", "messages": turns, "max_tokens": 1}
    return int(client.post(ENDPOINTS["chat"], json=body).json()["usage"]["prompt_tokens"])


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_large_model_teaches_the_small_one(client: httpx.Client, endpoint: str, is_streamed: bool) -> None:
    """What the small model does not know it says rightly once the large one was asked, in other words and on every
    endpoint, with one example in its prompt."""
    first, again = rare_fact()
    ignorant = text_of(ask(client, again.question, model="alone"), "chat", False)
    taught = ask(client, first.question, endpoint, is_streamed)
    lesson = settled(client, taught)
    answer = text_of(taught, endpoint, is_streamed)
    helped = ask(client, again.question, endpoint, is_streamed)
    found = settled(client, helped)

    assert correct(again, ignorant) == 0.0
    assert correct(first, answer) == 1.0
    assert (lesson["arm"], lesson["admitted_id"], lesson["is_whole"]) == ("home-large+0", lesson["id"], True)
    assert lesson["prompt_tokens"] == n_prompt_tokens(client, first.question)
    tokens = lesson["prompt_tokens"] + lesson["completion_tokens"]
    assert lesson["cost_usd"] == pytest.approx(PRICES["large"] * tokens)
    assert correct(again, text_of(helped, endpoint, is_streamed)) == 1.0
    assert (found["arm"], found["n_examples"], found["is_whole"]) == ("home-small+1", 1, True)
    assert found["prompt_tokens"] == n_prompt_tokens(client, first.question, answer, again.question)
    assert found["explanation"]["endpoint"] == endpoint
    assert 0 < found["cost_usd"] < lesson["cost_usd"]


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_bridged_call_settles_once(client: httpx.Client, endpoint: str, is_streamed: bool) -> None:
    """LiteLLM reports the outer and the inner half of a bridged call; one decision, one lesson, one count."""
    first, again = rare_fact()
    found = [settled(client, ask(client, item.question, endpoint, is_streamed)) for item in (first, again)]
    # A third request is settled after whatever the first two might still have reported.
    settled(client, ask(client, again.question, endpoint, is_streamed))
    counts = wait_for(lambda: _counts(client, at_least=3), what="counts")

    assert [len(one["learned"]) for one in found] == [1, 1]
    assert [len(one["explanation"]["attempts"]) for one in found] == [1, 1]
    assert counts["decisions"] == 3
    assert counts["examples_used"] == 2
    assert len(client.get("/echo/decisions").json()) == 3


def _counts(client: httpx.Client, at_least: int) -> dict[str, float]:
    counts = client.get("/echo/stats").json()["test"]["counts"]
    return counts if counts.get("decisions", 0) >= at_least else {}


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_prompt_that_no_model_can_hold(client: httpx.Client, endpoint: str, is_streamed: bool) -> None:
    """The caller is told so with a 400; it is not the arm's fault, and nothing is kept."""
    response = ask(client, TOO_LONG, endpoint, is_streamed)
    found = wait_for(lambda: client.get("/echo/decisions").json(), what="settlement")[0]

    if endpoint == "responses" and is_streamed:  # this protocol says it in the stream
        assert "event: response.failed" in response.text
    else:
        assert response.status_code == 400
    assert "expected fewer than 1024 tokens" in response.text
    assert found["arm"] == "home-large+0"
    assert found["explanation"]["attempts"][0]["error"] == "ContextWindowExceededError"
    assert found["learned"] == []
    assert found["admitted_id"] == ""


def test_examples_never_make_a_prompt_too_long(client: httpx.Client) -> None:
    """A question that its model could hold alone is answered, whatever examples there are for it."""
    first, again = rare_fact()
    settled(client, ask(client, first.question, model="tight"))
    response = ask(client, again.question, model="tight")

    assert n_prompt_tokens(client, again.question) < 40
    assert response.status_code == 200


def test_a_reader_who_leaves_frees_the_model(client: httpx.Client) -> None:
    """The next request does not wait for an answer that nobody reads, and its beginning is not kept."""
    # The small model knows no JSON: it writes a string until its context is full.
    count = [{"role": "user", "content": "Count from 3 to 8."}]
    body = {"model": "endless", "messages": count, "temperature": 0}
    endless = {**body, "stream": True, "response_format": {"type": "json_object"}}
    with client.stream("POST", ENDPOINTS["chat"], json=endless) as left:
        next(left.iter_lines())
    started = time.monotonic()
    response = client.post(ENDPOINTS["chat"], json=body)
    took_s = time.monotonic() - started
    found = settled(client, left)

    assert response.json()["choices"][0]["message"]["content"] == "After 8 comes 9."
    assert took_s < 5
    assert (found["is_whole"], found["admitted_id"]) == (False, "")


def test_many_ask_at_once(client: httpx.Client) -> None:
    """Eight requests share the model's batch, and each gets its own answer."""
    items = [rare_fact()[0] for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda item: text_of(ask(client, item.question, model="tutor"), "chat", False), items))

    assert [correct(item, text) for item, text in zip(items, texts, strict=True)] == [1.0] * 8


def test_usage_says_what_was_read_before(client: httpx.Client) -> None:
    """The second prompt with the same beginning is read from where it differs."""
    question = "What is the capital of " + "Kalmarland, " * 20 + "Skulia?"
    for _ in range(2):
        usage = ask(client, question, model="keeper").json()["usage"]

    assert usage["prompt_tokens_details"]["cached_tokens"] > 50


def test_logprobs_reach_the_caller(client: httpx.Client) -> None:
    """As OpenAI tells them, whole and streamed."""
    body = {"model": "alone", "temperature": 0, "max_tokens": 8, "logprobs": True, "top_logprobs": 2}
    body["messages"] = [{"role": "user", "content": "Count from 3 to 8."}]
    choice = client.post(ENDPOINTS["chat"], json=body).json()["choices"][0]
    streamed = client.post(ENDPOINTS["chat"], json={**body, "stream": True}).text
    events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    choices = [choice for event in events for choice in event["choices"]]
    told = [token for one in choices if one.get("logprobs") for token in one["logprobs"]["content"]]

    assert "".join(one["token"] for one in choice["logprobs"]["content"]) == choice["message"]["content"]
    assert all(len(one["top_logprobs"]) == 2 for one in choice["logprobs"]["content"])
    assert [one["logprob"] for one in told] == [one["logprob"] for one in choice["logprobs"]["content"]]


def test_too_much_is_refused_with_a_time_to_come_again(client: httpx.Client) -> None:
    """The model's own queue is full: HTTP 429 with Retry-After, at once."""
    body = {"model": "busy", "messages": [{"role": "user", "content": "Count from 3 to 8."}], "stream": True}
    endless = {**body, "temperature": 0, "response_format": {"type": "json_object"}}
    with client.stream("POST", ENDPOINTS["chat"], json=endless) as first:
        lines = first.iter_lines()
        assert len([next(lines) for _ in range(9)]) == 9
        refused = client.post(ENDPOINTS["chat"], json={**body, "stream": False})

    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("is_streamed", "attempts"), [(False, ["fragile-victim", "fragile-large"]), (True, ["fragile-victim"])]
)
def test_a_killed_model_costs_nobody_an_answer(
    client: httpx.Client, proxy: Proxy, is_streamed: bool, attempts: list[str]
) -> None:
    """kill -9 of the model's process while a request waits in it: the caller sees an answer and no error. A whole one
    comes from another arm; a stream that has not begun from the same model, once it is there again."""
    victim = json.loads((proxy.log.parent / "state" / "local" / "victim.json").read_text())["pid"]
    _, item = rare_fact()
    os.kill(victim, signal.SIGSTOP)  # it takes requests and does nothing with them
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, client, item.question, "chat", is_streamed, "fragile")
        time.sleep(0.5)
        os.kill(victim, signal.SIGKILL)
        response = asked.result(60)
    found = settled(client, response)
    wait_for(lambda: _pid(proxy, "victim") not in (None, victim), what="restart of the model")

    assert response.status_code == 200
    assert response.text.endswith("data: [DONE]\n\n") == is_streamed
    assert text_of(response, "chat", is_streamed)
    assert is_streamed or correct(item, text_of(response, "chat", is_streamed)) == 1.0  # the small one does not know it
    assert [one["deployment"] for one in found["explanation"]["attempts"]] == attempts
    assert found["is_whole"]


def _pid(proxy: Proxy, name: str) -> int | None:
    try:
        state = json.loads((proxy.log.parent / "state" / "local" / f"{name}.json").read_text())
    except (OSError, ValueError):
        return None
    return int(state["pid"]) if state["phase"] == "ready" else None


def test_operators_see_the_local_models(client: httpx.Client, proxy: Proxy) -> None:
    """With what each has to do; nobody else does."""
    ask(client, "Count from 3 to 8.", model="alone")
    with proxy.client() as admin:
        report = admin.get("/echo/local")

    assert client.get("/echo/local").status_code == 403
    assert {one["name"]: one["phase"] for one in report.json()}["small"] == "ready"


def test_models_of_one_process_take_turns(client: httpx.Client) -> None:
    """Two models in one process, of which one at a time is in memory, loaded at the first call."""
    asked = [("first", "Count from 3 to 8."), ("second", "Count from 3 to 8."), ("first", "Count from 3 to 8.")]
    texts = [text_of(ask(client, text, model=model), "chat", False) for model, text in asked]

    assert texts == ["After 8 comes 9."] * 3


def test_plain_litellm_with_local_models(tmp_path: Path) -> None:
    """Without our launcher: the callback line, the provider line, and the start-up hook in the environment."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "test.yaml").write_text(yaml.safe_dump(TEACHING))
    env = {
        "LITELLM_WORKER_STARTUP_HOOKS": "echo_proxy.litellm.startup:startup",
        "ECHO_POLICY": str(tmp_path / "policies"),
    }
    proxy = Proxy(tmp_path, CONFIG, None, env)
    first, again = rare_fact()
    try:
        proxy.start()
        with proxy.client() as client:
            settled(client, ask(client, first.question))
            helped = ask(client, again.question)

        assert helped.headers["x-litellm-model-id"] == "home-small"
        assert correct(again, text_of(helped, "chat", False)) == 1.0
    finally:
        proxy.stop()
