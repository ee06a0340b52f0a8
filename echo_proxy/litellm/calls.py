"""What is LiteLLM asking of us, in our words? Request dicts of three endpoints become a Call."""

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from echo_proxy.litellm.parameters import parameters_of
from echo_proxy.litellm.turns import is_told_by_turns, items_of, turns_of
from echo_proxy.online.receive import own_scope, scope_of
from echo_proxy.online.service import scope_hash
from echo_proxy.policy import Policy
from echo_proxy.types import Call, Caller, Service

_ROUTES = (("/chat/completions", "chat"), ("/responses", "responses"), ("/messages", "messages"))
_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"none", "false", "0", "no", "off", ""})
_HASH = re.compile(r"[0-9a-f]{64}")
_ADMIN_ROLES = frozenset({"proxy_admin"})
"""Not the viewer role: who sees all scopes here may also forget in all."""
_ADMIN_USER = "default_user_id"
"""LITELLM_PROXY_ADMIN_NAME of litellm/constants.py."""

Kwargs = Mapping[str, Any]
"""LiteLLM's request keywords; they stop in this folder."""


def call_from(model_group: str, messages: Sequence[Mapping[str, Any]] | None, kwargs: Kwargs) -> Call:
    """The call as LiteLLM's router sees it, after authentication and before a deployment is chosen."""
    metadata = metadata_of(kwargs)
    endpoint = endpoint_of(metadata)
    items = items_of(endpoint, messages, kwargs)
    turns = turns_of(items)
    parameters = parameters_of(kwargs, metadata) if turns and is_told_by_turns(items or ()) else None
    return Call(
        call_id=str(kwargs.get("litellm_call_id") or ""),
        model_group=model_group,
        endpoint=endpoint,
        messages=turns or (),
        caller=caller_of(metadata),
        obstacle=obstacle_in(endpoint, kwargs) or (None if turns is not None else "not_only_text"),
        is_opted_out=_is_wanted(metadata, "x-echo-bypass"),
        wants_json=_response_format(endpoint, kwargs) == "json_object",
        is_streamed=bool(kwargs.get("stream")),
        deadline_s=_deadline_s(_header(metadata, "x-echo-deadline-ms")),
        preference=_preference(_header(metadata, "x-echo-preference")),
        priority=_priority(_header(metadata, "x-echo-priority")),
        parameters=parameters,
        is_unkept=_is_wanted(metadata, "x-echo-no-store"),
        wants_fresh=parameters is None or _is_narrowed(metadata) or _is_wanted(metadata, "x-echo-no-answer"),
    )


def _is_narrowed(metadata: Mapping[str, Any]) -> bool:
    """A routing plugin of the operator has named the models that may answer, and a store is not among them."""
    return metadata.get("_routing_plugin_candidate_models") is not None


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
    return Service(scope_hash(own_scope(caller, policy)), rank)


def endpoint_of(metadata: Mapping[str, Any]) -> str:
    """chat, responses, messages, or the route itself when it is none of them."""
    route = str(metadata.get("user_api_key_request_route") or "")
    return next((name for suffix, name in _ROUTES if route.endswith(suffix)), route or "unknown")


def caller_of(metadata: Mapping[str, Any]) -> Caller:
    """Who asks, as LiteLLM's key check established it."""
    team, organization, user = (metadata.get(f"user_api_key_{name}_id") for name in ("team", "org", "user"))
    key = metadata.get("user_api_key_hash") or metadata.get("user_api_key")
    said = metadata.get("user_api_key_metadata")
    return Caller(
        _key(key, team, organization, user),
        team,
        organization,
        _known_user(user),
        domain=_domain(metadata.get("user_api_key_team_metadata")),
        is_unkept=_is_unkept(said),
        key_domain=_domain(said),
    )


def caller_from_auth(auth: Any) -> Caller:
    """Who asks a route of ours; `auth` is LiteLLM's UserAPIKeyAuth."""
    role = getattr(auth.user_role, "value", auth.user_role)
    said = getattr(auth, "metadata", None)  # an operator's own key check may leave it out
    return Caller(
        key=_key(auth.api_key, auth.team_id, auth.org_id, auth.user_id),
        team=auth.team_id,
        organization=auth.org_id,
        user=_known_user(auth.user_id),
        is_admin=role in _ADMIN_ROLES,
        domain=_domain(getattr(auth, "team_metadata", None)),
        is_unkept=_is_unkept(said),
        key_domain=_domain(said),
    )


def _known_user(user: str | None) -> str | None:
    """None for the one user that stands for the proxy's admin: the keys that he makes without naming a user, and hands
    out, may carry it, so it tells nobody apart and must not join them either."""
    return None if user == _ADMIN_USER else user


def _domain(metadata: Any) -> str | None:
    """What stands in the metadata of a team or a key. LiteLLM drops whatever a client sends under the names that these
    come by. A team's may be written by admins of the proxy and of the team's organization, a key's by its owner too."""
    found = metadata.get("echo_domain") if isinstance(metadata, Mapping) else None
    return str(found) if found else None


def _is_unkept(key_metadata: Any) -> bool:
    """What stands in the key's metadata; any word but a clear no keeps the answers out."""
    found = key_metadata.get("echo_no_store") if isinstance(key_metadata, Mapping) else None
    return str(found).strip().lower() not in _NO


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


def _is_wanted(metadata: Mapping[str, Any], name: str) -> bool:
    return _header(metadata, name).strip().lower() in _YES


def _header(metadata: Mapping[str, Any], name: str) -> str:
    headers = metadata.get("headers")
    if not isinstance(headers, Mapping):
        return ""
    return next((str(value) for key, value in headers.items() if str(key).lower() == name), "")
