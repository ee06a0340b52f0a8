"""A stored answer as LiteLLM's own router hands it out, on every endpoint and under every routing strategy."""

import asyncio
import json
import logging
from typing import Any

import litellm
import pytest
from litellm.exceptions import ServiceUnavailableError
from litellm.integrations.custom_logger import CustomLogger
from litellm.router import Router

from echo_proxy.litellm.stored import StoredAnswers, is_stored
from echo_proxy.types import STORED

# LiteLLM's own models, not ours, make pydantic warn when they are first used.
pytestmark = pytest.mark.filterwarnings("ignore:.*`ReadOnly` qualifier:UserWarning")

TEXT = "The capital of France is Paris.\n\n  It lies on the Seine,\tand has done so for long.\n"
GROUP = "given"
ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
BUSY = {
    "model_name": GROUP,
    "litellm_params": {
        "model": "openai/large",
        "api_base": "http://127.0.0.1:1",
        "api_key": "none",
        "rpm": 1,
        "tpm": 1,
        "max_parallel_requests": 1,
        "order": 2,
        "tags": ["red"],
        "silent_model": "elsewhere",
        "region_name": "eu",
    },
    "model_info": {"id": "large", "input_cost_per_token": 1.0},
}
STRATEGIES: Any = [
    "simple-shuffle",
    "usage-based-routing-v2",
    "cost-based-routing",
    "latency-based-routing",
    "least-busy",
]


class Giver(CustomLogger):
    """Gives every request the stored answer, and keeps what LiteLLM reports."""

    def __init__(self) -> None:
        super().__init__()
        self.stored = StoredAnswers()
        self.reports: list[Any] = []
        self.reported = asyncio.Event()

    async def async_filter_deployments(
        self,
        model: Any,
        healthy_deployments: Any,
        messages: Any,
        request_kwargs: Any = None,
        parent_otel_span: Any = None,
    ) -> Any:
        return [self.stored.deployment(healthy_deployments[0], "d1", TEXT)]

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        report = kwargs["standard_logging_object"]
        if report["model_group"] == GROUP:  # LiteLLM brings what earlier tests have left, too
            self.reports.append(report)
            self.reported.set()


@pytest.fixture
async def giver(monkeypatch: pytest.MonkeyPatch) -> Giver:
    made = Giver()
    kept = (
        "input_callback",
        "success_callback",
        "failure_callback",
        "_async_success_callback",
        "_async_failure_callback",
    )
    for name in (*kept, "custom_provider_map", "_custom_providers"):
        monkeypatch.setattr(litellm, name, [])
    monkeypatch.setattr(litellm, "callbacks", [made])
    monkeypatch.setattr(litellm, "model_cost", dict(litellm.model_cost))
    return made


