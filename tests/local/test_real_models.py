"""The bundled models in their processes: what only llama.cpp can show. The engine has tests of its own."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from llama_cpp import Llama

from echo_proxy.local.fleet import Fleet
from tests.local.children import (
    COUNT,
    ENDLESS,
    GREEDY,
    PAIR,
    SMALL,
    TOO_LONG,
    running_child,
    running_group,
    small_model,
    wait_for,
)

QUESTIONS = [
    COUNT,
    [{"role": "system", "content": "You help."}, {"role": "user", "content": "What is the capital of Norland?"}],
    [{"role": "user", "content": "Repeat the word café."}, {"role": "assistant", "content": "café"}, *COUNT],
]


@pytest.fixture(scope="module")
def llama() -> Llama:
    """The same model in this process: what the answers are compared with."""
    return Llama(str(SMALL), n_ctx=1024, n_threads=1, verbose=False)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A process that answers one request at a time and lets two wait."""
    with running_child(tmp_path_factory.mktemp("child") / "log", n_parallel=1, max_queue=2) as http:
        yield http


def _ask(client: httpx.Client, **body: Any) -> dict[str, Any]:
    response = client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def _error(response: httpx.Response) -> tuple[int, str | None, str]:
    error = response.json()["error"]
    return response.status_code, error["param"], error["code"]


def _is_idle(client: httpx.Client) -> bool:
    health = client.get("/health").json()
    return bool(health["n_running"] == 0 and health["n_waiting"] == 0)


@pytest.mark.parametrize("messages", QUESTIONS)
def test_greedy_answers_equal_those_of_llama_cpp_python(
    client: httpx.Client, llama: Llama, messages: list[dict[str, str]]
) -> None:
    """All that stands around the model changes nothing: text, reason and counts are the same, and the same twice."""
    expected: Any = llama.create_chat_completion(messages, temperature=0, max_tokens=48)  # type: ignore[arg-type]

    for _ in range(2):
        answer = _ask(client, messages=messages, temperature=0, max_tokens=48)
        assert answer["choices"][0]["message"] == expected["choices"][0]["message"]
        assert answer["choices"][0]["finish_reason"] == expected["choices"][0]["finish_reason"]
        assert {name: answer["usage"][name] for name in expected["usage"]} == expected["usage"]


def test_a_prompt_that_was_read_before_is_not_read_again(client: httpx.Client) -> None:
    """The answer tells how much of it was there already."""
    _ask(client, **GREEDY)
    usage = _ask(client, **GREEDY)["usage"]

    assert 0 < usage["prompt_tokens_details"]["cached_tokens"] < usage["prompt_tokens"]


def test_logprobs_are_those_of_the_written_tokens(client: httpx.Client) -> None:
    """A greedy token is its own likeliest rival, and the bytes add up to the text."""
    choice = _ask(client, **GREEDY, logprobs=True, top_logprobs=2)["choices"][0]
    told = choice["logprobs"]["content"]
    text = b"".join(bytes(one["bytes"]) for one in told).decode()

    assert text == choice["message"]["content"]
    assert all(one["top_logprobs"][0]["token"] == one["token"] for one in told)
    assert all(one["logprob"] == one["top_logprobs"][0]["logprob"] <= 0 for one in told)


def test_json_schema_is_followed(client: httpx.Client) -> None:
    """Whatever the model knows, what comes out fits the schema; an impossible one harms nothing."""
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}
    asked = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    broken = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"$ref": "#/nowhere"}}}
    content = _ask(client, **GREEDY, response_format=asked)["choices"][0]["message"]["content"]
    refused = client.post("/v1/chat/completions", json={**GREEDY, "response_format": broken})

    assert json.loads(content)["a"] in ("x", "y")
    assert _error(refused) == (400, "response_format", "invalid_request_error")
    assert _ask(client, **GREEDY)["choices"]


