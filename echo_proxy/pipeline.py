"""The path of a request: plan() before the call, settle() after the answer, revise() when feedback comes later.

Read this file first. Each line is a step, each step a file of that name in `online/`.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from echo_proxy.errors import StoreUnavailable
from echo_proxy.online.admit import example_from, reason_to_refuse
from echo_proxy.online.assemble import assemble
from echo_proxy.online.embed import embed
from echo_proxy.online.judge import heed, judge
from echo_proxy.online.knowledge import Knowledge
from echo_proxy.online.learn import evidence_from, example_increments, increments_between, revised
from echo_proxy.online.log import record_of, revised_record
from echo_proxy.online.measure import Answer, measure
from echo_proxy.online.retrieve import retrieve
from echo_proxy.online.reward import reward
from echo_proxy.online.route import route
from echo_proxy.online.select import select
from echo_proxy.policy import Policy
from echo_proxy.protocols import Clock, Embedder, Store, UtilityModel
from echo_proxy.types import (
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
    Selection,
    Settlement,
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


@dataclass(frozen=True, slots=True)
class Settled:
    """What an outcome leads to."""

    settlement: Settlement
    example: Example | None
    """To be kept, when the answer is admitted."""
    refusal: str | None
    """Why it is not."""


async def plan(request: Request, available: Collection[str], parts: Parts) -> Plan | None:
    """Everything that is decided before the call; None when no arm of the policy is available.

    Raises EmbedderError. A store that is away costs the examples, not the decision.
    """
    policy, started = parts.policy, parts.clock.monotonic()
    vector = await embed(request, parts.embedder)
    found = await _candidates(request, vector, parts)
    most = max(arm.n_examples for arm in policy.arms)
    selection = select(request, found.candidates, most, policy.selection, parts.utility)
    decision = route(request, selection, available, policy, parts.knowledge, parts.new_seed())
    if decision is None:
        return None
    prompt = _prompt(selection, decision, policy)
    spent = parts.clock.monotonic() - started
    return Plan(
        request, policy.name, vector, selection, decision, prompt, found.bypasses, policy.mode == "shadow", spent
    )


def reroute(before: Plan, available: Collection[str], parts: Parts) -> Plan | None:
    """The plan with another draw among what is available now: after a failed attempt."""
    decision = route(before.request, before.selection, available, parts.policy, parts.knowledge, parts.new_seed())
    if decision is None:
        return None
    return replace(before, decision=decision, prompt=_prompt(before.selection, decision, parts.policy))


def settle(plan: Plan, answer: Answer, attempts: Sequence[Attempt], policy: Policy) -> Settled:
    """Everything that follows from the answer."""
    outcome = measure(answer, tuple(attempts))
    plan = _as_answered(plan, outcome)
    quality = judge(outcome, plan.request.wants_json, policy.judge, policy.reward.unjudged_weight)
    earned = reward(quality.estimate, outcome.cost_usd, outcome.latency_s, policy.reward)
    evidence = evidence_from(outcome.attempts, quality, earned)
    record = record_of(plan, outcome, quality, earned, evidence, policy.log)
    refusal = reason_to_refuse(plan, outcome, quality, policy)
    example = None if refusal else example_from(plan, outcome, quality, policy)
    return Settled(
        Settlement(
            replace(record, admitted_id=example.id if example else ""),
            increments_between((), evidence),
            example_increments(record.example_ids, None, quality),
        ),
        example,
        refusal,
    )


def _as_answered(plan: Plan, outcome: Outcome) -> Plan:
    """The plan without its prompt when the answer was not given to it: nobody answered, or LiteLLM's own choice did."""
    was_used = any(attempt.error is None and attempt.decision is not None for attempt in outcome.attempts)
    return plan if was_used and outcome.error is None else replace(plan, prompt=Prompt())


def revise(record: DecisionRecord, feedback: Feedback, policy: Policy) -> Settlement:
    """The settlement that replaces what was believed of an answer by what its reader says."""
    before = Quality(record.quality, record.quality_weight, {})
    after = heed(feedback)
    earned = reward(after.estimate, record.cost_usd, record.latency_s, policy.reward)
    evidence = revised(record.evidence, earned)
    return Settlement(
        revised_record(record, feedback, earned, evidence),
        increments_between(record.evidence, evidence),
        example_increments(record.example_ids, before, after),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    candidates: tuple[Candidate, ...]
    bypasses: tuple[str, ...]


async def _candidates(request: Request, vector: Embedding, parts: Parts) -> _Found:
    try:
        return _Found(await retrieve(request, vector, parts.policy.retrieval, parts.store), ())
    except StoreUnavailable:
        return _Found((), ("store_unavailable",))


def _prompt(selection: Selection, decision: Decision, policy: Policy) -> Prompt:
    """Nothing is added in shadow mode: the call is LiteLLM's alone."""
    return Prompt() if policy.mode == "shadow" else assemble(selection, decision.arm, policy.prompt)
