"""What does a policy earn on a stream, when it sees only the outcomes of what it chose?

The real path from `choose` on: context, estimates, adjustments, bandit, floor, draw, and learning from each outcome.
Nothing is retrieved and nothing is called.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.router.streams import Array, Stream
from echo_proxy.learning.fit import fit_outcomes
from echo_proxy.learning.knowledge import Knowledge
from echo_proxy.online.learn import increments_between
from echo_proxy.online.reward import reward
from echo_proxy.online.route import Choice, choose, draw
from echo_proxy.online.situation import conditions_of, situation_of
from echo_proxy.policy import Policy, RegressionEstimate
from echo_proxy.types import Arm, ArmKey, Caller, Conditions, Evidence, Lesson, Message, Request, Selection, Situation

Outcome = Callable[[int, int], float]
"""Quality of the answer to request t by arm i."""


@dataclass(frozen=True)
class Run:
    """What was chosen and earned, step by step."""

    chosen: np.ndarray
    """Index of the arm, shape (n,)."""
    pmf: Array
    """Probability of every arm of the policy, shape (n, n_arms); 0 where it could not be drawn."""
    quality: Array
    """Shape (n,)."""
    cost_usd: Array
    """Shape (n,)."""
    reward: Array
    """Shape (n,)."""


def request_of(text: str, index: int, now: float) -> Request:
    """A request of a single tenant."""
    return Request(
        call_id=str(index),
        decision_id=f"{index:08d}",
        model_group="auto",
        endpoint="chat",
        system="",
        dialogue=(Message("user", text),),
        caller=Caller(),
        scope="key:bench",
        partition="p",
        wants_json=False,
        is_streamed=False,
        received_at=now,
    )


@dataclass(frozen=True)
class Pace:
    """How fast requests come and models are fitted."""

    seconds_apart: float = 1.0
    refit_every: int = 500
    """Lessons; between two fits the model learns from each answer by itself."""


def situations_of(stream: Stream, policy: Policy) -> tuple[Situation, ...]:
    """What the router sees of each request beside the moment: the same for all that serve the stream, so with what
    any estimate may look at."""
    bandit = policy.bandit.model_copy(update={"estimate": RegressionEstimate(kind="regression")})
    policy = policy.model_copy(update={"bandit": bandit})
    return tuple(
        situation_of(request_of(text, t, 0.0), vector, Selection(), Conditions(), policy)
        for t, (text, vector) in enumerate(zip(stream.texts, stream.vectors, strict=True))
    )


class Replay:
    """A policy at work on a stream, one request after the other."""

    def __init__(
        self,
        stream: Stream,
        policy: Policy,
        seed: int,
        situations: Sequence[Situation] | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.stream = stream
        self.policy = policy
        self.knowledge = Knowledge(policy)
        self.knowledge.end_fit(fit_outcomes(policy, ()))
        self._situations = situations or situations_of(stream, policy)
        self._pace = pace or Pace()
        self._seeds = np.random.default_rng(seed)
        self._n_learned = 0

    def decide(self, t: int, arms: Sequence[Arm]) -> tuple[Situation, Choice, int]:
        """Situation, probabilities and the index of the arm that was drawn."""
        request = request_of(self.stream.texts[t], t, t * self._pace.seconds_apart)
        conditions = conditions_of(request, "", self.policy, self.knowledge)
        seen = self._situations[t]
        segment = seen.segment if self.policy.bandit.segments else "all"
        situation = replace(seen, conditions=conditions, segment=segment)
        choice = choose(arms, situation, self.policy, self.knowledge, request.received_at)
        return situation, choice, draw(choice.pmf, int(self._seeds.integers(2**62)))

    def learn(
        self, t: int, arms: Sequence[Arm], made: tuple[Situation, Choice, int], quality: float, cost: float
    ) -> float:
        """The reward; the policy has heard of it."""
        situation, _, index = made
        earned = reward(quality, cost, 0.0, self.policy.reward)
        evidence = (Evidence(ArmKey(arms[index].name, situation.segment), 1.0, earned),)
        self.knowledge.absorb(increments_between((), evidence))
        lesson = lesson_of(t, arms, made, evidence, quality, cost)
        self.knowledge.study([replace(lesson, at=t * self._pace.seconds_apart)])
        self._n_learned += 1
        if self._n_learned % self._pace.refit_every == 0:
            self.knowledge.end_fit(fit_outcomes(self.policy, self.knowledge.begin_fit()))
        return earned


def lesson_of(
    t: int,
    arms: Sequence[Arm],
    made: tuple[Situation, Choice, int],
    evidence: tuple[Evidence, ...],
    quality: float,
    cost_usd: float,
) -> Lesson:
    """What the outcome teaches."""
    situation, choice, index = made
    return Lesson(
        decision_id=f"{t:08d}",
        at=float(t),
        arms=tuple(arm.name for arm in arms),
        pmf=tuple(map(float, choice.pmf)),
        arm=arms[index].name,
        is_acted=True,
        means=tuple(map(float, choice.seen.means)),
        situation=situation,
        evidence=evidence,
        trials=(),
        quality=quality,
        quality_weight=1.0,
        reward=evidence[0].reward,
        cost_usd=cost_usd,
        latency_s=0.0,
        time_to_first_token_s=None,
        prompt_tokens=0,
        completion_tokens=0,
    )


def play(
    stream: Stream,
    policy: Policy,
    seed: int,
    outcome: Outcome | None = None,
    situations: Sequence[Situation] | None = None,
) -> Run:
    """The whole stream by the policy, whose arms are the stream's models in their order."""
    arms = policy.to_arms()
    replay = Replay(stream, policy, seed, situations)
    n = len(stream)
    chosen = np.zeros(n, dtype=np.int64)
    pmf, quality, cost, earned = np.zeros((n, len(arms))), np.zeros(n), np.zeros(n), np.zeros(n)
    for t in range(n):
        made = replay.decide(t, arms)
        index = made[2]
        chosen[t], pmf[t] = index, made[1].pmf
        quality[t] = stream.quality[t, index] if outcome is None else outcome(t, index)
        cost[t] = stream.cost_usd[t, index]
        earned[t] = replay.learn(t, arms, made, float(quality[t]), float(cost[t]))
    return Run(chosen, pmf, quality, cost, earned)


def policy_for(stream: Stream, **changes: object) -> Policy:
    """A policy over all models of a stream, one arm each, for quality alone unless `changes` says otherwise."""
    data: Mapping[str, object] = {
        "name": "bench",
        "match": {"model_groups": ["auto"]},
        "arms": [{"deployment": model} for model in stream.models],
        "bandit": {"kind": "epsilon_greedy"},
        "reward": {"quality_weight": 1.0, "cost_weight": 0.0, "latency_weight": 0.0},
        **changes,
    }
    return Policy.model_validate(data)
