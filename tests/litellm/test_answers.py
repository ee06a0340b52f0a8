from typing import Any

import pytest

from echo_proxy.litellm.answers import answer_from, failure_from, is_deployment_to_blame
from echo_proxy.online.measure import Answer
from tests.builders import NOW

REPORT = {
    "model_id": "large-1",
    "prompt_tokens": 20,
    "completion_tokens": 5,
    "response_cost": 0.001,
    "startTime": NOW,
    "completionStartTime": NOW + 1,
    "endTime": NOW + 2,
}
CHAT = {"choices": [{"message": {"content": "Paris."}, "finish_reason": "stop"}]}
RESPONSE = {
    "status": "completed",
    "output": [
        {"type": "reasoning", "summary": []},
        {"type": "message", "content": [{"type": "output_text", "text": "Paris."}]},
    ],
}
MESSAGE = {"content": [{"type": "text", "text": "Paris."}], "stop_reason": "end_turn"}


def answered(body: Any, **kwargs: Any) -> Answer:
    made = answer_from({"standard_logging_object": REPORT, **kwargs}, body)
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("body", "reason"),
    [(CHAT, "stop"), (RESPONSE, "completed"), (MESSAGE, "end_turn")],
    ids=["chat", "responses", "messages"],
)
def test_all_endpoints_answers_are_understood(body: dict[str, Any], reason: str) -> None:
    """Text and finish reason from the body, figures from LiteLLM's report."""
    assert answered(body) == Answer(
        deployment_id="large-1",
        text="Paris.",
        finish_reason=reason,
        was_read_to_end=True,
        prompt_tokens=20,
        completion_tokens=5,
        cost_usd=0.001,
        started_at=NOW,
        first_token_at=NOW + 1,
        ended_at=NOW + 2,
    )


@pytest.mark.parametrize(
    ("body", "text", "reason"),
    [
        ({"choices": [{"message": {"content": None, "tool_calls": [{}]}, "finish_reason": "stop"}]}, "", "tool_calls"),
        ({"choices": [{"message": None, "finish_reason": None}]}, "", ""),
        ({"output": [{"type": "function_call", "name": "f"}], "status": "completed"}, "", "tool_calls"),
        ({"output": [], "status": "incomplete"}, "", "incomplete"),
        ({"content": [{"type": "tool_use", "name": "f"}], "stop_reason": "tool_use"}, "", "tool_use"),
        ({}, "", ""),
        (None, "", ""),
    ],
)
def test_what_is_no_plain_answer_is_not_taken_for_one(body: Any, text: str, reason: str) -> None:
    """Tool calls are never whole answers, whatever the finish reason claims."""
    made = answered(body)

    assert (made.text, made.finish_reason) == (text, reason)


class _Dumps:
    def model_dump(self) -> dict[str, Any]:
        return CHAT


def test_a_stream_is_read_from_its_assembled_response() -> None:
    """A model object is as good as a dict."""
    assert answered({}, async_complete_streaming_response=_Dumps()).text == "Paris."


def test_an_event_without_a_report_is_no_answer() -> None:
    """LiteLLM sends several events for one call."""
    assert answer_from({}, CHAT) is None


def test_figures_that_are_missing_are_zero() -> None:
    """And an unknown first token stays unknown."""
    made = answer_from({"standard_logging_object": {"startTime": NOW, "response_cost": None}}, CHAT)

    assert made is not None
    assert (made.prompt_tokens, made.cost_usd, made.first_token_at, made.deployment_id) == (0, 0.0, None, "")


def test_redacted_text_must_not_become_an_example() -> None:
    """The operator had it taken out."""
    body = {"choices": [{"message": {"content": "redacted-by-litellm"}, "finish_reason": "stop"}]}

    assert (answered(body).may_keep, answered(CHAT).may_keep) == (False, True)


def test_a_failure_is_an_answer_that_is_an_error() -> None:
    """With its time, and never kept."""
    made = failure_from(TimeoutError("slow"), NOW, NOW + 3)

    assert (made.error, made.may_keep, made.text, made.ended_at - made.started_at) == ("TimeoutError", False, "", 3)


class ContextWindowExceededError(Exception):
    status_code = 400


class _WithStatus(Exception):
    def __init__(self, status_code: Any) -> None:
        super().__init__(status_code)
        self.status_code = status_code


@pytest.mark.parametrize(
    ("error", "is_blamed"),
    [
        (_WithStatus(500), True),
        (_WithStatus(503), True),
        (_WithStatus(408), True),
        (_WithStatus(429), True),
        (_WithStatus(400), False),
        (_WithStatus(422), False),
        (_WithStatus(None), True),
        (TimeoutError(), True),
    ],
)
def test_only_some_errors_speak_against_the_deployment(error: Exception, is_blamed: bool) -> None:
    """A bad request is the caller's fault, except one that fewer examples would have made fit."""
    assert is_deployment_to_blame(error, 0) is is_blamed


def test_too_long_a_prompt_is_the_arm_s_fault_only_with_examples() -> None:
    """Otherwise one caller with long prompts could drag an arm down for everybody."""
    error = ContextWindowExceededError()

    assert not is_deployment_to_blame(error, 0)
    assert is_deployment_to_blame(error, 1)
