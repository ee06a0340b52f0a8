"""What shapes the answer to a call beside its dialogue? The same words for the same meaning in all three endpoints."""

import json
import math
from collections.abc import Mapping
from typing import Any

Kwargs = Mapping[str, Any]

_ONE_NAME = {
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
}
_INNER = {
    "reasoning": {"effort": "reasoning_effort"},
    "output_config": {"effort": "reasoning_effort", "format": ""},
    "text": {"verbosity": "verbosity", "format": ""},
}
"""Fields that hold others; empty = said elsewhere."""
_SHAPING = frozenset(
    {
        *_ONE_NAME,
        *_INNER,
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "repetition_penalty",
        "logit_bias",
        "reasoning_effort",
        "thinking",
        "verbosity",
        "truncation",
        "allowed_openai_params",
        "extra_body",
        "extra_headers",
        "guardrails",
        "mock_response",
        "allowed_model_region",
    }
)
"""Looked for also where the client has not sent them: a hook of the operator may have."""
_ELSEWHERE = frozenset(
    {
        # parts of the answer key, or obstacles, as they stand in Call
        "model",
        "messages",
        "input",
        "instructions",
        "system",
        "response_format",
        "output_format",
        "n",
        # how the answer is delivered, billed and logged
        "stream",
        "stream_options",
        "_litellm_strip_stream_usage",
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "store",
        "service_tier",
        "metadata",
        "litellm_metadata",
        "tags",
        "litellm_call_id",
        "litellm_trace_id",
        "litellm_session_id",
        "litellm_logging_obj",
        "proxy_server_request",
        "secret_fields",
        "timeout",
        "num_retries",
        "cache",
    }
)
_ANOTHER_S_MODEL = ("api_key", "api_base", "base_url")
"""The client brings its own provider: what that answers is nobody else's."""


def parameters_of(kwargs: Kwargs, metadata: Kwargs) -> str | None:
    """Canonical JSON of all that shapes the answer, empty when nothing does; None when that cannot be known.

    Fields that nobody here knows are part of it, so that a new one of some provider separates requests from the first
    day on. So are the tags by which LiteLLM chooses deployments, those of key, team and client together: who may be
    answered by some models alone is not given another model's answer.

    Args:
        kwargs: of LiteLLM's request.
        metadata: where LiteLLM keeps who is asking.
    """
    body = (kwargs.get("proxy_server_request") or {}).get("body")
    if not isinstance(body, Mapping) or any(kwargs.get(name) or body.get(name) for name in _ANOTHER_S_MODEL):
        return None
    found: dict[str, Any] = _tags(metadata.get("tags"))
    for name in sorted((_SHAPING | {str(one) for one in body}) - _ELSEWHERE):
        value = kwargs[name] if name in kwargs else body.get(name)
        for key, part in _parts(name, value):
            if part is not None and found.setdefault(key, _plain(part)) != _plain(part):
                return None  # said twice, and not the same
    try:
        return json.dumps(found, sort_keys=True, separators=(",", ":"), allow_nan=False) if found else ""
    except (TypeError, ValueError):
        return None


def _tags(tags: Any) -> dict[str, Any]:
    """Those of the body are among them. Neither order nor number counts."""
    given = tags if isinstance(tags, list | tuple | set) else [tags] if tags else []
    return {"tags": sorted({str(tag) for tag in given})} if given else {}


def _parts(name: str, value: Any) -> list[tuple[str, Any]]:
    """A field as the fields that it stands for."""
    inner = _INNER.get(name)
    if inner is None or not isinstance(value, Mapping):
        return [(_ONE_NAME.get(name, name), value)]
    named = {str(key): part for key, part in value.items()}
    known = [(inner[key], part) for key, part in named.items() if inner.get(key)]
    rest = {key: part for key, part in named.items() if key not in inner and part is not None}
    return [*known, (name, rest or None)]


def _plain(value: Any) -> Any:
    """1.0 and 1 mean the same; LiteLLM's own objects become what they hold."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items() if part is not None}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    dump = getattr(value, "model_dump", None)
    return _plain(dump(exclude_none=True)) if callable(dump) else value
