"""What is LiteLLM asking of us, in our words? Request dicts of three endpoints become a Call."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from echo_proxy.online.receive import scope_of
from echo_proxy.online.service import scope_hash
from echo_proxy.policy import Policy
from echo_proxy.types import Call, Caller, Message, Service

_ROUTES = (("/chat/completions", "chat"), ("/responses", "responses"), ("/messages", "messages"))
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_OPT_OUT = frozenset({"1", "true", "yes", "on"})
_HASH = re.compile(r"[0-9a-f]{64}")
_ADMIN_ROLES = frozenset({"proxy_admin"})
"""Not the viewer role: who sees all scopes here may also forget in all."""

Kwargs = Mapping[str, Any]
"""LiteLLM's request keywords; they stop in this folder."""


def call_from(model_group: str, messages: Sequence[Mapping[str, Any]] | None, kwargs: Kwargs) -> Call:
    """The call as LiteLLM's router sees it, after authentication and before a deployment is chosen."""
    metadata = metadata_of(kwargs)
    endpoint = endpoint_of(metadata)
    turns = _turns(endpoint, messages, kwargs)
    return Call(
        call_id=str(kwargs.get("litellm_call_id") or ""),
        model_group=model_group,
        endpoint=endpoint,
        messages=turns or (),
        caller=caller_of(metadata),
        obstacle=obstacle_in(endpoint, kwargs) or (None if turns is not None else "not_only_text"),
        is_opted_out=_header(metadata, "x-echo-bypass").lower() in _OPT_OUT,
        wants_json=_response_format(endpoint, kwargs) == "json_object",
        is_streamed=bool(kwargs.get("stream")),
        deadline_s=_deadline_s(_header(metadata, "x-echo-deadline-ms")),
        preference=_preference(_header(metadata, "x-echo-preference")),
        priority=_priority(_header(metadata, "x-echo-priority")),
    )


def metadata_of(kwargs: Kwargs) -> Mapping[str, Any]:
    """Where LiteLLM keeps who is asking; its place depends on the endpoint and on the hook."""
    inner = kwargs.get("litellm_params")
    for place in (kwargs, inner if isinstance(inner, Mapping) else {}):
        for key in ("litellm_metadata", "metadata"):
            found = place.get(key)
            if isinstance(found, Mapping) and "user_api_key_request_route" in found:
                return found
    return kwargs.get("metadata") or {}


def ticket_of(kwargs: Kwargs) -> str:
    """What one request is known by in every hook; empty when it has no id.

    The call id alone will not do: a client may set it by header, and with another tenant's id it would be taken for
    a retry of that tenant's request.
    """
    call_id = str(kwargs.get("litellm_call_id") or "")
    return f"{caller_of(metadata_of(kwargs)).key}:{call_id}" if call_id else ""


def group_of(kwargs: Kwargs) -> str:
    """The model group whose deployment answers, where the router has chosen one: also behind an alias or a fallback."""
    return str(metadata_of(kwargs).get("deployment_model_name") or "")


def stranger(kwargs: Kwargs, policy: Policy | None = None) -> Service:
    """What a local engine is told of a call that Echo does not serve: whose it is, and how urgent such calls are.

    As the policy of its group has it for its own calls, or else a caller would gain rank, or a second fair share of
    the queue, by asking for something that is passed through. Without a policy the key counts. No deadline, no hints.
    """
    caller = caller_of(metadata_of(kwargs))
    if policy is None:
        return Service(scope_hash(scope_of(caller, "key")))
    rank = policy.priority.default if policy.mode == "act" else 0  # in shadow mode no call has another
    return Service(scope_hash(scope_of(caller, policy.scope)), rank)


def endpoint_of(metadata: Mapping[str, Any]) -> str:
    """chat, responses, messages, or the route itself when it is none of them."""
    route = str(metadata.get("user_api_key_request_route") or "")
    return next((name for suffix, name in _ROUTES if route.endswith(suffix)), route or "unknown")


def caller_of(metadata: Mapping[str, Any]) -> Caller:
    """Who asks, as LiteLLM's key check established it."""
    team, organization, user = (metadata.get(f"user_api_key_{name}_id") for name in ("team", "org", "user"))
    key = metadata.get("user_api_key_hash") or metadata.get("user_api_key")
    return Caller(_key(key, team, organization, user), team, organization, user)


def caller_from_auth(auth: Any) -> Caller:
    """Who asks a route of ours; `auth` is LiteLLM's UserAPIKeyAuth."""
    role = getattr(auth.user_role, "value", auth.user_role)
    return Caller(
        key=_key(auth.api_key, auth.team_id, auth.org_id, auth.user_id),
        team=auth.team_id,
        organization=auth.org_id,
        user=auth.user_id,
        is_admin=role in _ADMIN_ROLES,
    )


