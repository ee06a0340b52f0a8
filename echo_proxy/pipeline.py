"""The path of a request: plan() before the call, settle() after the answer, revise() when feedback comes later.

Read this file first. Each line is a step, each step a file of that name in `online/`.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from echo_proxy.answers.consider import consider
from echo_proxy.answers.observe import known_already, observed, offload_by, offload_of
from echo_proxy.answers.pool import Pools
from echo_proxy.errors import StoreUnavailable
from echo_proxy.learning.knowledge import Knowledge
from echo_proxy.limits.deadline import deadline_of, timeliness
from echo_proxy.online.admit import example_from, is_kept_from, reason_to_refuse
from echo_proxy.online.assemble import assemble
from echo_proxy.online.combine import FEEDBACK, combine
from echo_proxy.online.embed import embed, identity_of
from echo_proxy.online.familiar import Familiar
from echo_proxy.online.judge import appraise
from echo_proxy.online.learn import evidence_from, example_increments, increments_between, revised, use_of
from echo_proxy.online.lesson import amendment_of, lesson_of
from echo_proxy.online.log import record_of, revised_record
from echo_proxy.online.measure import Answer, measure
from echo_proxy.online.retrieve import retrieve
from echo_proxy.online.reward import reward
from echo_proxy.online.route import route
from echo_proxy.online.sample import Heard, JudgeCall, SameCall, ShadowCall, judge_call, same_call, shadow_call
from echo_proxy.online.select import select
from echo_proxy.online.situation import conditions_of, situation_of
from echo_proxy.policy import Policy
from echo_proxy.protocols import Clock, Embedder, Store, UtilityModel
from echo_proxy.types import (
    STORED,
    Attempt,
    Candidate,
    Decision,
    DecisionRecord,
    Embedding,
    Example,
    Feedback,
    Outcome,
    Plan,
    Prompt,
    Quality,
    Request,
    SeenAnswer,
    Selection,
    Settlement,
    Turn,
    Use,
)


@dataclass(frozen=True, slots=True)
class Parts:
    """What the steps of one policy work with."""

    policy: Policy
    embedder: Embedder
    store: Store
    knowledge: Knowledge
    utility: UtilityModel
    clock: Clock
    new_seed: Callable[[], int]
    familiar: Familiar = field(default_factory=Familiar)
    pools: Pools = field(default_factory=Pools)


@dataclass(frozen=True, slots=True)
class Settled:
    """What an outcome leads to."""

    settlement: Settlement
    example: Example | None
    """To be kept, when the answer is admitted."""
    refusal: str | None
    """Why it is not."""
    turn: Turn | None = None
    """To be remembered, when the conversation shall stay where it is."""
    judge_call: JudgeCall | None = None
    """To be asked beside the path, when the answer is sampled; so is the next."""
    shadow_call: ShadowCall | None = None
    seen: SeenAnswer | None = None
    """To be noted, when the answer tells whether a stored one was right."""
    same_call: SameCall | None = None
    """To be asked beside the path, when only a judge can tell that."""
    asked: str = ""
    """Text that the example's vector stands for."""
    wider: tuple[str, ...] = ()
    """Scopes that are to have a copy of the example."""
    team: str = ""
    """Of its writer; empty = none is known."""


async def plan(request: Request, available: Collection[str], parts: Parts) -> Plan | None:
    """Everything that is decided before the call; None when no arm of the policy is available.

    Raises EmbedderError. A store that is away costs the examples, not the decision.
    """
    policy, started = parts.policy, parts.clock.monotonic()
    vector = await embed(request, parts.embedder)
    found = await _found(request, vector, parts)
    seed = parts.new_seed()
    selection = _selected(request, found.candidates, seed, parts)
    conditions = conditions_of(request, found.last_deployment, policy, parts.knowledge)
    situation = situation_of(request, vector, selection, conditions, policy)
    decision = route(request, selection, situation, available, policy, parts.knowledge, seed)
    if decision is None:
        return None
    prompt = _prompt(selection, decision, policy)
    answer = None if request.wants_fresh else consider(request, found.candidates, policy, seed, parts.pools)
    spent, is_shadow = parts.clock.monotonic() - started, policy.mode == "shadow"
    return Plan(request, policy.name, vector, selection, decision, prompt, found.bypasses, is_shadow, spent, answer)


def reroute(before: Plan, available: Collection[str], parts: Parts) -> Plan | None:
    """The plan with another draw among what is available now, as busy as it is now: after a failed attempt."""
    request, policy, first = before.request, parts.policy, before.decision.situation
    assert first is not None  # made by plan(), as is the vector
    assert before.vector is not None
    spent_s = max(parts.clock.now() - request.received_at, 0.0)
    conditions = conditions_of(request, first.conditions.last_deployment, policy, parts.knowledge, spent_s)
    situation = situation_of(request, before.vector, before.selection, conditions, policy)
    decision = route(request, before.selection, situation, available, policy, parts.knowledge, parts.new_seed())
    if decision is None:
        return None
    return replace(before, decision=decision, prompt=_prompt(before.selection, decision, parts.policy))


