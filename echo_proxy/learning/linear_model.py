"""What does each arm earn in a context? Bayesian linear regression on the newest lessons, shared between arms."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from echo_proxy.bandits.linear import Matrix
from echo_proxy.bandits.pooled import NEVER_SEEN, Pooled
from echo_proxy.learning.ageing import remaining
from echo_proxy.learning.context import FEATURES, N_TOPICS, OF_SELECTION, OWN_LOAD, own_load
from echo_proxy.learning.prior import prior_of
from echo_proxy.learning.text_measures import NAMES as TEXT_NAMES
from echo_proxy.policy import BanditBase, LinearEstimate, Policy
from echo_proxy.types import Arm, Context, Estimates, Evidence, Lesson, News, Situation, Vector

_SPREADS: Mapping[str, tuple[float, float]] = {
    "one": (0.2, 0.5),
    **dict.fromkeys(TEXT_NAMES, (0.087, 0.43)),
    **dict.fromkeys(("turns", "system"), (0.1, 0.3)),
    **dict.fromkeys(OF_SELECTION, (0.2, 0.3)),
    **dict.fromkeys(("own_load", "hurry"), (0.1, 0.3)),
    **{f"topic_{i}": (0.2, 0.6) for i in range(N_TOPICS)},
}
"""Standard deviation of each coefficient before any evidence, in reward units: of an arm's own part, and of what arms
have in common. One, text and topics: measured on the dev halves of ZeroEval and LLMRouter (half or twice as much is
worse by some percent of the regret); those of selection, load, turns and hurry are guesses, not yet measured."""
_LEAST, _MOST = -0.25, 1.25
"""Between these a line may lead. Cut at 0 and 1, arms that are all but certain to be right would be alike: on ZeroEval
a better arm was then found after 117 requests, so after 65 (medians of 12 seeds)."""


@dataclass(frozen=True, slots=True)
class _Observation:
    """One piece of evidence, ready for the regression."""

    arm: str
    load: float
    weight: float
    target: float
    """Reward less what was expected before any evidence."""


class LinearModel:
    """Regression of reward - prior on the context, pooled over arms."""

    def __init__(self, policy: Policy, lessons: Sequence[Lesson] = ()) -> None:
        """Fitted to lessons; those of another schema than the newest one's are left alone."""
        rules = policy.bandit.estimate
        if not isinstance(rules, LinearEstimate):
            raise ValueError(f"bandit.estimate must be linear, got {rules.kind}")
        self._bandit: BanditBase = policy.bandit
        self._noise = rules.noise
        self._arms = {arm.name: arm for arm in policy.to_arms()}
        # every feature in a unit in which an arm's own coefficient has variance 1, as `Pooled` asks
        spreads = np.array([_SPREADS[name] for name in FEATURES])  # (n_features, 2)
        own, shared = spreads[:, 0] / sqrt(rules.precision), spreads[:, 1] / sqrt(rules.shared_precision)
        is_shared = rules.sharing == "shared"
        self._scale = (own if is_shared else np.hypot(own, shared)) / sqrt(rules.noise)  # (n_features,)
        self._prior_weight = rules.noise / float(np.hypot(own[0], shared[0])) ** 2
        self._pooled = Pooled(len(FEATURES), (own / shared) ** 2 if is_shared else None)
        self._slots: dict[str, int] = {}
        self._left: dict[str, float] = {}
        self._schema: str | None = None
        if lessons:
            self._fit(lessons)

    def estimates(self, arms: Sequence[Arm], situation: Situation) -> Estimates:
        """What is believed of each arm; one that was never seen expects its prior and what arms have in common."""
        priors = np.array([prior_of(arm, situation, self._bandit.prior).reward for arm in arms])  # (n_arms,)
        contexts = np.tile(self._scaled(situation.context), (len(arms), 1))  # (n_arms, n_features)
        loads = situation.conditions.loads
        if loads:
            contexts[:, OWN_LOAD] = self._scale[OWN_LOAD] * np.array([_load(arm, situation) for arm in arms])
        is_known = situation.context.schema == self._schema
        slots = [self._slots.get(arm.name, NEVER_SEEN) if is_known else NEVER_SEEN for arm in arms]
        found = self._pooled.expected(slots, contexts)
        means = np.minimum(np.maximum(priors + (found.means if is_known else 0.0), _LEAST), _MOST)
        return Estimates(
            self._pooled.weights[slots] + self._prior_weight, means, np.sqrt(self._noise * found.variances)
        )

    def learn(self, news: News) -> None:
        """Take a new lesson into account; an earlier view of the same decision is taken out exactly."""
        if self._schema is None:
            self._schema = news.lesson.situation.context.schema
        if news.before is not None:
            self._add(news.before, -1.0)
        self._add(news.lesson, 1.0)

    def _add(self, lesson: Lesson, sign: float) -> None:
        if not self._counts(lesson):
            return
        x = self._scaled(lesson.situation.context)
        for one in self._observations(lesson):
            x[OWN_LOAD] = self._scale[OWN_LOAD] * one.load
            self._pooled.learn(self._slot(one.arm), x, sign * one.weight, one.target)

    def _fit(self, lessons: Sequence[Lesson]) -> None:
        self._schema = lessons[-1].situation.context.schema
        counted = [lesson for lesson in lessons if self._counts(lesson)]
        left = remaining(counted, self._bandit).tolist()
        self._left = dict(zip((lesson.decision_id for lesson in counted), left, strict=True))
        seen = [(row, one) for row, lesson in enumerate(counted) for one in self._observations(lesson)]
        if not seen:
            return
        values = np.array([lesson.situation.context.values for lesson in counted])
        contexts = values[[row for row, _ in seen]] * self._scale  # (n_seen, n_features)
        contexts[:, OWN_LOAD] = self._scale[OWN_LOAD] * np.array([one.load for _, one in seen])
        self._slots = {arm: 1 + i for i, arm in enumerate(dict.fromkeys(one.arm for _, one in seen))}
        self._sum_up([one for _, one in seen], contexts)

    def _sum_up(self, seen: Sequence[_Observation], contexts: Matrix) -> None:
        slots = np.array([self._slots[one.arm] for one in seen])  # (n_seen,)
        weights = np.array([one.weight for one in seen])  # (n_seen,)
        targets = np.array([one.target for one in seen])  # (n_seen,)
        weighted = contexts * weights[:, None]  # (n_seen, n_features)
        of_slots = [slots == slot for slot in self._slots.values()]
        self._pooled.replace(
            [weighted[of].T @ contexts[of] for of in of_slots],
            [targets[of] @ weighted[of] for of in of_slots],
            [float(weights[of].sum()) for of in of_slots],
        )

    def _observations(self, lesson: Lesson) -> Iterable[_Observation]:
        left = self._left.get(lesson.decision_id, 1.0)
        for one in lesson.evidence:
            if one.weight > 0:
                yield self._observation(one, lesson.situation, left)

    def _observation(self, one: Evidence, situation: Situation, left: float) -> _Observation:
        # an arm that the policy has no longer still tells what arms have in common
        arm = self._arms.get(one.key.arm) or Arm(one.key.arm, "", 0)
        expected = prior_of(arm, situation, self._bandit.prior).reward
        return _Observation(arm.name, _load(arm, situation), left * one.weight, one.reward - expected)

    def _counts(self, lesson: Lesson) -> bool:
        context = lesson.situation.context
        return context.schema == self._schema and len(context.values) == len(FEATURES)

    def _slot(self, arm: str) -> int:
        if arm not in self._slots:
            self._slots[arm] = self._pooled.add_slot()
        return self._slots[arm]

    def _scaled(self, context: Context) -> Vector:
        if len(context.values) != len(FEATURES):
            return np.asarray(self._scale * (np.arange(len(FEATURES)) == 0))
        return np.asarray(np.array(context.values) * self._scale)


def _load(arm: Arm, situation: Situation) -> float:
    load = situation.conditions.loads.get(arm.deployment)
    return own_load(load.in_flight) if load else 0.0
