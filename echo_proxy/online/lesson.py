"""What does a settled decision teach the models, beside the sums?"""

import hashlib
from dataclasses import replace

from echo_proxy.online.log import may_hold_texts
from echo_proxy.policy import LogPolicy
from echo_proxy.types import Amendment, DecisionRecord, Lesson, Outcome, Plan


def lesson_of(record: DecisionRecord, plan: Plan, outcome: Outcome, rules: LogPolicy) -> Lesson | None:
    """The lesson of a first settlement; None when the decision was not made by our router.

    It holds the request's vector only where the log may hold the text: much of a text can be guessed from its vector.
    """
    made = [attempt.decision for attempt in outcome.attempts if attempt.decision is not None]
    decision = made[-1] if made else plan.decision
    if decision.situation is None:
        return None
    may_hold_vector = may_hold_texts(plan, outcome, rules)
    return Lesson(
        decision_id=record.id,
        at=record.created_at,
        arms=decision.arms,
        pmf=decision.pmf,
        arm=decision.arm.name,
        is_acted=record.is_acted,
        means=decision.means,
        situation=decision.situation if may_hold_vector else replace(decision.situation, vector=None),
        evidence=record.evidence,
        trials=plan.selection.trials,
        quality=record.quality,
        quality_weight=record.quality_weight,
        reward=record.reward,
        cost_usd=record.cost_usd,
        latency_s=record.latency_s,
        time_to_first_token_s=outcome.time_to_first_token_s,
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        threshold=plan.selection.threshold,
        caller=record.caller,
        circle=circle_of(plan.request.scope, plan.request.partition),
    )


def circle_of(scope: str, partition: str) -> str:
    """Hash of what requests must agree in to share examples, 16 hex digits."""
    return hashlib.sha256(f"{scope}\x00{partition}".encode("utf-8", "replace")).hexdigest()[:16]


def amendment_of(record: DecisionRecord) -> Amendment:
    """What a later revision changes."""
    return Amendment(
        decision_id=record.id,
        revision=record.revision,
        evidence=record.evidence,
        quality=record.quality,
        quality_weight=record.quality_weight,
        reward=record.reward,
    )
