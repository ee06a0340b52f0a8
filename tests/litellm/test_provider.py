import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import litellm
import pytest
import pytest_asyncio
from litellm.exceptions import (
    BadRequestError,
    ContextWindowExceededError,
    RateLimitError,
    ServiceUnavailableError,
    Timeout,
)

from echo_proxy.errors import LocalModelError
from echo_proxy.litellm.config import PROVIDER
from echo_proxy.litellm.local import local_models, local_status, shutdown_models, warm_up_models
from echo_proxy.litellm.provider import LlamaCppProvider
from echo_proxy.local.fleet import shared_fleet
from echo_proxy.local.state import ModelState
from echo_proxy.settings import Settings
from tests.local.children import COUNT, ENDLESS, SMALL, TOO_LONG, ready_state, wait_for

# LiteLLM's own models, not ours, make pydantic warn when they are first used.
pytestmark = pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning")

OPTIONS = {"path": str(SMALL), "n_threads": 1, "n_threads_batch": 1, "n_ctx": 1024, "max_queue": 1}
ANSWER = "After 8 comes 9."


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where this module's models live; they end with it."""
    folder = tmp_path_factory.mktemp("state")
    yield folder
    shutdown_models(folder)


@pytest_asyncio.fixture(autouse=True)
async def provider(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LlamaCppProvider]:
    """The handler, registered as `custom_provider_map` does it."""
    one = LlamaCppProvider(Settings(state_dir=state_dir))
    monkeypatch.setattr(litellm, "custom_provider_map", [{"provider": PROVIDER, "custom_handler": one}])
    litellm.utils.custom_llm_setup()
    yield one
    await one.aclose()


def _router(name: str = "small", prices: float = 0.0, **more: Any) -> litellm.Router:
    info = {"id": f"{name}-id", "llama_cpp": {**OPTIONS, **more}}
    if prices:
        info |= {"input_cost_per_token": prices, "output_cost_per_token": 2 * prices}
    item = {"model_name": "auto", "litellm_params": {"model": f"llama_cpp/{name}"}, "model_info": info}
    return litellm.Router(model_list=[item], num_retries=0, disable_cooldowns=True)


def _state(state_dir: Path, name: str = "small", after: str = "") -> ModelState:
    fleet = shared_fleet(state_dir)
    model = wait_for(lambda: fleet.find(name))
    return ready_state(fleet.ensure(model), after)


def _is_idle(state_dir: Path, name: str) -> bool:
    state = _state(state_dir, name)
    headers = {"Authorization": f"Bearer {state.token}"}
    health = httpx.get(f"{state.url}/health", headers=headers, trust_env=False).json()
    return bool(health["n_running"] == 0 and health["n_waiting"] == 0)


def _n_restarts(state_dir: Path, name: str = "small") -> int:
    return next(one.n_restarts for one in local_status(state_dir) if one.name == name)


async def _text(stream: Any) -> str:
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])


def test_provider_name_is_not_one_of_litellms() -> None:
    """A built-in provider of that name would be used instead of ours."""
    assert PROVIDER not in [one.value for one in litellm.LlmProviders]


async def test_whole_answer_with_its_cost() -> None:
    """Text, reason, counts and prices reach LiteLLM."""
    answer = await _router(prices=1e-6).acompletion("auto", COUNT, temperature=0)

    assert answer.choices[0].message.content == ANSWER
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (15, 6)
    assert answer._hidden_params["response_cost"] == pytest.approx(27e-6)


