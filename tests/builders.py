"""Records with sensible defaults: a test names only what it is about."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from echo_proxy.lane import Lane
from echo_proxy.learning.knowledge import Knowledge
from echo_proxy.learning.utility import BetaUtility
from echo_proxy.online.measure import Answer
from echo_proxy.pipeline import Parts
from echo_proxy.policy import Policy
from echo_proxy.types import (
    Amendment,
    Arm,
    ArmKey,
    Attempt,
    Call,
    Caller,
    Candidate,
    Conditions,
    Context,
    Decision,
    DecisionRecord,
    Embedding,
    Evidence,
    Example,
    Lesson,
    Message,
    Outcome,
    Plan,
    Prompt,
    Quality,
    Request,
    Selection,
    Situation,
)
from tests.fakes import FrozenClock, HashingEmbedder, MemoryStore

NOW = 1_000_000.0
SMALL = Arm("small+2", "small", 2)
LARGE = Arm("large+0", "large", 0, is_teacher=True)
DIMENSIONS = 16

POLICY_DATA: Mapping[str, Any] = {
    "name": "test",
    "match": {"model_groups": ["auto"]},
    "arms": [
        {"deployment": "small", "n_examples": 0},
        {"deployment": "small", "n_examples": 2},
        {"deployment": "large", "teacher": True},
    ],
    "bandit": {"kind": "epsilon_greedy"},
}


def policy(**changes: Any) -> Policy:
    """Two arms of `small` and the teacher `large`, serving group `auto`."""
    return Policy.model_validate({**POLICY_DATA, **changes})


def vector(*head: float) -> Embedding:
    """Unit vector that begins with these numbers, in their proportions."""
    out = np.zeros(DIMENSIONS, dtype=np.float32)
    out[: len(head)] = head or (1.0,)
    return out / np.linalg.norm(out)


def call(text: str = "What is the capital of France?", **changes: Any) -> Call:
    """One question of one key in the chat endpoint."""
    made = Call("call-1", "auto", "chat", (Message("user", text),), Caller(key="a"))
    return replace(made, **changes)


def request(text: str = "What is the capital of France?", **changes: Any) -> Request:
    """The request that `call` becomes."""
    made = Request(
        call_id="call-1",
        decision_id="d1",
        model_group="auto",
        endpoint="chat",
        system="",
        dialogue=(Message("user", text),),
        caller=Caller(key="a"),
        scope="key:a",
        partition="p",
        wants_json=False,
        is_streamed=False,
        received_at=NOW,
    )
    return replace(made, **changes)


def example(example_id: str = "e1", **changes: Any) -> Example:
    """A whole answer of the teacher in the scope of `request`."""
    made = Example(
        id=example_id,
        scope="key:a",
        partition="p",
        request="What is the capital of France?",
        response="Paris.",
        vector=vector(1.0),
        teacher="large",
        decision_id=example_id,
        writer="a",
        quality=1.0,
        n_tokens=10,
        created_at=NOW,
        expires_at=NOW + 1000,
    )
    return replace(made, **changes)


def candidate(example_id: str = "e1", distance: float = 0.1, utility: float = 0.8, **changes: Any) -> Candidate:
    """An example near the request; changes are the example's."""
    return Candidate(example(example_id, **changes), distance, utility=utility)


def selection(*chosen: Candidate) -> Selection:
    """These, chosen."""
    return Selection(chosen)


def decision(arm: Arm = LARGE, **changes: Any) -> Decision:
    """The arm drawn with 0.75 over another one."""
    made = Decision(
        arm=arm,
        propensity=0.75,
        segment="all",
        arms=(arm.name, "other+0"),
        pmf=(0.75, 0.25),
        means=(0.8, 0.5),
        weights=(3.0, 2.0),
        adjustments=("floor 0.01",),
        seed=7,
    )
    return replace(made, **changes)


def plan(**changes: Any) -> Plan:
    """The teacher was drawn; no example was near."""
    made = Plan(
        request=request(),
        policy="test",
        vector=vector(1.0),
        selection=Selection(),
        decision=decision(),
        prompt=Prompt(),
        bypasses=(),
        is_shadow=False,
        plan_s=0.001,
    )
    return replace(made, **changes)


def plan_with_example(**changes: Any) -> Plan:
    """The small arm was drawn and is shown example e1."""
    turns = (Message("user", "What is the capital of France?"), Message("assistant", "Paris."))
    prompt = Prompt(turns=turns, example_ids=("e1",))
    return plan(selection=selection(candidate()), decision=decision(SMALL), prompt=prompt, **changes)


