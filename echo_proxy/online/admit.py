"""Does the answer become an example?"""

from collections.abc import Sequence

from echo_proxy.online.validators import is_refusal
from echo_proxy.policy import Policy
from echo_proxy.protocols import Examples
from echo_proxy.types import Example, Outcome, Plan, Quality, Query


def reason_to_refuse(plan: Plan, outcome: Outcome, quality: Quality, policy: Policy) -> str | None:
    """Why the answer must not be kept; None when it may."""
    rules = policy.admission
    obstacles = (
        (not rules.enabled, "disabled"),
        (outcome.error is not None, "error"),
        (plan.vector is None, "no_vector"),
        (not _is_from_teacher(outcome, policy), "not_a_teacher"),
        (not outcome.may_keep, "redacted"),
        (not outcome.is_whole, "not_whole"),
        (not outcome.text.strip() or is_refusal(outcome.text, policy.judge), "empty_or_refusal"),
        (quality.estimate < rules.min_feedback, "quality"),
        (plan.request.n_user_turns > rules.max_turns, "turns"),
        (n_tokens(plan, outcome) > rules.max_tokens, "tokens"),
    )
    return next((reason for stands, reason in obstacles if stands), None)


def example_from(plan: Plan, outcome: Outcome, quality: Quality, policy: Policy) -> Example:
    """The example that the answer becomes. Only for plans with a vector."""
    assert plan.vector is not None  # reason_to_refuse has seen to it
    request = plan.request
    return Example(
        id=request.decision_id,
        scope=request.scope,
        partition=request.partition,
        request=request.text,
        response=outcome.text,
        vector=plan.vector,
        teacher=outcome.deployment_id,
        decision_id=request.decision_id,
        writer=request.caller.key,
        quality=quality.estimate,
        n_tokens=n_tokens(plan, outcome),
        created_at=request.received_at,
        expires_at=request.received_at + policy.admission.ttl_s,
    )


async def twins_of(example: Example, policy: Policy, store: Examples) -> tuple[Example, ...]:
    """Stored examples that ask the same, nearest first. Raises StoreUnavailable."""
    near = await store.nearest(
        Query(
            example.vector,
            example.scope,
            example.partition,
            k=4,
            max_distance=policy.admission.duplicate_distance,
            now=example.created_at,
        )
    )
    return tuple(candidate.example for candidate in near if candidate.example.id != example.id)


def same_answer(example: Example, twins: Sequence[Example]) -> Example | None:
    """The twin that says the same already: it stays, because its outcomes are worth more than a newer date."""
    return next((twin for twin in twins if twin.response == example.response), None)


def n_tokens(plan: Plan, outcome: Outcome) -> int:
    """Tokens of the pair, estimated: the question by its length (about 4 characters a token), the answer as billed."""
    return max(1, len(plan.request.text) // 4) + outcome.completion_tokens


def _is_from_teacher(outcome: Outcome, policy: Policy) -> bool:
    served = next((attempt for attempt in reversed(outcome.attempts) if attempt.error is None), None)
    return served is not None and any(
        arm.is_teacher and arm.deployment == served.deployment for arm in policy.to_arms()
    )