async def test_streamed_answer_keeps_one_id_and_its_usage() -> None:
    """A stream says the same under one id; the counts are llama.cpp's own, not LiteLLM's estimate."""
    stream = await _router().acompletion(
        "auto", COUNT, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert len({chunk.id for chunk in chunks}) == 1
    assert [reason for reason in reasons if reason] == ["stop"]
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (15, 6)


async def test_logprobs_reach_the_caller() -> None:
    """Each token with its chance, whole and streamed alike; together they are the answer."""
    router = _router()
    asked: dict[str, Any] = {"messages": COUNT, "temperature": 0, "logprobs": True, "top_logprobs": 2}
    whole = await router.acompletion("auto", **asked)
    stream = await router.acompletion("auto", **asked, stream=True)
    chunks = [chunk.choices[0] async for chunk in stream]
    streamed = [one for choice in chunks if choice.logprobs for one in choice.logprobs.content]
    told = whole.choices[0].logprobs.content

    assert "".join(one.token for one in told) == ANSWER
    assert [one.token for one in streamed] == [one.token for one in told]
    assert [one.logprob for one in streamed] == pytest.approx([one.logprob for one in told], abs=1e-3)
    assert all(len(one.top_logprobs) == 2 for one in told)


async def test_a_repeated_prompt_is_told_as_cached() -> None:
    """LiteLLM passes the counts of cached tokens on."""
    router = _router()
    await router.acompletion("auto", COUNT, temperature=0)
    again = await router.acompletion("auto", COUNT, temperature=0)

    assert 0 < again.usage.prompt_tokens_details.cached_tokens < again.usage.prompt_tokens


async def test_cut_stream_ends_with_length() -> None:
    """The reason survives LiteLLM's wrapping."""
    stream = await _router().acompletion("auto", COUNT, temperature=0, stream=True, max_tokens=2)
    reasons = [chunk.choices[0].finish_reason async for chunk in stream]

    assert [reason for reason in reasons if reason] == ["length"]


def test_callers_without_an_event_loop_are_served() -> None:
    """LiteLLM's sync functions give the same, streamed or not."""
    router = _router()
    answer = router.completion("auto", COUNT, temperature=0)
    chunks = list(router.completion("auto", COUNT, temperature=0, stream=True))

    assert answer.choices[0].message.content == ANSWER
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    with pytest.raises(BadRequestError, match="tools: not supported"):
        router.completion("auto", COUNT, tools=[{"type": "function", "function": {"name": "x"}}])
    with pytest.raises(ContextWindowExceededError):
        list(router.completion("auto", TOO_LONG, stream=True))


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_errors_are_litellms_own(is_streamed: bool) -> None:
    """Retries and fallbacks see the exceptions that they know, with our message."""
    router = _router()

    with pytest.raises(BadRequestError, match="tools: not supported by local models"):
        await _finish(router, is_streamed, tools=[{"type": "function", "function": {"name": "x"}}])
    with pytest.raises(ContextWindowExceededError, match="expected fewer than 1024 tokens"):
        await _finish(router, is_streamed, messages=TOO_LONG)


async def _finish(router: litellm.Router, is_streamed: bool, **body: Any) -> None:
    result = await router.acompletion("auto", stream=is_streamed, **{"messages": COUNT, **body})
    if is_streamed:
        await _text(result)


async def test_context_window_fallback_takes_over() -> None:
    """LiteLLM's fallback for long prompts works with a local model."""
    small = {
        "model_name": "auto", "litellm_params": {"model": "llama_cpp/small"}, "model_info": {"llama_cpp": OPTIONS},
    }  # fmt: skip
    long = {"model_name": "long", "litellm_params": {"model": "openai/x", "api_key": "x", "mock_response": "long!"}}
    router = litellm.Router(model_list=[small, long], num_retries=0, context_window_fallbacks=[{"auto": ["long"]}])
    answer = await router.acompletion("auto", TOO_LONG)

    assert answer.choices[0].message.content == "long!"


async def test_unsupported_parameters_can_be_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM's drop_params is the operator's word that ignoring them is fine."""
    monkeypatch.setattr(litellm, "drop_params", True)
    tools = [{"type": "function", "function": {"name": "x"}}]
    answer = await _router().acompletion("auto", COUNT, temperature=0, tools=tools)

    assert answer.choices[0].message.content == ANSWER


async def test_a_client_cannot_choose_a_file(state_dir: Path) -> None:
    """What the request says about model_info is overwritten by the router."""
    answer = await _router().acompletion(
        "auto", COUNT, temperature=0, model_info={"llama_cpp": {"path": "/etc/passwd"}}
    )

    assert answer.choices[0].message.content == ANSWER
    assert "/etc/passwd" not in [shared_fleet(state_dir).find(one.name) for one in local_status(state_dir)]


async def test_cancelling_frees_the_model(state_dir: Path) -> None:
    """A caller that LiteLLM cancels, and a stream that is closed, leave the model free."""
    router = _router("wide", n_ctx=30_000)  # its answers would take half a minute
    task = asyncio.create_task(router.acompletion("auto", **ENDLESS))
    await asyncio.to_thread(wait_for, lambda: not _is_idle(state_dir, "wide"))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.to_thread(wait_for, lambda: _is_idle(state_dir, "wide"), 3)

    stream = await router.acompletion("auto", **ENDLESS, stream=True)
    await anext(aiter(stream))
    await stream.aclose()
    await asyncio.to_thread(wait_for, lambda: _is_idle(state_dir, "wide"), 3)


async def test_a_full_queue_is_a_rate_limit(state_dir: Path) -> None:
    """With one running and one waiting, the third is told to come again."""
    router = _router("narrow", n_parallel=1)
    tasks = [asyncio.create_task(router.acompletion("auto", **ENDLESS)) for _ in range(3)]
    done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    (refused,) = [task.exception() for task in done]

    assert isinstance(refused, RateLimitError)
    assert int(refused.response.headers["retry-after"]) >= 1


async def test_timeouts_are_kept() -> None:
    """LiteLLM's timeout ends the wait with LiteLLM's exception."""
    with pytest.raises(Timeout, match=r"did not answer within 0\.2 s"):
        await _router().acompletion("auto", **ENDLESS, timeout=0.2)


async def test_requests_wait_for_a_restart(state_dir: Path) -> None:
    """After a crash the next request takes a little longer; one that was cut in the middle is told."""
    router = _router()
    stream = await router.acompletion("auto", **ENDLESS, stream=True)
    await anext(aiter(stream))
    n_before = _n_restarts(state_dir)
    os.kill(_state(state_dir).pid or 0, signal.SIGKILL)
    with pytest.raises(ServiceUnavailableError, match="ended in the middle of an answer"):
        await _text(stream)
    answer = await router.acompletion("auto", COUNT, temperature=0)

    assert answer.choices[0].message.content == ANSWER
    assert _n_restarts(state_dir) == n_before + 1


async def test_models_that_cannot_start_say_why(tmp_path: Path) -> None:
    """Missing files and wrong options reach the caller as 503, so that fallbacks are tried, and name the field."""
    with pytest.raises(ServiceUnavailableError, match=r"model_info\.llama_cpp\.path: expected a readable GGUF file"):
        await _router("missing", path=str(tmp_path / "no.gguf")).acompletion("auto", COUNT)
    with pytest.raises(ServiceUnavailableError, match=r"model_info\.llama_cpp\.n_ctx"):
        await _router("wrong", n_ctx=-1).acompletion("auto", COUNT)
    bare = {"model_name": "auto", "litellm_params": {"model": "llama_cpp/bare"}}
    with pytest.raises(ServiceUnavailableError, match=r"expected model_info\.llama_cpp with a path"):
        await litellm.Router(model_list=[bare], num_retries=0).acompletion("auto", COUNT)


def test_warm_up_reads_the_model_list(tmp_path: Path) -> None:
    """Each model once, relative to the config; others' deployments are skipped; contradictions stop the start."""
    one = {"litellm_params": {"model": "llama_cpp/one"}, "model_info": {"llama_cpp": {"path": "one.gguf"}}}
    bare = {"litellm_params": {"model": "llama_cpp/one"}}
    cloud = {"litellm_params": {"model": "openai/gpt"}}
    (model,) = local_models([bare, one, one, cloud], tmp_path)

    assert (model.name, model.options.path) == ("one", str(tmp_path / "one.gguf"))
    with pytest.raises(LocalModelError, match="everywhere, got two"):
        local_models([one, {**one, "model_info": {"llama_cpp": {"path": "two.gguf"}}}], tmp_path)
    with pytest.raises(LocalModelError, match=r"llama_cpp/one: expected model_info\.llama_cpp"):
        local_models([bare], tmp_path)


async def test_warm_models_serve_deployments_without_options(state_dir: Path, tmp_path: Path) -> None:
    """After warm-up, deployments that only name the model share its process."""
    item = {"litellm_params": {"model": "llama_cpp/small"}, "model_info": {"llama_cpp": OPTIONS}}
    warm_up_models([item], tmp_path, state_dir)
    bare = {"model_name": "auto", "litellm_params": {"model": "llama_cpp/small"}}
    answer = await litellm.Router(model_list=[bare], num_retries=0).acompletion("auto", COUNT, temperature=0)

    assert answer.choices[0].message.content == ANSWER
