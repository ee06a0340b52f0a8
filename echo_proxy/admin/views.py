"""What do readers of the HTTP API see? Documented models, made from the records of the path."""

import os
import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from echo_proxy.app import App
from echo_proxy.lane import Lane
from echo_proxy.types import Caller, DecisionRecord, Example, Replayed


class View(BaseModel):
    """A frozen answer whose fields' docstrings stand in OpenAPI."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class FeedbackBody(View):
    """What an answer was worth: a score or thumbs."""

    decision_id: str = Field(min_length=1, max_length=64)
    """From the response header `x-echo-decision-id`."""
    score: float | None = Field(default=None, ge=0, le=1)
    """0 = useless, 1 = perfect."""
    thumbs: str | None = Field(default=None, pattern="^(up|down)$")
    """`up` counts as 1, `down` as 0."""
    comment: str = Field(default="", max_length=2000)
    """Kept with the decision."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.score is None) == (self.thumbs is None):
            raise ValueError(
                "expected either score or thumbs, got " + ("both" if self.score is not None else "neither")
            )
        return self

    def to_score(self) -> float:
        """The score, [0, 1]."""
        return self.score if self.score is not None else float(self.thumbs == "up")


class DecisionView(View):
    """One decision with its outcome."""

    id: str
    policy: str
    scope: str
    caller: str
    """Hash of the key that asked."""
    created_at: float
    """Seconds since the epoch."""
    arm: str
    is_acted: bool
    """The arm answered; False in shadow mode and after a fallback to something else."""
    segment: str
    propensity: float
    """P(arm | context) when it was drawn."""
    served_by: str
    """Deployment id that answered."""
    n_examples: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    latency_s: float
    is_whole: bool
    quality: float
    reward: float
    feedback: float | None
    admitted_id: str
    """Example that the answer became; empty when it did not."""
    learned: list[dict[str, Any]]
    """What the arms have learned from it."""
    explanation: dict[str, Any]
    """Candidates with distance and utility, probabilities, adjustments, attempts, signals. What was expected of the
    arms, and why something was taken from them, is for admins only: it mixes all tenants."""


class ReplayView(View):
    """One time that an example's request was answered again, and the best answer was kept."""

    at: float
    """Seconds since the epoch."""
    teacher: str
    n_answers: int
    is_replaced: bool
    """One of them was better than the stored one."""
    verdict: float
    """Of the best one against the stored one, [0, 1]; 0.5 = equal."""


class ExampleView(View):
    """One stored request-response pair."""

    id: str
    policy: str
    scope: str
    request: str
    response: str
    system: str
    """System prompt under which it was asked; for its writer and admins only. Others share the example, not what an
    application was told."""
    teacher: str
    """Deployment that gave the response."""
    decision_id: str
    """Decision in which the response was given; a copy for a wider scope has that of its original."""
    writer: str
    """Hash of the key under which it was written."""
    origin: str
    """traffic, shared (a copy for a wider scope), promoted, coverage or import."""
    in_quarantine: bool
    """It serves its writer only, until others have confirmed it."""
    n_confirmations: int
    """How many other writers were given the same answer."""
    confirmed_by: list[str]
    """Hashes of their keys; for admins only."""
    version: int
    """One more with every change."""
    history: list[ReplayView]
    """Its replays, oldest first."""
    quality: float
    n_tokens: int
    uses: float
    gain: float
    offloads: float
    """Successful offloads with it, fading by the hour."""
    regret: float
    """What a better answer could bring, fading likewise."""
    n_observations: int
    """How often its answer was compared with the right one for another request."""
    created_at: float
    """Seconds since the epoch."""
    expires_at: float
    """Seconds since the epoch."""


class Forgotten(View):
    """How many examples were forgotten."""

    forgotten: int


class LaneReady(View):
    """Whether one policy can serve."""

    ready: bool
    engine: str
    examples: int
    detail: str
    waiting_outcomes: int
    """Outcomes of this worker that the store does not have yet."""


class Ready(View):
    """Whether this worker can serve."""

    ready: bool
    embedder: str
    policies: dict[str, LaneReady]
    policy_error: str | None
    """Why the last change of a policy file was refused; the old policy stays in force."""
    upkeep_error: str | None
    """Why nothing more is learned in this worker; it should be restarted."""


class ArmStats(View):
    """What all workers together have learned of an arm in one segment."""

    arm: str
    segment: str
    weight: float
    mean_reward: float


class Stats(View):
    """One policy's counts for the caller's scope (an admin sees all scopes)."""

    worker: int
    """Process id of the worker that answers; counts lag behind by a second, evidence is each worker's own view."""
    counts: dict[str, float]
    """decisions, arm:<name>, admitted, refused:<reason>, pass:<reason>, bypass:<reason>, tokens, cost_usd, ..."""
    arms: list[ArmStats]
    """For admins only: it mixes all tenants."""


