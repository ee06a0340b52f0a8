"""What the provider sends to a model's process and what of the answer reaches LiteLLM, over a scripted process."""

import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import litellm
import pytest
from litellm.exceptions import (
    BadRequestError,
    ContextWindowExceededError,
    NotFoundError,
    RateLimitError,
    ServiceUnavailableError,
)
from litellm.integrations.custom_logger import CustomLogger
from litellm.router import Router

from echo_proxy.clock import SystemClock
from echo_proxy.litellm.beside import RouterModels, is_errand
from echo_proxy.litellm.calls import group_of, stranger
from echo_proxy.litellm.config import PROVIDER
from echo_proxy.litellm.provider import LlamaCppProvider
from echo_proxy.litellm.runtime import set_desk
from echo_proxy.local.client import Call, LocalModelAway, LocalModelRefusal
from echo_proxy.local.options import LocalModel
from echo_proxy.online.sample import Ask
from echo_proxy.settings import Settings
from echo_proxy.types import Message, Prompt, Service

# LiteLLM's own models, not ours, make pydantic warn when they are first used.
pytestmark = pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning")

ASK: Any = [{"role": "user", "content": "Count."}]
USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 3,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"accepted_prediction_tokens": 2, "rejected_prediction_tokens": 1},
}


def logprobs(*tokens: str) -> dict[str, Any]:
    return {
        "content": [{"token": one, "logprob": -0.5, "bytes": list(one.encode()), "top_logprobs": []} for one in tokens]
    }


def chunk(text: str | None, reason: str | None = None, chances: Any = None, usage: Any = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "logprobs": chances, "finish_reason": reason}
    choices = [] if usage else [choice]
    return {"id": "chatcmpl-1", "created": 7, "choices": choices, **({"usage": usage} if usage else {})}


def whole(text: str, chances: Any = None) -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": text}, "logprobs": chances, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "created": 7, "choices": [choice], "usage": USAGE}