def answer(text: str = "Paris.", **changes: Any) -> Answer:
    """A whole answer of the teacher, in two seconds."""
    made = Answer(
        deployment_id="large-1",
        text=text,
        finish_reason="stop",
        was_read_to_end=True,
        prompt_tokens=20,
        completion_tokens=5,
        cost_usd=0.001,
        started_at=NOW,
        first_token_at=NOW + 1,
        ended_at=NOW + 2,
    )
    return replace(made, **changes)


def served(arm: Arm = LARGE) -> Attempt:
    """The drawn arm answered."""
    return Attempt(f"{arm.deployment}-1", arm.deployment, decision(arm))


def failed(arm: Arm = LARGE, is_blamed: bool = True) -> Attempt:
    """The drawn arm failed."""
    return Attempt(f"{arm.deployment}-1", arm.deployment, decision(arm), "InternalServerError", is_blamed)


def outcome(text: str = "Paris.", attempts: Sequence[Attempt] | None = None, **changes: Any) -> Outcome:
    """A whole answer of the teacher."""
    made = Outcome(
        deployment_id="large-1",
        text=text,
        finish_reason="stop",
        is_whole=True,
        prompt_tokens=20,
        completion_tokens=5,
        cost_usd=0.001,
        time_to_first_token_s=1.0,
        latency_s=2.0,
        attempts=tuple(attempts) if attempts is not None else (served(),),
    )
    return replace(made, **changes)


GOOD = Quality(1.0, 0.05, {"answered": 1.0})


def record(decision_id: str = "d1", **changes: Any) -> DecisionRecord:
    """A settled decision of key a, or of the key that the scope names."""
    scope = str(changes.get("scope", ""))
    if scope.startswith("key:"):
        changes.setdefault("caller", scope.removeprefix("key:"))
    made = DecisionRecord(
        id=decision_id,
        policy="test",
        caller="a",
        is_acted=True,
        scope="key:a",
        created_at=NOW,
        expires_at=NOW + 1000,
        revision=1,
        arm="large+0",
        segment="all",
        propensity=0.75,
        served_by="large-1",
        n_examples=0,
        prompt_tokens=20,
        completion_tokens=5,
        cost_usd=0.001,
        latency_s=2.0,
        is_whole=True,
        quality=1.0,
        quality_weight=0.05,
        reward=0.9,
        evidence=(),
        example_ids=(),
        admitted_id="",
        feedback=None,
        explanation={"signals": {"answered": 1.0}},
    )
    return replace(made, **changes)


def parts(
    rules: Policy | None = None, store: MemoryStore | None = None, clock: FrozenClock | None = None, **changes: Any
) -> Parts:
    """Fakes all around; every draw has seed 1."""
    rules = rules or policy()
    made = Parts(
        policy=rules,
        embedder=HashingEmbedder(),
        store=store or MemoryStore(),
        knowledge=Knowledge(),
        utility=BetaUtility(rules.selection.utility),
        clock=clock or FrozenClock(NOW),
        new_seed=lambda: 1,
    )
    return replace(made, **changes)


def lane(rules: Policy | None = None, store: MemoryStore | None = None, max_pending: int = 100, **changes: Any) -> Lane:
    """An open lane over fakes."""
    made = Lane(parts(rules, store, **changes), max_pending)
    made.is_open = True
    return made


def situation(**changes: Any) -> Situation:
    """A request with nothing near it, at rest."""
    made = Situation("all", Context("context-test:2", (1.0, 0.5)), None, 0.0, 0, Conditions())
    return replace(made, **changes)


def lesson(decision_id: str = "d1", arm: str = "large+0", reward: float = 1.0, **changes: Any) -> Lesson:
    """The drawn arm answered, and its answer was judged in full."""
    made = Lesson(
        decision_id=decision_id,
        at=NOW,
        arms=("small+0", "large+0"),
        pmf=(0.5, 0.5),
        arm=arm,
        is_acted=True,
        means=(0.5, 0.5),
        situation=situation(),
        evidence=(Evidence(ArmKey(arm, "all"), 1.0, reward),),
        trials=(),
        quality=reward,
        quality_weight=1.0,
        reward=reward,
        cost_usd=0.001,
        latency_s=1.0,
        time_to_first_token_s=None,
        prompt_tokens=10,
        completion_tokens=5,
    )
    return replace(made, **changes)


def amendment(decision_id: str = "d1", revision: int = 2, reward: float = 0.0, arm: str = "large+0") -> Amendment:
    """Somebody said what the answer was worth."""
    return Amendment(decision_id, revision, (Evidence(ArmKey(arm, "all"), 1.0, reward),), reward, 1.0, reward)