def decision_view(record: DecisionRecord, who: Caller) -> DecisionView:
    """What a reader sees of a decision."""
    return DecisionView(
        id=record.id,
        policy=record.policy,
        scope=record.scope,
        created_at=record.created_at,
        caller=record.caller,
        arm=record.arm,
        is_acted=record.is_acted,
        segment=record.segment,
        propensity=record.propensity,
        served_by=record.served_by,
        n_examples=record.n_examples,
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        cost_usd=record.cost_usd,
        latency_s=record.latency_s,
        is_whole=record.is_whole,
        quality=record.quality,
        reward=record.reward,
        feedback=record.feedback,
        admitted_id=record.admitted_id,
        learned=[
            {"arm": one.key.arm, "segment": one.key.segment, "weight": one.weight, "reward": one.reward}
            for one in record.evidence
        ],
        explanation=dict(record.explanation) if who.is_admin else _own_part(record.explanation),
    )


_OWN_OF_ARM = frozenset({"probability"})
_WHY = re.compile("(?<=instead of best_effort):.*", re.DOTALL)
"""That part of a note tells how busy deployments are."""


def _own_part(explanation: Mapping[str, Any]) -> dict[str, Any]:
    """Without what mixes all tenants: rewards and evidence of the arms, and the words about load, prices and drift."""
    decision = explanation.get("decision")
    if not isinstance(decision, Mapping):
        return dict(explanation)
    arms = {
        name: {key: value for key, value in arm.items() if key in _OWN_OF_ARM}
        for name, arm in decision.get("arms", {}).items()
    }
    notes = [_WHY.sub("", note) for note in decision.get("adjustments", ())]
    own = {"arms": arms, "taken": {name: {} for name in decision.get("taken", {})}, "adjustments": notes}
    return {**explanation, "decision": {**decision, **{name: own[name] for name in own if name in decision}}}


def example_view(example: Example, policy: str, who: Caller) -> ExampleView:
    """What a reader sees of an example; the vector stays in the store."""
    return ExampleView(
        id=example.id,
        policy=policy,
        scope=example.scope,
        request=example.request,
        response=example.response,
        system=example.system if who.is_admin or who.key == example.writer else "",
        teacher=example.teacher,
        decision_id=example.decision_id,
        writer=example.writer,
        origin=example.origin,
        in_quarantine=bool(example.reader),
        n_confirmations=len(example.confirmed_by),
        confirmed_by=list(example.confirmed_by) if who.is_admin else [],
        version=example.version,
        history=[_replay_view(one) for one in example.history],
        quality=example.quality,
        n_tokens=example.n_tokens,
        uses=example.uses,
        gain=example.gain,
        offloads=example.offloads,
        regret=example.regret,
        n_observations=len(example.observations),
        created_at=example.created_at,
        expires_at=example.expires_at,
    )


def _replay_view(replay: Replayed) -> ReplayView:
    return ReplayView(
        at=replay.at,
        teacher=replay.teacher,
        n_answers=replay.n_answers,
        is_replaced=replay.is_replaced,
        verdict=replay.verdict,
    )


async def ready_view(app: App) -> Ready:
    """Whether this worker can serve; asks every store."""
    lanes: dict[str, LaneReady] = {}
    for name, lane in app.lanes.items():
        status = await lane.parts.store.status()
        lanes[name] = LaneReady(
            ready=status.is_ready and lane.is_open,
            engine=status.engine,
            examples=status.n_examples,
            detail=status.detail,
            waiting_outcomes=len(lane.outbox),
        )
    return Ready(
        ready=app.upkeep_error is None and all(lane.ready for lane in lanes.values()),
        embedder=app.embedder.model,
        policies=lanes,
        policy_error=app.policy_error,
        upkeep_error=app.upkeep_error,
    )


async def stats_view(lane: Lane, scope: str | None, who: Caller) -> Stats:
    """Counts of a scope (None = all), and for admins the arms. Raises StoreUnavailable."""
    counts = await lane.parts.store.counters(scope)
    sums = lane.parts.knowledge.snapshot() if who.is_admin else {}
    return Stats(
        worker=os.getpid(),
        counts=dict(sorted(counts.items())),
        arms=[
            ArmStats(
                arm=key.arm,
                segment=key.segment,
                weight=one.weight,
                mean_reward=one.reward_sum / one.weight if one.weight > 0 else 0.0,
            )
            for key, one in sorted(sums.items(), key=lambda item: (item[0].segment, item[0].arm))
        ],
    )