class Process:
    """Models that say what they are told to, by name; an exception among the chunks breaks the stream there."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.errands: list[bool] = []
        self.says: dict[str, list[Any]] = {}

    def find(self, name: str) -> LocalModel | None:
        return None

    def ensure(self, model: LocalModel) -> Any:
        return None

    async def ask(self, call: Call) -> dict[str, Any]:
        (answer,) = self._hear(call)
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    async def stream(self, call: Call) -> AsyncGenerator[dict[str, Any], None]:
        for one in self._hear(call):
            if isinstance(one, Exception):
                raise one
            yield one

    def _hear(self, call: Call) -> list[Any]:
        body = json.loads(call.content)
        self.bodies.append(body)
        self.errands.append(is_errand())
        assert call.model.name == body["model"]
        return self.says[body["model"]]


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """Registered with LiteLLM in place of real processes."""
    made = Process()
    one = LlamaCppProvider(Settings(policy="nowhere"))
    monkeypatch.setattr(one, "_client", made)
    monkeypatch.setattr("echo_proxy.litellm.provider.shared_fleet", lambda folder: made)
    monkeypatch.setattr(litellm, "custom_provider_map", [{"provider": PROVIDER, "custom_handler": one}])
    litellm.utils.custom_llm_setup()  # type: ignore[no-untyped-call]
    yield made
    set_desk(None)


def router_of(*names: str, **more: Any) -> Any:
    items = [
        {
            "model_name": "auto",
            "litellm_params": {"model": f"llama_cpp/{name}"},
            "model_info": {"id": name, "llama_cpp": {"path": f"{name}.gguf"}},
        }
        for name in names
    ]
    return Router(model_list=items, disable_cooldowns=True, **more)


class _Desk:
    """Says what the engine is told."""

    def __init__(self, service: Service) -> None:
        self.told = service
        self.asked: list[Any] = []

    def service(self, kwargs: Any) -> Service:
        self.asked.append(kwargs)
        return self.told


async def test_the_engine_is_told_what_the_desk_knows(process: Process) -> None:
    """And which of the models of its process is asked; the desk can find the request by its id."""
    process.says["small"] = [whole("3")]
    desk = _Desk(Service("s", 5, 2.5, ("hint",)))
    set_desk(desk)  # type: ignore[arg-type]
    await router_of("small").acompletion("auto", ASK, litellm_call_id="c1")

    assert process.bodies[0]["model"] == "small"
    assert process.bodies[0]["echo_service"] == {"scope": "s", "priority": 5, "deadline_s": 2.5, "hints": ["hint"]}
    assert desk.asked[0]["litellm_call_id"] == "c1"


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_caller_cannot_say_what_the_engine_is_told(process: Process, is_streamed: bool) -> None:
    """Neither by the field itself nor through LiteLLM's metadata; without a desk the caller's own scope counts."""
    process.says["small"] = [chunk("3"), chunk(None, "stop"), chunk(None, usage=USAGE)] if is_streamed else [whole("3")]
    forged = {"scope": "another tenant", "priority": 100, "deadline_s": None, "hints": ["x"]}
    told = {"user_api_key_request_route": "/v1/chat/completions", "user_api_key_hash": "ab" * 32}
    answer = await router_of("small").acompletion(
        "auto",
        ASK,
        stream=is_streamed,
        echo_service=forged,
        metadata={**told, "echo_service": forged, "service": forged},
    )
    if is_streamed:
        _ = [one async for one in answer]

    assert process.bodies[0]["echo_service"] == {
        "scope": stranger({"metadata": told}).scope,
        "priority": 0,
        "deadline_s": None,
        "hints": [],
    }


@pytest.mark.parametrize("endpoint", ["chat", "responses", "messages"])
async def test_the_group_of_a_call_is_known_in_the_provider(process: Process, endpoint: str) -> None:
    """On all endpoints, by an alias too, and whatever the caller says."""
    process.says["small"] = [whole("3")]
    desk = _Desk(Service())
    set_desk(desk)  # type: ignore[arg-type]
    router = router_of("small", model_group_alias={"other": "auto"})
    told = {"user_api_key_request_route": f"/v1/{endpoint}", "user_api_key_hash": "ab" * 32}
    forged = {**told, "deployment_model_name": "forged"}
    if endpoint == "chat":
        await router.acompletion("other", ASK, metadata=forged)
    elif endpoint == "responses":
        await router.aresponses(model="other", input="Count.", litellm_metadata=forged)
    else:
        await router.aanthropic_messages(model="other", messages=ASK, max_tokens=9, litellm_metadata=forged)

    assert [group_of(one) for one in desk.asked] == ["auto"]


async def test_calls_of_our_own_are_known_in_the_provider(process: Process) -> None:
    """Through all of LiteLLM's tasks and threads; a client's call is not taken for one."""
    process.says["small"] = [whole("3")]
    router = router_of("small")
    await RouterModels(lambda: router, SystemClock()).ask(Ask("auto", "small", (Message("user", "Judge."),), Prompt()))
    await router.acompletion("auto", ASK)

    assert process.errands == [True, False]


async def test_logprobs_and_counts_of_a_whole_answer(process: Process) -> None:
    """OpenAI's fields, as the process gave them."""
    process.says["small"] = [whole("3 4", logprobs("3", " 4"))]
    answer = await router_of("small").acompletion("auto", ASK, logprobs=True, top_logprobs=0)
    choice, usage = answer.choices[0], answer.usage

    assert [(one.token, one.logprob, one.bytes) for one in choice.logprobs.content] == [
        ("3", -0.5, [51]),
        (" 4", -0.5, [32, 52]),
    ]
    assert usage.prompt_tokens_details.cached_tokens == 4
    assert usage.completion_tokens_details.accepted_prediction_tokens == 2
    assert usage.completion_tokens_details.rejected_prediction_tokens == 1
    assert process.bodies[0]["logprobs"] is True


async def test_logprobs_and_counts_of_a_streamed_answer(process: Process) -> None:
    """Each with its piece of text, one id, one end, one usage; also those that came without text."""
    process.says["small"] = [
        chunk("3", chances=logprobs("3")),
        chunk(" 4", chances=logprobs(" ", "4")),
        chunk(None, "length", chances=logprobs("5")),
        chunk(None, usage=USAGE),
    ]
    stream = await router_of("small").acompletion(
        "auto", ASK, logprobs=True, stream=True, stream_options={"include_usage": True}
    )
    chunks = [one async for one in stream]
    choices = [one.choices[0] for one in chunks]
    told = [one.logprobs.content for one in choices if one.logprobs]

    assert "".join(one.delta.content or "" for one in choices) == "3 4"
    assert [one.delta.role for one in choices if one.delta.role] == ["assistant"]
    assert [[one.token for one in content] for content in told] == [["3"], [" ", "4"], ["5"]]
    assert [one.finish_reason for one in choices if one.finish_reason] == ["length"]
    assert {one.id for one in chunks} == {"chatcmpl-1"}
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens == 4
    assert chunks[-1].usage.completion_tokens_details.accepted_prediction_tokens == 2


