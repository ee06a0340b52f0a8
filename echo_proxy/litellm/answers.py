"""What does LiteLLM report of a finished call, in our words?"""

from collections.abc import Mapping
from typing import Any

from echo_proxy.litellm.turns import text_of
from echo_proxy.online.measure import Answer

_REDACTED = "redacted-by-litellm"


def answer_from(kwargs: Mapping[str, Any], response: Any) -> Answer | None:
    """The answer in a success event; None when the event carries none."""
    report = kwargs.get("standard_logging_object")
    if not isinstance(report, Mapping):
        return None
    body = _as_mapping(kwargs.get("async_complete_streaming_response") or response)
    text, reason = _text_and_reason(body)
    started, ended = _seconds(report, "startTime"), _seconds(report, "endTime")
    first = _seconds(report, "completionStartTime") or None
    return Answer(
        deployment_id=str(report.get("model_id") or ""),
        text=text,
        finish_reason=reason,
        was_read_to_end=True,
        prompt_tokens=int(report.get("prompt_tokens") or 0),
        completion_tokens=int(report.get("completion_tokens") or 0),
        cost_usd=float(report.get("response_cost") or 0.0),
        started_at=started,
        first_token_at=first,
        ended_at=ended,
        may_keep=_REDACTED not in text and not is_from_cache(kwargs),
    )


def words_of(response: Any) -> str:
    """The text of an answer of one of the three endpoints; empty when there is none."""
    return _text_and_reason(_as_mapping(response))[0]


def is_from_cache(kwargs: Mapping[str, Any]) -> bool:
    """LiteLLM's response cache answered. It shares entries between the arms of a model group, so the text, the cost
    and the time may be another arm's."""
    report = kwargs.get("standard_logging_object")
    return bool(kwargs.get("cache_hit") or (isinstance(report, Mapping) and report.get("cache_hit")))


def failure_from(error: BaseException, started_at: float, ended_at: float) -> Answer:
    """The answer that a caller got as an error; times in seconds since the epoch."""
    return Answer(
        deployment_id="",
        text="",
        finish_reason="error",
        was_read_to_end=True,
        prompt_tokens=0,
        completion_tokens=0,
        cost_usd=0.0,
        started_at=started_at,
        first_token_at=None,
        ended_at=ended_at,
        error=type(error).__name__,
        may_keep=False,
    )


def is_deployment_to_blame(error: BaseException, n_examples: int) -> bool:
    """Whether an error speaks against the arm and not against the request.

    A prompt that is too long by itself is the caller's; one that our examples made too long is the arm's.
    """
    if type(error).__name__ == "ContextWindowExceededError":
        return n_examples > 0
    status = getattr(error, "status_code", None)
    return not isinstance(status, int) or status in (408, 429) or status >= 500


def _seconds(report: Mapping[str, Any], key: str) -> float:
    return float(report.get(key) or 0.0)


def _as_mapping(response: Any) -> Mapping[str, Any]:
    if isinstance(response, Mapping):
        return response
    dump = getattr(response, "model_dump", None)
    return dump() if callable(dump) else {}


def _text_and_reason(body: Mapping[str, Any]) -> tuple[str, str]:
    """Text and finish reason of a chat completion, a response or an Anthropic message."""
    if body.get("choices"):
        choice = body["choices"][0]
        message = choice.get("message") or {}
        reason = "tool_calls" if message.get("tool_calls") else str(choice.get("finish_reason") or "")
        return text_of(message.get("content")) or "", reason
    if "output" in body:
        parts = [text_of(item.get("content")) or "" for item in body["output"] if item.get("type") == "message"]
        calls = any(item.get("type") != "message" and "call" in str(item.get("type")) for item in body["output"])
        return "".join(parts), "tool_calls" if calls else str(body.get("status") or "")
    if isinstance(body.get("content"), list):
        return text_of(body["content"]) or "", str(body.get("stop_reason") or "")
    return "", ""
