"""What is a local engine told of a request beside its words?"""

import hashlib

from echo_proxy.limits.deadline import deadline_of
from echo_proxy.limits.priority import priority_of
from echo_proxy.policy import Policy
from echo_proxy.types import Plan, Selection, Service

_MOST_HINTS = 4
"""More would be searched through for nothing. # guess, not yet measured"""
_LEAST_LEFT_S = 0.001
"""A deadline that has passed: as urgent as can be said."""


def service_of(plan: Plan, policy: Policy, now: float, *, is_ours: bool) -> Service:
    """What the engine is told of an attempt.

    Args:
        now: seconds since the epoch.
        is_ours: the attempt was chosen by the policy, so that it gets the policy's help; otherwise, as in shadow mode,
            it is only kept apart from other tenants.
    """
    request = plan.request
    scope = scope_hash(request.scope)
    if not is_ours or plan.is_shadow:
        return Service(scope)
    deadline_s = deadline_of(request, policy)
    left_s = None if deadline_s is None else max(deadline_s - (now - request.received_at), _LEAST_LEFT_S)
    return Service(scope, priority_of(request, policy.priority), left_s, hints(plan.selection, plan.prompt.example_ids))


def scope_hash(scope: str) -> str:
    """Stands for a scope outside this process, 32 hex digits: names of teams and users stay here."""
    return hashlib.sha256(scope.encode("utf-8", "replace")).hexdigest()[:32]


def hints(selection: Selection, shown: tuple[str, ...]) -> tuple[str, ...]:
    """Retrieved answers that the new one may resemble, the most useful first; those in the prompt are known anyway.

    Also those for which there was no room: they cost no tokens here. All were found in the request's own scope.
    """
    rejected = [one.candidate for one in selection.rejected if one.reason != "utility"]
    likely = [*selection.chosen, *sorted(rejected, key=lambda one: -one.utility)]
    texts = [one.example.response for one in likely if one.example.id not in shown]
    return tuple(dict.fromkeys(texts))[:_MOST_HINTS]