class _Turns(CustomLogger):
    """Chooses `small` first, then `large`, as Echo does after a failed attempt."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    async def async_filter_deployments(self, model: str, healthy_deployments: Any, *_: Any, **__: Any) -> Any:
        self.n += 1
        wanted = "small" if self.n == 1 else "large"
        return [one for one in healthy_deployments if one["model_info"]["id"] == wanted]


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> _Turns:
    made = _Turns()
    monkeypatch.setattr(litellm, "callbacks", [made])
    return made


GONE = LocalModelAway("local model small ended in the middle of an answer")
ENDS = [chunk(None, "stop"), chunk(None, usage=USAGE)]


async def test_a_process_that_dies_is_retried_with_another_arm(process: Process, turns: _Turns) -> None:
    """LiteLLM's retry asks again which deployment shall answer; the caller sees an answer."""
    process.says = {"small": [GONE], "large": [whole("3")]}
    answer = await router_of("small", "large").acompletion("auto", ASK)

    assert answer.choices[0].message.content == "3"
    assert [one["model"] for one in process.bodies] == ["small", "large"]


async def read(**more: Any) -> None:
    stream = await router_of("small", "large").acompletion("auto", ASK, stream=True, **more)
    _ = [one async for one in stream]


@pytest.mark.parametrize("chances", [None, logprobs("3")])
async def test_a_stream_that_has_begun_ends_with_an_error(process: Process, turns: _Turns, chances: Any) -> None:
    """What the caller has read cannot be taken back: nobody begins anew, and no text comes twice."""
    process.says = {"small": [chunk("3", chances=chances), GONE], "large": [chunk("4"), *ENDS]}

    with pytest.raises(ServiceUnavailableError, match="ended in the middle"):
        await read(logprobs=chances is not None)
    assert [one["model"] for one in process.bodies] == ["small"]


async def _finish(is_streamed: bool) -> None:
    answer = await router_of("small", num_retries=0).acompletion("auto", ASK, stream=is_streamed)
    if is_streamed:
        _ = [one async for one in answer]


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (LocalModelRefusal(429, "full", "queue_full", "7"), RateLimitError),
        (LocalModelRefusal(503, "not loaded in time", "model_unavailable", "7"), ServiceUnavailableError),
    ],
)
async def test_a_refusal_says_when_to_come_again(
    process: Process, refusal: LocalModelRefusal, kind: type[Exception]
) -> None:
    """Where there is nobody else to ask, LiteLLM's exception has the header; whole and streamed alike."""
    for is_streamed in (False, True):
        process.says["small"] = [refusal]
        with pytest.raises(kind) as caught:
            await _finish(is_streamed)
        assert caught.value.response.headers["retry-after"] == "7"  # type: ignore[attr-defined] # LiteLLM's have it


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (LocalModelRefusal(404, "no such model", "model_not_found", None), NotFoundError),
        (LocalModelRefusal(413, "too long", "context_length_exceeded", None), ContextWindowExceededError),
        (LocalModelRefusal(413, "too long", "", None), BadRequestError),
    ],
)
async def test_what_stays_wrong_is_asked_once(
    process: Process, refusal: LocalModelRefusal, kind: type[Exception]
) -> None:
    """LiteLLM tries none of them again: the next answer would be the same."""
    process.says["small"] = [refusal]

    with pytest.raises(kind):
        await router_of("small", num_retries=2).acompletion("auto", ASK)
    assert len(process.bodies) == 1


async def test_half_an_emoji_reaches_the_model(process: Process) -> None:
    """A text that was cut in the middle of one is no failure of the deployment."""
    process.says["small"] = [whole("4")]
    cut: Any = [{"role": "user", "content": "cut \ud83d"}]
    answer = await router_of("small").acompletion("auto", cut)

    assert answer.choices[0].message.content == "4"
    assert process.bodies[0]["messages"][0]["content"] == "cut \ufffd"
