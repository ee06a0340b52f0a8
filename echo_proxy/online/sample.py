"""Which answers are looked at a second time, beside the path, and by whom?

The judge compares an answer with the teacher's; a second arm answers the same request for comparison. Whether a
decision is sampled hangs on its id alone, so every worker and every replay agrees on it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from echo_proxy.answers.observe import answered_by, is_from_teacher, is_served, seen
from echo_proxy.answers.same import say_the_same
from echo_proxy.answers.witnesses import witness_of
from echo_proxy.online.assemble import assemble
from echo_proxy.online.combine import has_failed
from echo_proxy.online.promote import Promotion, promotion
from echo_proxy.online.verdict import as_text
from echo_proxy.policy import Policy, SampledJudge
from echo_proxy.types import (
    ArmKey,
    Attempt,
    Candidate,
    Evidence,
    Message,
    Names,
    Outcome,
    Plan,
    Prompt,
    Quality,
    Request,
    SeenAnswer,
    StoredAnswer,
)

_SAME_QUESTION = 0.05
"""Cosine distance up to which an example's answer is one to this request. # guess, not yet measured"""
_NAMES_AGREE = frozenset({Names.NONE, Names.HELD})
_MIN_TOKENS = 1024
_TIMES_LONGER = 4
"""The second answer may be so many times longer than the first; one that is cut at this teaches nothing."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What a model is asked beside the path."""

    model_group: str
    deployment: str
    """The one that must answer, by the name that arms use; empty = any of the group."""
    messages: tuple[Message, ...]
    prompt: Prompt
    """Examples to stand before the dialogue."""
    max_tokens: int = _MIN_TOKENS
    wants_json: bool = False
    temperature: float | None = None
    """None = the model's own."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What it answered."""

    text: str
    finish_reason: str
    deployment_id: str
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    """0 also when LiteLLM knows no price of the model."""
    latency_s: float


@dataclass(frozen=True, slots=True)
class Approval:
    """What a verdict may do for an example in quarantine: let it out."""

    example_id: str
    version: int
    """Of the example whose answer is judged."""
    witness: str
    """Hash of the key that sent the same request."""


@dataclass(frozen=True, slots=True)
class JudgeCall:
    """An answer that the judge shall compare with the teacher's."""

    decision_id: str
    scope: str
    dialogue: str
    """What was asked, with the system prompt, as the judge is shown it."""
    answer: str
    reference: str
    """The teacher's answer; empty when it must be asked for."""
    ask_reference: Ask
    """How to ask for it."""
    rules: SampledJudge
    approves: Approval | None = None
    """What is judged is not the decision's answer but a stored one, which waits for approval."""


@dataclass(frozen=True, slots=True)
class ShadowCall:
    """A request that a second arm shall answer too."""

    plan: Plan
    outcome: Outcome
    """What came of the first answer."""
    ask: Ask
    key: ArmKey
    """Where evidence about the second arm belongs."""
    policy: Policy

    @property
    def decision_id(self) -> str:
        """Decision that it belongs to."""
        return self.plan.request.decision_id

    @property
    def scope(self) -> str:
        """Whose request it is."""
        return self.plan.request.scope


@dataclass(frozen=True, slots=True)
class SameCall:
    """A stored answer that was not given: would it have done?"""

    decision_id: str
    scope: str
    dialogue: str
    """As in JudgeCall."""
    answer: StoredAnswer
    reference: str
    """The teacher's answer to the same request; empty when it must be asked for."""
    ask_reference: Ask
    """How to ask for it."""
    rules: SampledJudge
    at: float
    """When the request came, seconds since the epoch."""
    witness: str
    """Who asked, as an observation names him."""
    promotes: Promotion | None = None
    """To be kept when it would have done; None when nothing is."""

    def seen(self, is_correct: bool) -> SeenAnswer:
        """What is noted with the example."""
        return seen(self.answer, is_correct, self.at, self.witness)


@dataclass(frozen=True, slots=True)
class Heard:
    """What became known after a decision was settled: it changes its record and what the arms learned from it."""

    decision_id: str
    signals: Mapping[str, float]
    """About the answer that was served; names as in combine.py. Never empty when there is evidence: by its names a
    second delivery is known."""
    evidence: tuple[Evidence, ...] = ()
    """About another arm, to be added to the decision's."""
    comment: str = ""
    """What a reader wrote."""
    approves: Approval | None = None
    """The signals are about a stored answer, which waits for approval; they do not change the decision."""
    seen: SeenAnswer | None = None
    """Whether a stored answer that was not given would have done; it does not change the decision either."""
    promotes: Promotion | None = None
    """It would have done, and is to be kept under the request's words too."""


