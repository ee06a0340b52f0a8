"""What does the record say, so that the decision can be explained and evaluated later?"""

from collections.abc import Mapping
from dataclasses import replace

from echo_proxy.answers.observe import EXPLAINED, explain_answer
from echo_proxy.online.admit import user_behind
from echo_proxy.online.combine import FEEDBACK
from echo_proxy.policy import LogPolicy
from echo_proxy.types import (
    Attempt,
    Candidate,
    Decision,
    DecisionRecord,
    Evidence,
    Json,
    Outcome,
    Plan,
    Quality,
)

MAX_TEXT = 2_000
"""Characters kept of a text; records are for looking at, examples hold the whole. They are cut when they have been
cleaned (admission/telling.py): half a secret is not recognised."""


def record_of(
    plan: Plan,
    outcome: Outcome,
    quality: Quality,
    earned: float,
    evidence: tuple[Evidence, ...],
    rules: LogPolicy,
    may_keep: bool = True,
) -> DecisionRecord:
    """The first revision of a decision's record; not `may_keep` = no example may ever come of its request."""
    request = plan.request
    last = _last_decision(plan, outcome)
    return DecisionRecord(
        id=request.decision_id,
        policy=plan.policy,
        scope=request.scope,
        created_at=request.received_at,
        expires_at=request.received_at + rules.ttl_s,
        revision=1,
        caller=request.caller.key,
        arm=last.arm.name,
        is_acted=any(attempt.decision is not None and attempt.error is None for attempt in outcome.attempts),
        segment=last.segment,
        propensity=last.propensity,
        served_by=outcome.deployment_id,
        n_examples=plan.prompt.n_examples,
        prompt_tokens=outcome.prompt_tokens,
        completion_tokens=outcome.completion_tokens,
        cost_usd=outcome.cost_usd,
        latency_s=outcome.latency_s,
        is_whole=outcome.is_whole,
        quality=quality.estimate,
        quality_weight=quality.weight,
        reward=earned,
        evidence=evidence,
        example_ids=plan.prompt.example_ids,
        admitted_id="",
        feedback=None,
        explanation=explain(plan, outcome, quality, rules, may_keep),
        signals=quality.signals,
        deadline_s=_deadline_s(plan, outcome),
    )


def _deadline_s(plan: Plan, outcome: Outcome) -> float | None:
    """From the request's arrival, as the first attempt knew it: later ones had less time left."""
    decisions = [attempt.decision for attempt in outcome.attempts if attempt.decision is not None]
    situation = (decisions[0] if decisions else plan.decision).situation
    return situation.conditions.deadline_s if situation else None


def revised_record(
    record: DecisionRecord, quality: Quality, earned: float, evidence: tuple[Evidence, ...], comment: str = ""
) -> DecisionRecord:
    """The next revision, once more is known of what the answer was worth."""
    explanation: dict[str, Json] = {**record.explanation, "signals": dict(quality.signals)}
    if comment:
        explanation["comment"] = comment
    return replace(
        record,
        revision=record.revision + 1,
        quality=quality.estimate,
        quality_weight=quality.weight,
        reward=earned,
        evidence=evidence,
        feedback=quality.signals.get(FEEDBACK),
        signals=quality.signals,
        explanation=explanation,
    )


def may_hold_texts(plan: Plan, outcome: Outcome, rules: LogPolicy) -> bool:
    """Whether anything of a decision's texts may be written down: what may not be kept may not be read here either."""
    is_unkept = plan.request.is_unkept or plan.request.caller.is_unkept
    return rules.texts and outcome.may_keep and not is_unkept


def explain(
    plan: Plan, outcome: Outcome, quality: Quality, rules: LogPolicy, may_keep: bool = True
) -> Mapping[str, Json]:
    """The decision in words and numbers, for a reader. Its texts are whole, and not yet cleaned."""
    has_texts = may_hold_texts(plan, outcome, rules)
    selection = plan.selection
    reader = plan.request.caller.key if has_texts else ""
    used = set(plan.prompt.example_ids)
    candidates: list[Json] = [
        _candidate(candidate, "used" if candidate.example.id in used else "chosen, arm took fewer", reader)
        for candidate in selection.chosen
    ]
    candidates += [
        _candidate(rejection.candidate, f"left out: {rejection.reason}", reader) for rejection in selection.rejected
    ]
    return {
        "endpoint": plan.request.endpoint,
        "model_group": plan.request.model_group,
        "mode": "shadow" if plan.is_shadow else "act",
        "partition": plan.request.partition,
        "turns": plan.request.n_user_turns,
        "may_keep": may_keep and outcome.may_keep and not plan.request.is_unkept,
        "person": user_behind(plan.request.caller),
        "request": plan.request.text if has_texts else None,
        "answer": outcome.text if has_texts else None,
        "candidates": candidates,
        "decision": _decision(_last_decision(plan, outcome)),
        "attempts": [_attempt(attempt) for attempt in outcome.attempts],
        "outcome": {
            "finish_reason": outcome.finish_reason,
            "error": outcome.error,
            "time_to_first_token_s": outcome.time_to_first_token_s,
        },
        "signals": {name: float(value) for name, value in quality.signals.items()},
        EXPLAINED: explain_answer(plan, outcome),
        "bypasses": list(plan.bypasses),
        "plan_s": round(plan.plan_s, 6),
    }


def _last_decision(plan: Plan, outcome: Outcome) -> Decision:
    made = [attempt.decision for attempt in outcome.attempts if attempt.decision is not None]
    return made[-1] if made else plan.decision


def _candidate(candidate: Candidate, fate: str, reader: str) -> Json:
    """With the request only where the reader wrote it: a record outlives others' examples. Empty = with none."""
    example = candidate.example
    return {
        "id": example.id,
        "distance": round(candidate.distance, 4),
        "names": str(candidate.names),
        "utility": round(candidate.utility, 4),
        "fate": fate,
        "request": example.request if reader and example.writer == reader else None,
    }


def _decision(decision: Decision) -> Json:
    arms: dict[str, Json] = {
        # a reader is not told of rewards that cannot be; the lesson has what was really expected
        name: {
            "probability": round(p, 6),
            "mean_reward": round(min(max(mean, 0.0), 1.0), 4),
            "weight": round(weight, 3),
        }
        for name, p, mean, weight in zip(decision.arms, decision.pmf, decision.means, decision.weights, strict=True)
    }
    taken: dict[str, Json] = {
        one.name: {
            "why": one.why,
            "from": {arm: round(p, 4) for arm, p in zip(decision.arms, one.penalties, strict=True) if p},
        }
        for one in decision.taken
    }
    return {
        "arm": decision.arm.name,
        "propensity": decision.propensity,
        "segment": decision.segment,
        "arms": arms,
        "adjustments": list(decision.adjustments),
        "taken": taken,
        "invites_feedback": decision.invites_feedback,
        "seed": decision.seed,
    }


def _attempt(attempt: Attempt) -> Json:
    return {
        "deployment": attempt.deployment_id,
        "arm": attempt.decision.arm.name if attempt.decision else None,
        "error": attempt.error,
        "blamed": attempt.is_blamed,
    }
