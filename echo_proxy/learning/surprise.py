"""Did an arm change just now?

Page's CUSUM test on what each arm's answers earned beyond what was expected of them: small surprises of either sign
cancel out, a lasting one adds up to an alarm. From then on the mean of the arm's newest surprises is added to what is
expected of it, whoever estimates that, until the estimate itself has caught up.
Source: Page 1954, https://doi.org/10.1093/biomet/41.1-2.100
"""

from collections import OrderedDict
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np

from echo_proxy.policy import Drift
from echo_proxy.types import Lesson, Vector

_REMEMBERED = 64
"""Newest answers per arm of which a later view can still replace the earlier one."""
_DEVIATION = 0.5
"""Of a single surprise, at most: a reward lies in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of an arm."""

    at: float
    weight: float
    expected: float
    reward: float


class Surprises:
    """How far the newest answers of each arm lie from what was expected of them."""

    def __init__(self) -> None:
        self._answers: dict[str, OrderedDict[tuple[str, int], Answer]] = {}
        self._expected: dict[str, float] = {}
        self._tests: dict[str, ChangeTest] = {}
        self._settled: dict[str, ChangeTest] = {}
        """After the answers that cannot be amended any more."""
        self._rules: Drift | None = None

    def learn(self, lesson: Lesson) -> None:
        """Take over the surprises of a lesson; a later view of the same decision replaces the earlier one."""
        expected = dict(zip(lesson.arms, lesson.means, strict=True))
        for index, one in enumerate(lesson.evidence):
            arm, key = one.key.arm, (lesson.decision_id, index)
            known = self._answers[arm].get(key) if arm in self._answers else None
            # an arm that failed is not among those that were drawn from next: what was expected of it last counts
            mean = known.expected if known else expected.get(arm, self._expected.get(arm))
            if mean is not None:
                self._hear(arm, key, Answer(lesson.at, one.weight, mean, one.reward))
        self._expected.update(expected)

    def corrections(self, arms: Sequence[str], rules: Drift, now: float) -> Vector:
        """What to add to each arm's expected reward, shape (n_arms,); 0 where nothing has changed."""
        if rules != self._rules:
            self._tests, self._settled, self._rules = {}, {}, rules
        return np.array([self._test(arm, rules).correction(now) if arm in self._answers else 0.0 for arm in arms])

    def _hear(self, arm: str, key: tuple[str, int], answer: Answer) -> None:
        answers = self._answers.setdefault(arm, OrderedDict())
        if key in answers:
            self._tests.pop(arm, None)
        elif arm in self._tests:
            self._tests[arm].hear(answer)
        answers[key] = answer
        if len(answers) > _REMEMBERED:
            _, oldest = answers.popitem(last=False)
            if self._rules:
                self._settled.setdefault(arm, ChangeTest(self._rules)).hear(oldest)

    def _test(self, arm: str, rules: Drift) -> "ChangeTest":
        if arm not in self._tests:
            self._tests[arm] = copy(self._settled[arm]) if arm in self._settled else ChangeTest(rules)
            for answer in self._answers[arm].values():
                self._tests[arm].hear(answer)
        return self._tests[arm]


class ChangeTest:
    """The test after some answers of one arm, oldest first."""

    def __init__(self, rules: Drift) -> None:
        self._rules = rules
        self.is_raised = False
        """The arm is not what it was."""
        self._below = self._above = 0.0
        self._weight = self._weight_sq = self._sum = self._at = 0.0

    def hear(self, answer: Answer) -> None:
        """One answer more."""
        rules, weight, residual = self._rules, answer.weight, answer.reward - answer.expected
        self._below = max(self._below - weight * (residual + rules.slack), 0.0)
        self._above = max(self._above + weight * (residual - rules.slack), 0.0)
        if not self.is_raised and self._below == self._above == 0.0:
            self._begin()
            return
        left = exp(-weight / rules.memory) * self._left_by(answer.at)
        self._weight = left * self._weight + weight
        self._weight_sq = left**2 * self._weight_sq + weight**2
        self._sum = left * self._sum + weight * residual
        self._at = max(answer.at, self._at)
        if not self.is_raised:
            self.is_raised = max(self._below, self._above) > rules.threshold
        elif abs(self._sum) < _DEVIATION * sqrt(self._weight_sq):  # less than a standard error: it is as expected again
            self.is_raised = False
            self._begin()

    def correction(self, now: float) -> float:
        """What to add to the arm's expected reward."""
        if not self.is_raised:
            return 0.0
        weight = self._weight * self._left_by(now)
        return self._sum / self._weight * weight / (weight + self._rules.strength)

    def _left_by(self, now: float) -> float:
        return exp(-log(2) * max(now - self._at, 0.0) / self._rules.half_life_s)

    def _begin(self) -> None:
        """Whatever is to be found begins with the next answer."""
        self._below = self._above = 0.0
        self._weight = self._weight_sq = self._sum = self._at = 0.0
