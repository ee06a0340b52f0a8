"""Is this call ours, and if so, as whose request?"""

import hashlib
import secrets

from echo_proxy.policy import Policy
from echo_proxy.types import Call, Caller, PassThrough, Request

ENDPOINTS = frozenset({"chat", "responses", "messages"})
"""Endpoints whose prompts Echo can add examples to."""


def receive(call: Call, policy: Policy, now: float) -> Request | PassThrough:
    """The call as a request of ours, or why it is passed through."""
    reason = _reason_to_pass(call, policy)
    if reason:
        return PassThrough(reason)
    system = "\n\n".join(message.content for message in call.messages if message.role == "system")
    dialogue = tuple(message for message in call.messages if message.role != "system")
    if not dialogue or dialogue[-1].role != "user" or not dialogue[-1].content.strip():
        return PassThrough("no_user_turn")
    return Request(
        call_id=call.call_id,
        decision_id=new_id(now),
        model_group=call.model_group,
        endpoint=call.endpoint,
        system=system,
        dialogue=dialogue,
        caller=call.caller,
        scope=scope_of(call.caller, policy.scope),
        partition=partition_of(system, call.wants_json),
        wants_json=call.wants_json,
        is_streamed=call.is_streamed,
        received_at=now,
        rooms=call.rooms,
        deadline_s=call.deadline_s,
        preference=call.preference,
        priority=call.priority,
        conversation=conversation_of(scope_of(call.caller, policy.scope), system, dialogue[0].content),
    )


def _reason_to_pass(call: Call, policy: Policy) -> str | None:
    if call.endpoint not in ENDPOINTS:
        return "endpoint"
    if call.is_opted_out and policy.allow_client_opt_out:
        return "opt_out"
    return call.obstacle


def scope_of(caller: Caller, share: str) -> str:
    """Who may share examples with the caller, as `<kind>:<identity>`.

    A caller that lacks the wider identity falls back to its own key: falling back to a shared scope would mix tenants.
    """
    if share == "public":
        return "public:all"
    identity = {"team": caller.team, "organization": caller.organization, "user": caller.user}.get(share)
    return f"{share}:{identity}" if identity else f"key:{caller.key}"


def partition_of(system: str, wants_json: bool) -> str:
    """Hash of what changes the meaning of a request beside its words, 16 hex digits."""
    return hashlib.sha256(f"{system}\x00{'json' if wants_json else 'text'}".encode()).hexdigest()[:16]


def conversation_of(scope: str, system: str, first_turn: str) -> str:
    """What all turns of a conversation share, 32 hex digits; whoever begins with the same words shares it too."""
    return hashlib.sha256("\x00".join((scope, system, first_turn)).encode("utf-8", "replace")).hexdigest()[:32]


def new_id(now: float) -> str:
    """A time-ordered id that cannot be guessed: 12 hex digits of milliseconds, 20 of chance."""
    return f"{int(now * 1000):012x}{secrets.token_hex(10)}"
