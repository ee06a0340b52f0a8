"""Who chooses the arms in a simulation: one arm for all, chance, a real policy by its real code, or a clairvoyant."""

import numpy as np

from echo_proxy.bandits.evidence import evidence
from echo_proxy.learning.context import FEATURES
from echo_proxy.learning.fit import fit_outcomes
from echo_proxy.learning.knowledge import Knowledge
from echo_proxy.limits.deadline import time_left, timeliness
from echo_proxy.offline.simulate_arrivals import Traffic
from echo_proxy.offline.simulate_core import Answered, Queues
from echo_proxy.offline.simulate_fleet import Fleet, Takes
from echo_proxy.online.reward import reward
from echo_proxy.online.route import choose
from echo_proxy.policy import Policy, SegmentEstimate
from echo_proxy.types import Arm, ArmKey, Conditions, Context, Evidence, Increment, Lesson, Situation

_FIT_EVERY = 1000
"""Lessons between two fits of a model of outcomes."""


class Static:
    """One arm for all requests."""

    is_listening = False

    def __init__(self, arm: int) -> None:
        self._arm = arm

    def pick(self, request: int, now: float, queues: Queues) -> int:
        """The arm."""
        return self._arm

    def hear(self, answer: Answered) -> None:
        """It does not learn."""


class ByChance:
    """Any arm."""

    is_listening = False

    def __init__(self, n_arms: int, n_requests: int, generator: np.random.Generator) -> None:
        self._arms = generator.integers(n_arms, size=n_requests).tolist()

    def pick(self, request: int, now: float, queues: Queues) -> int:
        """Drawn beforehand."""
        return int(self._arms[request])

    def hear(self, answer: Answered) -> None:
        """It does not learn."""


class Clairvoyant:
    """Knows how good and how late every arm's answer would be, and takes the best one that comes in time; where none
    does, the quickest. It is greedy: no bound for policies that spare capacity."""

    is_listening = False

    def __init__(self, traffic: Traffic, fleet: Fleet, takes: Takes, deadline_s: float) -> None:
        self._quality = traffic.quality.tolist()
        self._occupied = takes.occupied_s.tolist()
        self._overhead = takes.overhead_s.tolist()
        self._deployment_of = fleet.deployment_of
        self._deadline_s = deadline_s

    def pick(self, request: int, now: float, queues: Queues) -> int:
        """Best outcome first, then the least time."""
        best, chosen = (-1.0, -np.inf), 0
        for arm, deployment in enumerate(self._deployment_of):
            occupied = self._occupied[request][arm]
            latency = max(queues.free_at[deployment][0] - now, 0.0) + occupied + self._overhead[request][arm]
            worth = (self._quality[request][arm] * (latency <= self._deadline_s), -latency)
            if worth > best:
                best, chosen = worth, arm
        return chosen

    def hear(self, answer: Answered) -> None:
        """It does not learn."""


class ByPolicy:
    """A policy file at work: `choose` with a Knowledge that hears of every answer, as in a proxy.

    A request is known by its class, which stands for the segment and for the topic in the context.
    """

    is_listening = True

    def __init__(
        self,
        policy: Policy,
        knowledge: Knowledge,
        traffic: Traffic,
        fleet: Fleet,
        takes: Takes,
        generator: np.random.Generator,
        feedback: float = 1.0,
    ) -> None:
        self._policy = policy
        self._knowledge = knowledge
        self._traffic = traffic
        self._takes = takes
        names = [arm.name for arm in fleet.arms]
        self._arms: tuple[Arm, ...] = policy.to_arms()
        self._places = [names.index(arm.name) for arm in self._arms]
        self._contexts = [_context(i, len(traffic.kinds)) for i in range(len(traffic.kinds))]
        self._deadline_s = time_left(None, policy.deadline)
        self._draws = generator.random(len(traffic)).tolist()
        self._is_judged = (generator.random(len(traffic)) < feedback).tolist()
        self._made: dict[int, tuple[Situation, tuple[float, ...], tuple[float, ...]]] = {}
        self._n_heard = 0
        self.notes: dict[str, int] = {}
        """What was noted of decisions, and how often."""

    def pick(self, request: int, now: float, queues: Queues) -> int:
        """Drawn by the policy's probabilities."""
        knowledge = self._knowledge
        kind = int(self._traffic.kind[request])
        loads = knowledge.board.total(now)
        forecasts = knowledge.forecaster.forecasts(loads)
        conditions = Conditions(loads, forecasts, knowledge.pacer.price, deadline_s=self._deadline_s)
        situation = Situation(self._traffic.kinds[kind], self._contexts[kind], None, 0.0, 0, conditions)
        choice = choose(self._arms, situation, self._policy, knowledge, now)
        for note in choice.notes:
            key = note.split(" is outside")[0].rpartition(" ")[0] if " is outside" in note else note
            self.notes[key] = self.notes.get(key, 0) + 1
        index = min(int(np.searchsorted(np.cumsum(choice.pmf), self._draws[request])), len(self._arms) - 1)
        knowledge.board.start(str(request), self._arms[index].deployment, now)
        self._made[request] = (situation, tuple(map(float, choice.pmf)), tuple(map(float, choice.seen.means)))
        return self._places[index]

    def hear(self, answer: Answered) -> None:
        """Learn as `settle` does."""
        lesson = self._lesson(answer)
        self._knowledge.board.end(lesson.decision_id, lesson.latency_s)
        self._knowledge.absorb(Increment(one.key, evidence(one.weight, one.reward)) for one in lesson.evidence)
        self._knowledge.study([lesson])
        self._n_heard += 1
        if self._n_heard % _FIT_EVERY == 0 and not isinstance(self._policy.bandit.estimate, SegmentEstimate):
            lessons = self._knowledge.begin_fit()
            self._knowledge.end_fit(fit_outcomes(self._policy, lessons))

    def _lesson(self, answer: Answered) -> Lesson:
        i, policy = answer.request, self._policy
        situation, pmf, means = self._made.pop(i)
        arm = self._arms[self._places.index(answer.arm)]
        cost_usd = float(self._takes.cost_usd[i, answer.arm])
        quality = float(self._traffic.quality[i, answer.arm])
        timely = timeliness(answer.latency_s, self._deadline_s, policy.deadline)
        earned = timely * reward(quality, cost_usd, answer.latency_s, policy.reward)
        weight = 1.0 if self._is_judged[i] else policy.reward.unjudged_weight
        arrivals = self._traffic.arrivals
        return Lesson(
            decision_id=str(i),
            at=float(arrivals.at[i]),
            arms=tuple(one.name for one in self._arms),
            pmf=pmf,
            arm=arm.name,
            is_acted=True,
            means=means,
            situation=situation,
            evidence=(Evidence(ArmKey(arm.name, situation.segment), weight, earned),) if self._is_judged[i] else (),
            trials=(),
            quality=quality,
            quality_weight=weight,
            reward=earned,
            cost_usd=cost_usd,
            latency_s=answer.latency_s,
            time_to_first_token_s=answer.first_s,
            prompt_tokens=int(arrivals.prompt_tokens[i]),
            completion_tokens=int(arrivals.completion_tokens[i]),
        )


def _context(kind: int, n_kinds: int) -> Context:
    """A context that tells the class only."""
    topics = [0.0] * max(n_kinds, 12)
    topics[kind] = 1.0
    values = [1.0, *[0.0] * (FEATURES.index("topic_0") - 1), *topics]
    return Context(f"simulated-1:{len(values)}", tuple(values))