def _key(key: Any, team: str | None, organization: str | None, user: str | None) -> str:
    """A hash that stands for the caller.

    LiteLLM hashes its own keys but not those of an operator's own check. Callers with a JWT have no key at all: they
    are told apart by who they are, because one shared key would mix them.
    """
    if key and _HASH.fullmatch(str(key)):
        return str(key)
    known = [str(key)] if key else [str(one) for one in (organization, team, user) if one]
    return hashlib.sha256("\x00".join(known).encode("utf-8", "replace")).hexdigest() if known else "anonymous"


_OBSTACLES = (
    ("tools", ("tools", "functions")),
    ("logprobs", ("logprobs", "top_logprobs")),
    ("audio_or_prediction", ("audio", "modalities", "prediction")),
    ("server_side_history", ("previous_response_id", "conversation", "prompt", "background")),
    ("stop", ("stop", "stop_sequences")),  # an answer cut at the caller's word looks whole and would teach that
    ("no_log", ("no-log",)),  # its outcome would never be reported to us
)
"""Reasons to pass a call through, with the fields that bring them about."""


def obstacle_in(endpoint: str, kwargs: Kwargs) -> str | None:
    """Why an example must not stand in this call; the reason is what gets counted."""
    found = next((reason for reason, fields in _OBSTACLES if any(kwargs.get(field) for field in fields)), None)
    if found:
        return found
    if (kwargs.get("n") or 1) != 1:
        return "several_choices"
    if kwargs.get("web_search_options") is not None:  # an empty mapping asks for it too
        return "web_search"
    if _response_format(endpoint, kwargs) not in ("text", "json_object"):
        return "response_format"
    return None


def _response_format(endpoint: str, kwargs: Kwargs) -> str:
    chosen = kwargs.get("response_format")
    if endpoint == "responses":
        chosen = _inner(kwargs, "text")
    elif endpoint == "messages":
        chosen = kwargs.get("output_format") or _inner(kwargs, "output_config")
    if chosen is None:
        return "text"
    return str(chosen.get("type", "unknown")) if isinstance(chosen, Mapping) else "schema"


def _inner(kwargs: Kwargs, name: str) -> Any:
    outer = kwargs.get(name)
    return outer.get("format") if isinstance(outer, Mapping) else None


def _deadline_s(header: str) -> float | None:
    """Seconds; None without the header, or when it is no number above 0: a wrong wish must not fail the call."""
    wanted = _number(header)
    return wanted / 1000 if wanted is not None and wanted > 0 else None


def _preference(header: str) -> float | None:
    """[0, 1]; None without the header, or when it is another value."""
    wanted = _number(header)
    return wanted if wanted is not None and 0 <= wanted <= 1 else None


_PRIORITIES = {"low": -10, "normal": 0, "high": 10}


def _priority(header: str) -> int | None:
    """[-100, 100]; None without the header, or when it is another value."""
    try:
        wanted = _PRIORITIES.get(header.strip().lower())
        wanted = int(header) if wanted is None else wanted
    except ValueError:
        return None
    return wanted if -100 <= wanted <= 100 else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _header(metadata: Mapping[str, Any], name: str) -> str:
    headers = metadata.get("headers")
    if not isinstance(headers, Mapping):
        return ""
    return next((str(value) for key, value in headers.items() if str(key).lower() == name), "")


# ------------------------------------------------------------------ dialogues


def _turns(endpoint: str, messages: Sequence[Mapping[str, Any]] | None, kwargs: Kwargs) -> tuple[Message, ...] | None:
    """The dialogue as text, system first; None when it holds something else."""
    if endpoint == "responses":
        given = kwargs.get("input")
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        return _all_text(_system(kwargs.get("instructions")), items)
    if endpoint == "messages":
        return _all_text(_system(kwargs.get("system")), messages or kwargs.get("messages"))
    return _all_text([], messages or kwargs.get("messages"))


def _system(content: Any) -> list[Mapping[str, Any]]:
    return [{"role": "system", "content": content}] if content else []


def _all_text(system: list[Mapping[str, Any]], items: Any) -> tuple[Message, ...] | None:
    if not isinstance(items, Sequence) or isinstance(items, str):
        return None
    turns = [_message(item) for item in (*system, *items)]
    return None if any(turn is None for turn in turns) else tuple(turn for turn in turns if turn is not None)


def _message(item: Any) -> Message | None:
    if not isinstance(item, Mapping) or item.get("tool_calls") or item.get("function_call"):
        return None
    if item.get("type") not in (None, "message"):
        return None
    role = _role(item.get("role"))
    text = text_of(item.get("content"))
    return None if role is None or text is None else Message(role, text)


def _role(role: Any) -> Literal["system", "user", "assistant"] | None:
    if role in ("system", "developer"):
        return "system"
    if role == "user":
        return "user"
    return "assistant" if role == "assistant" else None


def text_of(content: Any) -> str | None:
    """The text of a message's content; None when a part is not text."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return None
    parts = [_part_text(part) for part in content]
    return None if any(part is None for part in parts) else "\n".join(part for part in parts if part)


def _part_text(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and part.get("type") in _TEXT_PARTS and isinstance(part.get("text"), str):
        return str(part["text"])
    return None