@pytest.mark.parametrize("is_streamed", [False, True])
def test_too_long_prompt_has_its_own_code(client: httpx.Client, is_streamed: bool) -> None:
    """The code that makes LiteLLM try a model with a longer context; also a stream gets a status line for it."""
    response = client.post("/v1/chat/completions", json={"messages": TOO_LONG, "stream": is_streamed})

    assert _error(response) == (400, "messages", "context_length_exceeded")
    assert "expected fewer than 1024 tokens" in response.json()["error"]["message"]


def test_a_full_queue_answers_429(client: httpx.Client) -> None:
    """One runs and two wait; the fourth is told when to come again."""
    wait_for(lambda: _is_idle(client))
    waiting = [threading.Thread(target=_ask, args=(client,), kwargs={**ENDLESS, "max_tokens": 400}) for _ in range(3)]
    for thread in waiting:
        thread.start()
    wait_for(lambda: client.get("/health").json()["n_waiting"] == 2)
    response = client.post("/v1/chat/completions", json=GREEDY)
    for thread in waiting:
        thread.join()

    assert _error(response) == (429, None, "queue_full")
    assert int(response.headers["retry-after"]) >= 1


def test_clients_that_go_away_free_the_model(tmp_path: Path) -> None:
    """Long before its answer would have ended the model is free again, streamed or not, also while it reads."""
    with running_child(tmp_path / "log", n_ctx=30_000, n_batch=64, n_parallel=1) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/chat/completions", json=ENDLESS, timeout=0.2)
        wait_for(lambda: _is_idle(client), timeout_s=15)
        with client.stream("POST", "/v1/chat/completions", json={**ENDLESS, "stream": True}) as response:
            assert next(response.iter_lines()).startswith("data: ")
        wait_for(lambda: _is_idle(client), timeout_s=15)
        long_prompt = [{"role": "user", "content": "hello " * 9000}]
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/chat/completions", json={"messages": long_prompt}, timeout=0.2)
        wait_for(lambda: _is_idle(client), timeout_s=15)

        assert client.get("/health").json()["n_served"] == 3
        assert _ask(client, **GREEDY)["choices"][0]["finish_reason"] == "stop"


def test_two_models_take_turns_in_one_place(tmp_path: Path) -> None:
    """Each is loaded when it is asked, never both at once, and says the same after each load."""
    models = [
        small_model("small", load="first_call", process="both", max_loaded=1),
        small_model("large", load="first_call", process="both", max_loaded=1, path=str(PAIR / "large-q8_0.gguf")),
    ]
    with running_group(tmp_path / "log", *models) as client:
        answers = [_ask(client, model=name, **GREEDY) for name in ("small", "large", "small", "large")]
        threads = [
            threading.Thread(target=_ask, args=(client,), kwargs={"model": name, **GREEDY})
            for name in ("small", "large") * 6
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        healths = client.get("/health").json()["models"]

    texts = [one["choices"][0]["message"]["content"] for one in answers]
    assert texts[:2] == texts[2:]
    assert [one["model"] for one in answers] == ["small", "large"] * 2
    assert sorted(one["phase"] for one in healths) == ["ready", "unloaded"]
    assert sum(one["n_served"] for one in healths) == 16
    assert all(2 <= one["n_loads"] <= 8 for one in healths)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chat_format": "no-such"}, "chat_format: "),
        ({"n_gpu_layers": -1}, "n_gpu_layers: expected 0"),
        ({"path": "cut.gguf"}, "llama.cpp could not load"),
    ],
)
def test_options_that_only_llama_cpp_can_judge(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    """What the process finds wrong reaches the status, named like any other option."""
    (tmp_path / "cut.gguf").write_bytes(SMALL.read_bytes()[:50_000])
    if "path" in options:
        options = {"path": str(tmp_path / options["path"])}
    fleet = Fleet(tmp_path)
    fleet.ensure(small_model(**options))
    failed = wait_for(lambda: status if (status := fleet.status()[0]).phase == "failed" else None)
    fleet.shutdown()

    assert message in (failed.error or "")
