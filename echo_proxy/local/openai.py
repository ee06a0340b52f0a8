"""What does an answer look like in OpenAI's format?"""

import math
import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Any

from echo_proxy.engine.chat import ChatRejected
from echo_proxy.engine.work import Finished, Overloaded, TokenChance, Usage
from echo_proxy.local.encoding import encode_json
from echo_proxy.local.place import ModelUnavailable
from echo_proxy.local.wire import HttpReply

_LEAST_LOGPROB = -9999.0
"""What OpenAI writes for impossible tokens; JSON has no -inf."""


def completion(model: str, answer: Finished, *, has_logprobs: bool) -> dict[str, Any]:
    """A whole answer."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer.text},
        "logprobs": _logprobs(answer.chances) if has_logprobs else None,
        "finish_reason": answer.reason,
    }
    return {
        "id": _new_id(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
        "usage": usage(answer.usage),
        "echo": effort(answer.usage),
    }


class ChunkWriter:
    """Writes the chunks of one streamed answer."""

    def __init__(self, model: str, *, has_logprobs: bool) -> None:
        self._head = {
            "id": _new_id(),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self._has_logprobs = has_logprobs
        self._role: dict[str, str] = {"role": "assistant"}
        self._n_told = 0

    def text(self, text: str, chances: Sequence[TokenChance]) -> bytes:
        """Some of the text, with the chances of its tokens."""
        delta = {**self._role, "content": text}
        self._role = {}
        self._n_told += len(chances)
        return self._event([self._choice(delta, chances, None)])

    def end(self, answer: Finished, *, has_usage: bool) -> bytes:
        """The reason, chances that were not told yet, and the token counts if they are wanted."""
        rest = answer.chances[self._n_told :]
        last = self._event([self._choice(self._role, rest, answer.reason)], echo=effort(answer.usage))
        counts = self._event([], usage=usage(answer.usage)) if has_usage else b""
        return last + counts + b"data: [DONE]\n\n"

    def _choice(self, delta: dict[str, str], chances: Sequence[TokenChance], reason: str | None) -> dict[str, Any]:
        logprobs = _logprobs(chances) if self._has_logprobs and chances else None
        return {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return event({**self._head, "choices": choices, **more})


def event(content: object) -> bytes:
    """One server-sent event."""
    return b"data: " + encode_json(content) + b"\n\n"


def usage(taken: Usage) -> dict[str, Any]:
    """OpenAI's token counts."""
    return {
        "prompt_tokens": taken.n_prompt_tokens,
        "completion_tokens": taken.n_completion_tokens,
        "total_tokens": taken.n_prompt_tokens + taken.n_completion_tokens,
        "prompt_tokens_details": {"cached_tokens": taken.n_cached_tokens},
        "completion_tokens_details": {
            "accepted_prediction_tokens": taken.n_accepted_tokens,
            "rejected_prediction_tokens": taken.n_drafted_tokens - taken.n_accepted_tokens,
        },
    }


def effort(taken: Usage) -> dict[str, float]:
    """Where the time went, which OpenAI's format does not tell."""
    return {
        "queue_s": round(taken.queue_s, 6),
        "prefill_s": round(taken.prefill_s, 6),
        "decode_s": round(taken.decode_s, 6),
        "n_drafted": taken.n_drafted_tokens,
        "n_accepted": taken.n_accepted_tokens,
    }


def _logprobs(chances: Iterable[TokenChance]) -> dict[str, Any]:
    return {"content": [{**_chance(one), "top_logprobs": [_chance(rival) for rival in one.rivals]} for one in chances]}


def _chance(one: TokenChance) -> dict[str, Any]:
    return {"token": one.text, "logprob": max(one.logprob, _LEAST_LOGPROB), "bytes": list(one.piece)}


def _new_id() -> str:
    return f"chatcmpl-{secrets.token_hex(12)}"


# ---------------------------------------------------------------------- refusals


class Refusal(Exception):
    """No answer, and why."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str = "invalid_request_error",
        field: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status."""
        self.code = code
        self.field = field
        """Which part of the request; None = all of it."""
        self.retry_after_s = retry_after_s
        """Whole seconds, at least 1."""

    def content(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error: dict[str, Any] = {"message": str(self), "type": kind, "param": self.field, "code": self.code}
        if self.retry_after_s is not None:
            error["retry_after_s"] = self.retry_after_s  # in a stream there are no headers left to say it
        return {"error": error}

    def reply(self) -> HttpReply:
        """As a whole answer."""
        return HttpReply(self.status, encode_json(self.content()), retry_after_s=self.retry_after_s)


def refusal_of(error: ChatRejected | Overloaded | RuntimeError) -> Refusal:
    """How an engine's error is told."""
    if isinstance(error, ChatRejected):
        return Refusal(400, str(error), error.code, error.field)
    if isinstance(error, Overloaded):
        return Refusal(429, str(error), "queue_full", retry_after_s=_whole(error.retry_after_s))
    if isinstance(error, ModelUnavailable):
        return Refusal(503, str(error), "model_unavailable", retry_after_s=_whole(error.retry_after_s))
    return Refusal(500, f"llama.cpp failed: {error}", "engine_failed")


def _whole(seconds: float) -> int:
    return max(math.ceil(min(seconds, 3600.0)), 1)
