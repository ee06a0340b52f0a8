"""Is this call ours, and if so, as whose request?"""

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import replace

from echo_proxy.answers.identical import is_deterministic
from echo_proxy.policy import Policy
from echo_proxy.types import Call, Caller, Message, PassThrough, Request

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
    caller = placed(call.caller, policy)
    scope = own_scope(caller, policy)
    return Request(
        call_id=call.call_id,
        decision_id=new_id(now),
        model_group=call.model_group,
        endpoint=call.endpoint,
        system=system,
        dialogue=dialogue,
        caller=caller,
        scope=scope,
        partition=partition_of(system, call.wants_json),
        wants_json=call.wants_json,
        is_streamed=call.is_streamed,
        received_at=now,
        rooms=call.rooms,
        deadline_s=call.deadline_s,
        preference=call.preference,
        priority=call.priority,
        conversation=conversation_of(scope, system, _beginning(dialogue)),
        wider=wider_scopes(caller, scope, policy),
        answer_key=answer_key_of(call, system, dialogue),
        is_unkept=caller.is_unkept or (call.is_unkept and policy.admission.allow_client_no_store),
        wants_fresh=call.wants_fresh,
        is_deterministic=call.parameters is not None and is_deterministic(call.parameters),
    )


def _reason_to_pass(call: Call, policy: Policy) -> str | None:
    if call.endpoint not in ENDPOINTS:
        return "endpoint"
    if call.is_opted_out and policy.allow_client_opt_out:
        return "opt_out"
    return call.obstacle


def placed(caller: Caller, policy: Policy) -> Caller:
    """The caller with the domain that the policy believes: the key's where it is trusted, the team's, the policy's."""
    said = caller.key_domain if policy.trust_key_domains else None
    domain = said or caller.domain or policy.domain
    return caller if domain == caller.domain else replace(caller, domain=domain)


def own_scope(caller: Caller, policy: Policy) -> str:
    """Where the caller's answers are kept under a policy."""
    return scope_of(placed(caller, policy), policy.scope)


def scope_of(caller: Caller, share: str) -> str:
    """Who may share examples with the caller, as `<kind>:<identity>`.

    A caller that lacks the wider identity falls back to its own key: falling back to a shared scope would mix tenants.
    """
    return _wide_scope(caller, share) or f"key:{caller.key}"


def wider_scopes(caller: Caller, own: str, policy: Policy) -> tuple[str, ...]:
    """Scopes beside its own whose examples a caller may use; one that lacks an identity has no part in that scope."""
    shares = policy.sharing.scopes if policy.sharing else ()
    found = [scope for share in shares if (scope := _wide_scope(caller, share)) and scope != own]
    return tuple(dict.fromkeys(found))


def _wide_scope(caller: Caller, share: str) -> str | None:
    if share == "public":
        return "public:all"
    identities = {
        "team": caller.team,
        "organization": caller.organization,
        "user": caller.user,
        "domain": caller.domain,
    }
    identity = identities.get(share)
    return f"{share}:{identity}" if identity else None


def answer_key_of(call: Call, system: str, dialogue: Sequence[Message]) -> str:
    """Hash of all that shapes an answer beside the last turn, 32 hex digits; empty when that cannot be told."""
    if call.parameters is None:
        return ""
    earlier = [[turn.role, turn.content] for turn in dialogue[:-1]]
    shape = [call.model_group, system, earlier, call.wants_json, call.parameters]
    return hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:32]


def partition_of(system: str, wants_json: bool) -> str:
    """Hash of what changes the meaning of a request beside its words, 16 hex digits."""
    return hashlib.sha256(f"{system}\x00{'json' if wants_json else 'text'}".encode()).hexdigest()[:16]


def _beginning(dialogue: Sequence[Message]) -> str:
    """The first user turn, with what an assistant says before it: many conversations begin with one greeting."""
    first = next(place for place, turn in enumerate(dialogue) if turn.role == "user")
    return "\x00".join(turn.content for turn in dialogue[: first + 1])


def conversation_of(scope: str, system: str, first_turn: str) -> str:
    """What all turns of a conversation share, 32 hex digits; whoever begins with the same words shares it too."""
    return hashlib.sha256("\x00".join((scope, system, first_turn)).encode("utf-8", "replace")).hexdigest()[:32]


def new_id(now: float) -> str:
    """A time-ordered id that cannot be guessed: 12 hex digits of milliseconds, 20 of chance."""
    return f"{int(now * 1000):012x}{secrets.token_hex(10)}"