def judge_call(plan: Plan, outcome: Outcome, quality: Quality, policy: Policy) -> JudgeCall | None:
    """What to ask the judge about an outcome; None when it is not sampled, or there is nothing to judge.

    The teacher's own answers are not judged, they are what is compared with; nor those that a validator has failed.
    """
    rules, served = policy.judge.sampled, _served(outcome)
    if rules is None or served is None or not is_sampled(plan.request.decision_id, "judge", rules.rate):
        return None
    teachers = [arm.deployment for arm in policy.to_arms() if arm.is_teacher]
    if served.deployment in teachers or not (teachers or rules.reference_group) or has_failed(quality.signals):
        return None
    request = plan.request
    group, deployment = (rules.reference_group, "") if rules.reference_group else (request.model_group, teachers[0])
    return JudgeCall(
        decision_id=request.decision_id,
        scope=request.scope,
        dialogue=as_text(request.system, request.dialogue),
        answer=outcome.text,
        reference=_reference(plan),
        ask_reference=_ask(request, group, deployment),
        rules=rules,
    )


def shadow_call(plan: Plan, outcome: Outcome, policy: Policy) -> ShadowCall | None:
    """What to ask a second arm; None when the request is not sampled, or no other deployment could have answered.

    The second arm is drawn evenly among those that could have been drawn and belong to another deployment.
    """
    served, request = _served(outcome), plan.request
    if policy.shadow is None or served is None or not is_sampled(request.decision_id, "shadow", policy.shadow.rate):
        return None
    feasible = set(plan.decision.arms)
    others = [arm for arm in policy.to_arms() if arm.name in feasible and arm.deployment != served.deployment]
    if not others:
        return None
    arm = others[int(share_of(request.decision_id, "arm") * len(others))]
    prompt = assemble(plan.selection, arm, policy.prompt)
    most = max(_MIN_TOKENS, _TIMES_LONGER * outcome.completion_tokens)
    ask = _ask(request, request.model_group, arm.deployment, prompt, most)
    return ShadowCall(plan, outcome, ask, ArmKey(arm.name, plan.decision.segment), policy)


def same_call(plan: Plan, outcome: Outcome, policy: Policy) -> SameCall | None:
    """What to ask about a stored answer that was not given (Krites, arXiv 2602.13165); None when nothing needs to be.

    Where a teacher answered and only a judge can tell, it is always asked; where another model did, the teacher's
    answer is asked for at `answers.near_miss_rate`.
    """
    judge, rules, answer = policy.judge.sampled, policy.answers, plan.answer
    if judge is None or rules is None or answer is None or answered_by(outcome) is None or is_served(plan, outcome):
        return None
    request, reference, promotes = plan.request, "", None
    teachers = [arm.deployment for arm in policy.to_arms() if arm.is_teacher]
    if is_from_teacher(plan, outcome, policy):
        if say_the_same(answer.example.response, outcome.text) is not None:
            return None
        reference = outcome.text
    elif not teachers or not is_sampled(request.decision_id, "near_miss", rules.near_miss_rate):
        return None
    else:
        promotes = promotion(plan, answer, policy)
    return SameCall(
        decision_id=request.decision_id,
        scope=request.scope,
        dialogue=as_text(request.system, request.dialogue),
        answer=answer,
        reference=reference,
        ask_reference=_ask(request, request.model_group, teachers[0]),
        rules=judge,
        at=request.received_at,
        witness=witness_of(request.caller),
        promotes=promotes,
    )


def is_sampled(decision_id: str, purpose: str, rate: float) -> bool:
    """Whether a decision belongs to the sample, the same for every worker."""
    return share_of(decision_id, purpose) < rate


def share_of(decision_id: str, purpose: str) -> float:
    """A number in [0, 1) that looks random and is always the same for an id and a purpose."""
    digest = hashlib.sha256(f"{purpose}\x00{decision_id}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def _served(outcome: Outcome) -> Attempt | None:
    """The attempt of ours that answered, wholly and with a text that may be shown to others; None when none did."""
    if outcome.error is not None or not outcome.may_keep or not outcome.is_whole or not outcome.text.strip():
        return None
    last = next((one for one in reversed(outcome.attempts) if one.error is None), None)
    return last if last is not None and last.decision is not None else None


def _reference(plan: Plan) -> str:
    """The nearest example's answer if it asks nearly the same; every example was written by a teacher."""
    near: list[Candidate] = [*plan.selection.chosen, *(one.candidate for one in plan.selection.rejected)]
    same = [one for one in near if one.distance <= _SAME_QUESTION and one.names in _NAMES_AGREE]
    best = min(same, key=lambda one: one.distance, default=None)
    return best.example.response if best else ""


def _ask(
    request: Request, group: str, deployment: str, prompt: Prompt | None = None, max_tokens: int = 2 * _MIN_TOKENS
) -> Ask:
    system = (Message("system", request.system),) if request.system else ()
    return Ask(group, deployment, (*system, *request.dialogue), prompt or Prompt(), max_tokens, request.wants_json)
