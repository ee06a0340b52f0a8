"""Did an arm change just now?

Page's CUSUM test on what each arm's answers earned beyond what was expected of them: small surprises of either sign
cancel out, a lasting one adds up to an alarm. From then on the mean of the arm's newest surprises is added to what is
expected of it, whoever estimates that, until the estimate itself has caught up.
Source: Page 1954, https://doi.org/10.1093/biomet/41.1-2.100

Who gives feedback could feign a change and so move everybody's routing. So of what one caller's answers add up to, at
most half the threshold counts: others must confirm it. A caller from whom all but a quarter of the newest answers come
is left alone by that rule: then there is hardly anybody else to ask, or to protect, and a change must still be noticed
as soon.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from math import exp, inf, log, sqrt

import numpy as np

from echo_proxy.policy import Drift
from echo_proxy.types import Lesson, Vector

_REMEMBERED = 64
"""Newest answers per arm of which a later view can still replace the earlier one."""
_OF_ONE_CALLER = 0.51
"""Of the threshold, at most, where several callers are active: two that agree suffice. Simulated, an arm that falls
from 0.8 to 0.1 is noticed after 12 answers of one caller, 15 of two, 11 of eight (medians; at most 36, where one of two
gives 70 %). One that gives half of all answers and calls each bad still raised an alarm within 500 answers in 18 of 40
runs; at 0.6 in 32."""
_ALMOST_ALL = 0.75
"""A caller with so great a share of the newest answers is taken for the only one. # guess, not yet measured"""
_NEWEST = 64.0
"""Answers over which those shares are averaged."""
_INACTIVE = 0.1
"""A caller of whom less than so many answers are left in that average is forgotten."""
_DEVIATION = 0.5
"""Of a single surprise, at most: a reward lies in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of an arm."""

    at: float
    weight: float
    expected: float
    reward: float
    caller: str = ""


@dataclass(frozen=True, slots=True)
class _Sum:
    """A sum of surprises that never falls below 0, as what each caller has brought to it since it was 0."""

    by_caller: Mapping[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Over all callers."""
        return sum(self.by_caller.values())

    def plus(self, caller: str, surprise: float, most: float) -> "_Sum":
        """With one surprise more, as far as its caller has not brought `most` already."""
        brought = self.by_caller.get(caller, 0.0)
        own = brought + min(surprise, max(most - brought, 0.0))
        if own >= 0.0:
            return _Sum({**self.by_caller, caller: own})
        others = self.total - brought  # who is content speaks against the others' surprises too
        if others + own <= 0.0:
            return _Sum()
        return _Sum({one: n * (others + own) / others for one, n in self.by_caller.items() if one != caller})


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
                self._hear(arm, key, Answer(lesson.at, one.weight, mean, one.reward, lesson.caller))
        self._expected.update(expected)

    def corrections(self, arms: Sequence[str], rules: Drift, now: float) -> Vector:
        """What to add to each arm's expected reward, shape (n_arms,); 0 where nothing has changed."""
        if rules != self._rules:
            self._tests, self._settled, self._rules = {}, {}, rules
        return np.array([self._test(arm, rules).correction(now) if arm in self._answers else 0.0 for arm in arms])

    def _hear(self, arm: str, key: tuple[str, int], answer: Answer) -> None:
        answers = self._answers.setdefault(arm, OrderedDict())
        if key not in answers and len(answers) >= _REMEMBERED and answer.at < min(one.at for one in answers.values()):
            return  # a late view of an answer that is remembered no more says nothing of the arm as it is now
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
        self._below = self._above = _Sum()
        self._answers_of: dict[str, float] = {}
        """By caller, fading with every answer."""
        self._weight = self._weight_sq = self._sum = self._at = 0.0

    def hear(self, answer: Answer) -> None:
        """One answer more."""
        rules, weight, residual = self._rules, answer.weight, answer.reward - answer.expected
        self._note_caller(answer.caller)
        most = self._most_of(answer.caller)
        self._below = self._below.plus(answer.caller, -weight * (residual + rules.slack), most)
        self._above = self._above.plus(answer.caller, weight * (residual - rules.slack), most)
        if not self.is_raised and self._below.total == self._above.total == 0.0:
            self._begin()
            return
        left = exp(-weight / rules.memory) * self._left_by(answer.at)
        self._weight = left * self._weight + weight
        self._weight_sq = left**2 * self._weight_sq + weight**2
        self._sum = left * self._sum + weight * residual
        self._at = max(answer.at, self._at)
        if not self.is_raised:
            self.is_raised = max(self._below.total, self._above.total) > rules.threshold
        elif abs(self._sum) < _DEVIATION * sqrt(self._weight_sq):  # less than a standard error: it is as expected again
            self.is_raised = False
            self._begin()

    def correction(self, now: float) -> float:
        """What to add to the arm's expected reward."""
        if not self.is_raised:
            return 0.0
        weight = self._weight * self._left_by(now)
        return self._sum / self._weight * weight / (weight + self._rules.strength)

    def _most_of(self, caller: str) -> float:
        """What one caller may bring to a sum."""
        is_almost_alone = self._answers_of[caller] >= _ALMOST_ALL * sum(self._answers_of.values())
        return inf if is_almost_alone else _OF_ONE_CALLER * self._rules.threshold

    def _note_caller(self, caller: str) -> None:
        left = {one: (1 - 1 / _NEWEST) * n for one, n in self._answers_of.items()}
        left[caller] = left.get(caller, 0.0) + 1.0
        self._answers_of = {one: n for one, n in left.items() if n >= _INACTIVE}  # a new one: tests are copied

    def _left_by(self, now: float) -> float:
        return exp(-log(2) * max(now - self._at, 0.0) / self._rules.half_life_s)

    def _begin(self) -> None:
        """Whatever is to be found begins with the next answer."""
        self._below = self._above = _Sum()
        self._weight = self._weight_sq = self._sum = self._at = 0.0