def router(strategy: Any = "simple-shuffle", **more: Any) -> Router:
    return Router(model_list=[BUSY], routing_strategy=strategy, num_retries=0, enable_pre_call_checks=True, **more)


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_it_costs_nothing_and_no_limit_holds(
    giver: Giver, strategy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Many at once under a limit of one for each minute and at a time, with usage, and without a complaint."""
    asking = router(strategy, default_max_parallel_requests=1)
    caplog.clear()

    with caplog.at_level(logging.WARNING):
        answers = await asyncio.gather(
            *[asking.acompletion(model=GROUP, messages=ASK, temperature=0, seed=1) for _ in range(5)]
        )
        await asyncio.wait_for(giver.reported.wait(), 30)

    assert [one.choices[0].message.content for one in answers] == [TEXT] * 5
    assert (answers[0].choices[0].finish_reason, answers[0]._hidden_params["model_id"]) == ("stop", STORED)
    assert answers[0].usage.prompt_tokens > 5
    assert answers[0].usage.completion_tokens > 10
    report = giver.reports[0]
    assert (report["response_cost"], report["model_id"], report["status"]) == (0.0, STORED, "success")
    assert report["completion_tokens"] == answers[0].usage.completion_tokens
    assert [one.getMessage() for one in caplog.records if "echo" in one.getMessage()] == []


async def test_a_stream_comes_in_pieces(giver: Giver) -> None:
    """Role first, the words as they are, why it ended, and the usage that was asked for."""
    stream: Any = await router().acompletion(
        model=GROUP, messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    await asyncio.wait_for(giver.reported.wait(), 30)

    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert len([delta for delta in deltas if delta.content]) > 3
    assert "".join(delta.content or "" for delta in deltas) == TEXT
    assert [one.choices[0].finish_reason for one in chunks if one.choices and one.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].usage.completion_tokens > 10
    assert giver.reports[0]["response_cost"] == 0.0


async def test_responses_are_whole(giver: Giver) -> None:
    """With all events where they are streamed."""
    answer: Any = await router().aresponses(model=GROUP, input="What is the capital of France?")
    stream: Any = await router().aresponses(model=GROUP, input="What is the capital of France?", stream=True)
    events = [event async for event in stream]

    assert (answer.output[0].content[0].text, answer.status) == (TEXT, "completed")
    assert answer.usage.output_tokens > 10
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert events[-1].response.usage.output_tokens > 10


async def test_messages_are_whole(giver: Giver) -> None:
    """With all events where they are streamed."""
    answer: Any = await router().aanthropic_messages(model=GROUP, messages=ASK, max_tokens=50)
    stream: Any = await router().aanthropic_messages(model=GROUP, messages=ASK, max_tokens=50, stream=True)
    lines = b"".join([part async for part in stream]).decode().splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]

    assert (answer["content"][0]["text"], answer["stop_reason"]) == (TEXT, "end_turn")
    assert answer["usage"]["output_tokens"] > 10
    assert "".join(one["delta"]["text"] for one in events if one["type"] == "content_block_delta") == TEXT
    assert [one["type"] for one in events[-3:]] == ["content_block_stop", "message_delta", "message_stop"]
    assert events[-2]["delta"]["stop_reason"] == "end_turn"


async def test_what_lets_it_pass_later_filters_is_kept() -> None:
    """Order, tags and region of the deployment whose place it takes; nothing of its limits, keys and prices."""
    made = StoredAnswers().deployment(BUSY, "d1", TEXT)

    assert made["litellm_params"] == {
        "model": "echo_stored/answer",
        "max_parallel_requests": 1_000_000,
        "order": 2,
        "tags": ["red"],
        "region_name": "eu",
    }
    assert (made["model_name"], made["model_info"]["id"]) == (GROUP, STORED)
    assert made["model_info"]["input_cost_per_token"] == 0.0
    assert (is_stored({"model_info": made["model_info"]}), is_stored({"model_info": {"id": "large"}})) == (True, False)


async def test_it_is_registered_again_when_litellm_has_forgotten(giver: Giver) -> None:
    """As it does when it reads its config, and when it fetches prices."""
    await router().acompletion(model=GROUP, messages=ASK)
    other = {"provider": "other", "custom_handler": object()}
    litellm.custom_provider_map = [other]  # type: ignore[list-item] # no handler is ever asked
    litellm.model_cost.pop(STORED)

    answer: Any = await router().acompletion(model=GROUP, messages=ASK)

    assert answer.choices[0].message.content == TEXT
    assert other in litellm.custom_provider_map
    assert len(litellm.custom_provider_map) == 2


async def test_what_is_gone_is_an_error_that_leads_elsewhere(giver: Giver) -> None:
    """LiteLLM retries such an error, and falls back."""
    made = giver.stored.deployment(BUSY, "d1", TEXT)
    giver.stored.forget("d1")
    giver.stored.forget("d1")

    with pytest.raises(ServiceUnavailableError):
        await giver.stored.acompletion(
            model="echo_stored/answer",
            messages=ASK,
            litellm_params={"model_info": made["model_info"]},
            model_response=None,
        )


async def test_a_client_cannot_ask_for_it() -> None:
    """Without a decision on its way there is nothing to give."""
    with pytest.raises(ServiceUnavailableError):
        await StoredAnswers().acompletion(
            model="echo_stored/answer", messages=ASK, litellm_params={}, model_response=None
        )
