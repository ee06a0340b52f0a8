"""What does a model's answer tell of the stored one that was not given in its place?

Whether a label is taken must not hang on what it says, or the error bound is broken. So:

- Only whole answers of a teacher that saw no example count: one that saw them may have copied them.
- Equal answers are noted at once. Others await a judge; where it cannot be asked, or says nothing, they are noted as
  wrong (`Beside`), or the labels that came through would be right too often.
- A teacher answers what the router gives it. At one distance the requests that go to a teacher may be harder than the
  others, or easier, and what was observed of them then tells of the others only as far as the distance does. Near
  misses that a small model answered are therefore sampled by the decision's id alone and compared with the teacher's
  answer beside the path: these labels come from all requests alike.
- Of answers that were served only complaints are heard (see `complaint`): that can only make the bound stricter.
"""

from dataclasses import dataclass, replace

from echo_proxy.answers.identical import is_repeatable
from echo_proxy.answers.same import say_the_same
from echo_proxy.answers.witnesses import witness_of
from echo_proxy.policy import Policy
from echo_proxy.types import (
    STORED,
    Attempt,
    DecisionRecord,
    ExampleIncrement,
    Json,
    Observation,
    Outcome,
    Plan,
    Request,
    SeenAnswer,
    StoredAnswer,
)

EXPLAINED = "stored_answer"
"""Where a decision's explanation speaks of it."""
_COMPLAINED = "is_complained"


def observed(plan: Plan, outcome: Outcome, policy: Policy) -> SeenAnswer | None:
    """The observation; None when the answer tells nothing, such as that of a small model, or only a judge can tell.

    Without a judge an answer that is not plainly the same counts as another one.
    """
    if plan.answer is None or not is_from_teacher(plan, outcome, policy):
        return None
    same = say_the_same(plan.answer.example.response, outcome.text)
    if same is None and policy.judge.sampled is not None:
        return None
    return seen(plan.answer, bool(same), plan.request.received_at, witness_of(plan.request.caller))


def is_from_teacher(plan: Plan, outcome: Outcome, policy: Policy) -> bool:
    """Whether a teacher answered, wholly, in words that may be kept, and without having been shown examples."""
    served = answered_by(outcome)
    teachers = {arm.deployment for arm in policy.to_arms() if arm.is_teacher}
    return served is not None and served.deployment in teachers and not plan.prompt.n_examples


def answered_by(outcome: Outcome) -> Attempt | None:
    """The attempt that answered, wholly and with a text that may be shown to others; None when none did."""
    if outcome.error is not None or not outcome.may_keep or not outcome.is_whole or not outcome.text.strip():
        return None
    return next((one for one in reversed(outcome.attempts) if one.error is None), None)


def seen(answer: StoredAnswer, is_correct: bool, at: float, witness: str) -> SeenAnswer:
    """What is noted with the example."""
    distance = min(max(answer.distance, 0.0), 2.0)
    return SeenAnswer(answer.example.id, answer.example.version, Observation(distance, is_correct, at, witness))


def known_already(told: SeenAnswer | None, request: Request, policy: Policy) -> str | None:
    """Why an answer need not be kept: a stored one said the same, and where each example must prove itself the
    observation of that is worth more there than another example of which nothing is known. One that needs no proof when
    the same words come again is kept."""
    rules = policy.answers
    if rules is None or rules.estimate != "example" or is_repeatable(request, rules):
        return None
    return "same_answer" if told is not None and told.observation.is_correct else None


def is_served(plan: Plan, outcome: Outcome) -> bool:
    """Whether the caller was given the stored answer."""
    answer = plan.answer
    return answer is not None and answer.is_served and outcome.deployment_id == STORED and outcome.error is None


def offload_by(plan: Plan, outcome: Outcome, quality: float) -> tuple[ExampleIncrement, ...]:
    """The stored answer that was served kept a model from being asked: that counts as an offload of its example."""
    if plan.answer is None or not is_served(plan, outcome):
        return ()
    return (ExampleIncrement(plan.answer.example.id, 0.0, 0.0, offloads=quality),)


def explain_answer(plan: Plan, outcome: Outcome) -> Json:
    """What was considered, for a reader, and for what comes later; None without a stored answer."""
    answer = plan.answer
    if answer is None:
        return None
    fate = "served" if is_served(plan, outcome) else "to be served, a model answered" if answer.is_served else "asked"
    return {
        "example": answer.example.id,
        "version": answer.example.version,
        "distance": round(answer.distance, 4),
        "explore_chance": round(answer.explore_chance, 4),
        "fate": fate,
        "why": answer.why,
        "witness": witness_of(plan.request.caller),
    }


def offload_of(record: DecisionRecord, more: float) -> tuple[ExampleIncrement, ...]:
    """The same once more is known of the answer: its quality has changed by so much."""
    answer = _served(record)
    return (ExampleIncrement(answer.example_id, 0.0, 0.0, offloads=more),) if answer and more else ()


def complaint(record: DecisionRecord, at: float) -> SeenAnswer | None:
    """That the stored answer which was served was wrong, as a reader says; None when none was served.

    The example itself stays: its answer may be right for its own request. Praise is not noted: who is content says so
    more seldom than who is not, and a label must not hang on what it says. One that was noted is not noted again,
    however often the reader changes his mind.
    """
    answer = _served(record)
    if answer is None or answer.is_complained:
        return None
    return SeenAnswer(answer.example_id, answer.version, Observation(answer.distance, False, at, answer.witness))


def complained(record: DecisionRecord) -> DecisionRecord:
    """The record of a served answer with a note that its complaint was taken."""
    told = record.explanation[EXPLAINED]
    assert isinstance(told, dict)  # complaint() has read it
    return replace(record, explanation={**record.explanation, EXPLAINED: {**told, _COMPLAINED: True}})


@dataclass(frozen=True, slots=True)
class _Served:
    example_id: str
    version: int
    distance: float
    witness: str
    is_complained: bool


def _served(record: DecisionRecord) -> _Served | None:
    """The stored answer that a decision's caller was given, from its explanation."""
    told = record.explanation.get(EXPLAINED)
    if not isinstance(told, dict) or told.get("fate") != "served":
        return None
    example_id, version, distance = told.get("example"), told.get("version"), told.get("distance")
    if not (isinstance(example_id, str) and isinstance(version, int) and isinstance(distance, int | float)):
        return None
    witness = told.get("witness")
    return _Served(
        example_id,
        version,
        float(distance),
        witness if isinstance(witness, str) else "",
        told.get(_COMPLAINED) is True,
    )
