"""What came of the call?"""

from dataclasses import dataclass

from echo_proxy.types import Attempt, Outcome

WHOLE_REASONS = frozenset({"stop", "end_turn", "completed"})
"""Finish reasons of an answer that ended by itself, over all endpoints."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the proxy reports of a finished call."""

    deployment_id: str
    text: str
    finish_reason: str
    was_read_to_end: bool
    """False when the caller left a stream before its end."""
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    started_at: float
    """Seconds since the epoch, like the next two."""
    first_token_at: float | None
    ended_at: float
    error: str | None = None
    may_keep: bool = True
    """False when the operator had the text redacted: it must not become an example."""


def measure(answer: Answer, attempts: tuple[Attempt, ...]) -> Outcome:
    """The outcome, with what can be derived from the report."""
    first = answer.first_token_at
    return Outcome(
        deployment_id=answer.deployment_id,
        text=answer.text,
        finish_reason=answer.finish_reason,
        is_whole=answer.error is None and answer.was_read_to_end and answer.finish_reason in WHOLE_REASONS,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        cost_usd=answer.cost_usd,
        time_to_first_token_s=None if first is None else max(first - answer.started_at, 0.0),
        latency_s=max(answer.ended_at - answer.started_at, 0.0),
        attempts=attempts,
        error=answer.error,
        may_keep=answer.may_keep,
    )