def settle(plan: Plan, answer: Answer, attempts: Sequence[Attempt], policy: Policy) -> Settled:
    """Everything that follows from the answer."""
    outcome = measure(answer, tuple(attempts))
    plan = _as_answered(plan, outcome)
    quality = appraise(plan, outcome, policy)
    earned = reward(quality.estimate, outcome.cost_usd, outcome.latency_s, policy.reward)
    evidence = evidence_from(outcome.attempts, quality, earned)
    timely = timeliness(outcome.latency_s, deadline_of(plan.request, policy), policy.deadline)
    may_keep = not is_kept_from(plan.request, policy.admission)
    record = record_of(plan, outcome, quality, timely * earned, evidence, policy.log, may_keep)
    seen = observed(plan, outcome, policy)
    refusal = reason_to_refuse(plan, outcome, quality, policy) or known_already(seen, plan.request, policy)
    example = None if refusal else example_from(plan, outcome, quality, policy)
    return Settled(
        Settlement(
            replace(record, admitted_id=example.id if example else ""),
            increments_between((), evidence),
            (
                *example_increments(record.example_ids, None, quality, _use(record, policy)),
                *offload_by(plan, outcome, quality.estimate),
            ),
            lesson_of(record, plan, outcome, policy.log),
        ),
        example,
        refusal,
        _turn(plan, outcome, policy),
        judge_call(plan, outcome, quality, policy),
        shadow_call(plan, outcome, policy),
        seen,
        same_call(plan, outcome, policy),
        identity_of(plan.request),
        plan.request.wider,
        plan.request.caller.team or "",
    )


def _use(record: DecisionRecord, policy: Policy) -> Use:
    return use_of(record.arm, record.is_acted, record.cost_usd, policy)


def _turn(plan: Plan, outcome: Outcome, policy: Policy) -> Turn | None:
    served = next((one for one in reversed(outcome.attempts) if one.error is None), None)
    if policy.stickiness is None or served is None or outcome.error is not None or served.deployment == STORED:
        return None
    return Turn(plan.request.conversation, served.deployment, policy.stickiness.ttl_s)


def _as_answered(plan: Plan, outcome: Outcome) -> Plan:
    """The plan without its prompt when the answer was not given to it: nobody answered, or LiteLLM's own choice did."""
    was_used = any(attempt.error is None and attempt.decision is not None for attempt in outcome.attempts)
    return plan if was_used and outcome.error is None else replace(plan, prompt=Prompt())


def revise(record: DecisionRecord, feedback: Feedback, policy: Policy) -> Settlement:
    """The settlement that replaces what was believed of an answer by what its reader says."""
    heard = Heard(record.id, {FEEDBACK: feedback.score}, comment=feedback.comment)
    return amend(record, heard, policy)


def amend(record: DecisionRecord, heard: Heard, policy: Policy) -> Settlement:
    """The settlement that follows when more becomes known of an answer; what came first does not matter."""
    before = Quality(record.quality, record.quality_weight, {})
    # a decision that was stored before there were signals by name may have feedback all the same
    said = {} if record.feedback is None else {FEEDBACK: record.feedback}
    after = combine({**said, **record.signals, **heard.signals}, policy.judge, policy.reward.unjudged_weight)
    earned = reward(after.estimate, record.cost_usd, record.latency_s, policy.reward)
    known = revised(record.evidence, after.weight, earned)
    timely = timeliness(record.latency_s, record.deadline_s, policy.deadline)
    amended = revised_record(record, after, timely * earned, (*known, *heard.evidence), heard.comment)
    return Settlement(
        amended,
        (*increments_between(record.evidence, known), *increments_between((), heard.evidence)),
        (
            *example_increments(record.example_ids, before, after, _use(record, policy)),
            *offload_of(record, after.estimate - before.estimate),
        ),
        amendment_of(amended),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    candidates: tuple[Candidate, ...]
    last_deployment: str
    bypasses: tuple[str, ...]


async def _found(request: Request, vector: Embedding, parts: Parts) -> _Found:
    try:
        candidates = await retrieve(request, vector, parts.policy.retrieval, parts.store)
        last = await _last_deployment(request, parts)
    except StoreUnavailable:
        return _Found((), "", ("store_unavailable",))
    return _Found(candidates, last, ())


async def _last_deployment(request: Request, parts: Parts) -> str:
    """Only conversations that go on have one."""
    if parts.policy.stickiness is None or request.n_user_turns < 2:
        return ""
    return await parts.store.last_turn(request.conversation)


def _selected(request: Request, candidates: Sequence[Candidate], seed: int, parts: Parts) -> Selection:
    """As many as the arm that takes most could take; where prompts shall begin alike, familiar ones are known."""
    policy, now = parts.policy, request.received_at
    most = max(arm.n_examples for arm in policy.arms)
    rules, learned = policy.prompt, parts.knowledge.learned
    if not rules.backbone and rules.order != "stable":
        return select(request, candidates, most, policy.selection, parts.utility, learned, seed)
    usual = parts.familiar.ranking(request.scope, request.partition, now, rules.backbone_s)
    made = select(request, candidates, most, policy.selection, parts.utility, learned, seed, usual, rules.backbone)
    parts.familiar.count(request.scope, request.partition, made, now, rules.backbone_s)
    return made


def _prompt(selection: Selection, decision: Decision, policy: Policy) -> Prompt:
    """Nothing is added in shadow mode: the call is LiteLLM's alone."""
    return Prompt() if policy.mode == "shadow" else assemble(selection, decision.arm, policy.prompt)
