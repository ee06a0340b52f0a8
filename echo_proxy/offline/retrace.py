"""How likely would a policy have drawn each arm, request by request, learning from the log as it went?

What it would draw hangs only on what was settled before, so importance weighting stays valid although it learns. It
learns from what the log drew, not from what it would have drawn itself, and it begins with nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from echo_proxy.bandits.evidence import fade
from echo_proxy.learning.best_effort import read_values
from echo_proxy.learning.context import FEATURES, VERSION
from echo_proxy.learning.fit import fit_outcomes
from echo_proxy.learning.knowledge import Knowledge
from echo_proxy.limits.deadline import timeliness
from echo_proxy.offline.history import History
from echo_proxy.offline.options import options
from echo_proxy.online.learn import increments_between
from echo_proxy.online.reward import reward
from echo_proxy.online.route import choose
from echo_proxy.online.segment import label
from echo_proxy.policy import Policy, SegmentEstimate
from echo_proxy.types import Amendment, Arm, ArmKey, Evidence, Increment, Lesson, Names, Situation

_FIRST_FIT = 20
"""Changes after which a model is fitted first."""
_FIT_GROWTH = 1.1
"""It is fitted again when there are so many times as many; between fits it learns every lesson incrementally."""
_FIT_EVERY = 500
"""And after so many changes at the latest."""
_SCHEMA = f"context-{VERSION}:"
_NAMES = tuple((FEATURES.index(f"names_{names}"), names) for names in Names if names is not Names.NONE)
_FADED = 0.999
"""Fading is applied when it comes to so much: in steps of 0.1 %."""


@dataclass(frozen=True, slots=True)
class Traced:
    """One logged decision as another policy would have made it."""

    lesson: Lesson
    """As it was when it was settled."""
    shares: Mapping[str, float]
    """Probabilities by the log's names, of the arms that the log could draw."""
    unseen: Mapping[str, float]
    """Probabilities by the policy's names, of those that it could not."""


def retrace(history: History, policy: Policy, known: Mapping[str, Arm], since: float = 0.0) -> Iterator[Traced]:
    """Every decision from `since` on, in the order in which they were settled; earlier ones are learned from.

    Args:
        history: of the policy that made the decisions.
        policy: the one to be judged.
        known: arms of the policy that made the decisions, by name.
        since: seconds since the epoch.
    """
    student = _Student(policy)
    arms = policy.to_arms()
    for entry in history.entries:
        if isinstance(entry, Lesson):
            student.wait_until(entry.at)
            entry = replace(entry, situation=_in_bands_of(policy, entry.situation))
            traced, means = _trace(entry, arms, known, policy, student.knowledge)
            if entry.at >= since:
                yield traced
            entry = replace(entry, means=means)
        student.learn(entry)


def _trace(
    lesson: Lesson, arms: tuple[Arm, ...], known: Mapping[str, Arm], policy: Policy, knowledge: Knowledge
) -> tuple[Traced, tuple[float, ...]]:
    """The decision as the policy would make it, and what it expects of the log's arms."""
    found = options(arms, lesson, known)
    if not found:
        return Traced(lesson, {}, {"no arm": 1.0}), lesson.means
    choice = choose([option.arm for option in found], lesson.situation, policy, knowledge, lesson.at)
    pmf = choice.pmf / choice.pmf.sum()
    shares = {option.logged: float(p) for option, p in zip(found, pmf, strict=True) if option.logged}
    unseen = {option.arm.name: float(p) for option, p in zip(found, pmf, strict=True) if not option.logged}
    expected = {option.logged: float(mean) for option, mean in zip(found, choice.seen.means, strict=True)}
    means = tuple(expected.get(name, mean) for name, mean in zip(lesson.arms, lesson.means, strict=True))
    return Traced(lesson, shares, unseen), means


def _in_bands_of(policy: Policy, situation: Situation) -> Situation:
    """The situation in the bands of the policy's own segments, as far as the log tells."""
    n_chosen, rules = situation.n_chosen, policy.bandit.segments
    if n_chosen and situation.context.schema.startswith(_SCHEMA):
        names = next((names for i, names in _NAMES if situation.context.values[i]), Names.NONE)
    else:
        names = next((names for names in Names if situation.segment.endswith(f"names={names}")), Names.NONE)
    return replace(situation, segment=label(situation.utility if n_chosen else None, names, rules))


def earned(lesson: Lesson, policy: Policy) -> float:
    """The reward by a policy's own rules of what the log measured."""
    timely = timeliness(lesson.latency_s, lesson.situation.conditions.deadline_s, policy.deadline)
    return timely * reward(lesson.quality, lesson.cost_usd, lesson.latency_s, policy.reward)


class _Student:
    """What a policy has learned so far, as a worker and the store together would know it."""

    def __init__(self, policy: Policy) -> None:
        self.knowledge = Knowledge(policy)
        self.knowledge.values = read_values(policy)
        self._policy = policy
        self._now = 0.0
        self._fitted_at = 0
        self._views: dict[str, Lesson] = {}

    def wait_until(self, now: float) -> None:
        """Evidence fades; clocks of several workers may differ, so time never goes back."""
        factor = 0.5 ** (max(now - self._now, 0.0) / self._policy.bandit.half_life_s)
        if factor > _FADED:
            return
        self._now = now
        self.knowledge.replace({key: fade(sums, factor) for key, sums in self.knowledge.snapshot().items()}, ())

    def learn(self, entry: Lesson | Amendment) -> None:
        """What was settled, by the policy's own reward."""
        before = self._views.get(entry.decision_id)
        lesson = entry if isinstance(entry, Lesson) else self._amended(entry)
        evidence = self._by_own_reward(lesson)
        old = before.evidence if before else ()
        self._views[lesson.decision_id] = replace(lesson, evidence=evidence)
        increments = increments_between(old if len(old) == len(evidence) else (), evidence)
        self.knowledge.absorb(self._faded(increment, lesson.at) for increment in increments)
        self.knowledge.study([replace(entry, evidence=evidence, reward=earned(lesson, self._policy))])
        self._fit()

    def _amended(self, entry: Amendment) -> Lesson:
        return replace(
            self._views[entry.decision_id],
            evidence=entry.evidence,
            quality=entry.quality,
            quality_weight=entry.quality_weight,
            reward=entry.reward,
        )

    def _by_own_reward(self, lesson: Lesson) -> tuple[Evidence, ...]:
        """In the bands of the policy's own segments, too."""
        own, segment = earned(lesson, self._policy), lesson.situation.segment
        return tuple(
            replace(one, key=ArmKey(one.key.arm, segment), reward=own if one.is_served else one.reward)
            for one in lesson.evidence
        )

    def _faded(self, increment: Increment, at: float) -> Increment:
        """As if it had been known when the decision was taken."""
        factor = 0.5 ** (max(self._now - at, 0.0) / self._policy.bandit.half_life_s)
        return replace(increment, sums=fade(increment.sums, factor))

    def _fit(self) -> None:
        changes = self.knowledge.memory.n_changes
        due = max(_FIRST_FIT, min(self._fitted_at * _FIT_GROWTH, self._fitted_at + _FIT_EVERY))
        if isinstance(self._policy.bandit.estimate, SegmentEstimate) or changes < due:
            return
        self._fitted_at = changes
        self.knowledge.end_fit(fit_outcomes(self._policy, self.knowledge.begin_fit()))
