"""A log as the real pipeline writes it: plan, settle, feedback, over fakes."""

import itertools
from typing import Any

import numpy as np

from echo_proxy.pipeline import Parts, plan, revise, settle
from echo_proxy.policy import Policy
from echo_proxy.protocols import Store
from echo_proxy.types import Attempt, Feedback, Plan
from tests.builders import NOW, answer, parts, request
from tests.fakes import FrozenClock, MemoryStore

BOTH = {"small", "large"}
GOOD = {"small": 0.3, "large": 0.9}
"""How often a deployment's answer is good."""
TOPICS = ("apples", "pears", "number 7", "Paris", "London", "the sea")
COSTS = {"small": 0.0001, "large": 0.004}


async def fill(
    rules: Policy, n: int = 300, seed: int = 1, judged: float = 1.0, store: Store | None = None, **changes: Any
) -> Parts:
    """n requests, one a second; `judged` of the answers get feedback at once. Gives back what took part."""
    rng, clock, seeds = np.random.default_rng(seed), FrozenClock(NOW), itertools.count(seed * 10_000)
    made = parts(rules, clock=clock, new_seed=lambda: next(seeds), **changes)
    made = Parts(**{name: getattr(made, name) for name in Parts.__slots__} | {"store": store or MemoryStore()})
    for number in range(n):
        clock.time = NOW + number
        text = f"tell me about {rng.choice(TOPICS)}"
        asked = request(text, decision_id=f"d{number}", received_at=clock.time)
        planned = await plan(asked, BOTH, made)
        assert planned is not None
        await _settle(planned, made, rng, rng.random() < judged)
    return made


async def _settle(planned: Plan, made: Parts, rng: np.random.Generator, is_judged: bool) -> None:
    decision, deployment = planned.decision, planned.decision.arm.deployment
    attempt = Attempt(f"{deployment}-1", deployment, None if planned.is_shadow else decision)
    at = planned.request.received_at
    given = answer(cost_usd=COSTS[deployment], started_at=at, first_token_at=at, ended_at=at + 1)
    settled = settle(planned, given, [attempt], made.policy)
    settlement = settled.settlement
    if settled.example is not None:
        await made.store.add(settled.example)
    score = float(rng.random() < GOOD[deployment])
    settlements = [settlement]
    if is_judged:
        settlements.append(revise(settlement.record, Feedback(score), made.policy))
    for one in settlements:
        assert await made.store.settle(one)
        made.knowledge.absorb(one.increments)
        if one.lesson is not None:
            made.knowledge.study([one.lesson])
