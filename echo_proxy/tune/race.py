"""Is a candidate faster than the incumbent, beyond what the machine's noise explains?

Both do the same rounds in turn, so that what disturbs one disturbs the other, and each pair of rounds gives a ratio. A
candidate wins as soon as Student's interval around the mean of their logarithms lies above the margin, and is given up
when it lies below, or when after some rounds the mean itself does.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import fmean, median, stdev

from echo_proxy.local.options import LocalModelOptions
from echo_proxy.tune.records import CandidateFailed, Goal, Load, Measurer, Round

_T = (318.3, 22.33, 10.21, 7.17, 5.89, 5.21, 4.79, 4.50, 4.30, 4.14, 4.02)
"""Student's t for 99.9 % on one side, by degrees of freedom from 1 on: some thirty candidates are looked at after every
round, and with 97.5 % nine of twenty searches found a winner where there was nothing but noise (measured)."""
_HOPELESS = math.log(0.75)
"""After a single pair of rounds. guess: noise of a shared machine was within 20 %"""
_LEAST_ROUNDS = 3
"""Before a candidate may win."""
_CUT = 4.0
"""A candidate is stopped when it takes so many times as long as the incumbent."""
_GRACE_S = 1.0
_LOADING_S = 60.0
_LATER_FIRST = 1.25
"""Delay of the first token, in that of the incumbent, from which on a quicker whole answer is not worth it. guess"""


@dataclass(frozen=True, slots=True)
class Rules:
    """When is better better?"""

    margin: float = 0.02
    """Least gain, as a share."""
    most_rounds: int = 10

    @property
    def gain(self) -> float:
        """The margin as a logarithm."""
        return math.log1p(self.margin)


@dataclass(frozen=True, slots=True)
class Result:
    """How a race ended."""

    is_better: bool
    ratio: float
    """The candidate's speed in the incumbent's."""
    figures: Round
    """The candidate's median round."""
    note: str = ""
    is_open: bool = False
    """Whether it looked better, but not beyond the noise."""


class Deadline:
    """The time that there is."""

    def __init__(self, budget_s: float, now: Callable[[], float]) -> None:
        self._now = now
        self._began = now()
        self.budget_s = budget_s

    @property
    def spent_s(self) -> float:
        """Since the start."""
        return self._now() - self._began

    @property
    def left_s(self) -> float:
        """At least 0."""
        return max(self.budget_s - self.spent_s, 0.0)


class Races:
    """Compares candidates, within a time."""

    def __init__(self, measurer: Measurer, goal: Goal, load: Load, deadline: Deadline, rules: Rules) -> None:
        self._measurer = measurer
        self._goal: Goal = goal
        self._load = load
        self._deadline = deadline
        self._rules = rules
        self._numbers = count(1)
        self.round_s = 0.0
        """Of the incumbent, its slowest yet of the last race."""

    def start(self, options: LocalModelOptions) -> Round:
        """The first incumbent's round. Raises CandidateFailed."""
        figures = self._measurer.measure(options, self._load, next(self._numbers), self._deadline.left_s)
        self.round_s = figures.seconds
        return figures

    def run(
        self,
        incumbent: LocalModelOptions,
        candidate: LocalModelOptions,
        most_rounds: int | None = None,
        most_s: float = math.inf,
    ) -> Result:
        """Race them.

        Args:
            incumbent: the best so far.
            candidate: the other.
            most_rounds: default: the rules'.
            most_s: time after which no more rounds begin, when there have been enough for a win.

        Raises:
            CandidateFailed: one of them gives no figures.
        """
        until_s = self._deadline.spent_s + most_s
        ours: list[Round] = []
        theirs: list[Round] = []
        logs: list[float] = []
        for i in range(most_rounds or self._rules.most_rounds):
            if i and self._deadline.left_s < ours[-1].seconds + theirs[-1].seconds:
                break
            number = next(self._numbers)
            for is_ours in (False, True) if i % 2 else (True, False):
                if is_ours:
                    limit_s = min(self._left_s, _CUT * self.round_s + _LOADING_S)
                    ours.append(self._measurer.measure(candidate, self._load, number, limit_s))
                else:
                    theirs.append(self._incumbent_round(incumbent, number))
            logs.append(math.log(ours[-1].speed(self._goal) / theirs[-1].speed(self._goal)))
            if self._is_decided(logs) or (i + 1 >= _LEAST_ROUNDS and self._deadline.spent_s > until_s):
                break
        self.round_s = max(one.seconds for one in theirs)
        return self._result(ours, theirs, logs)

    @property
    def _left_s(self) -> float:
        return self._deadline.left_s + _GRACE_S

    def _incumbent_round(self, incumbent: LocalModelOptions, number: int) -> Round:
        """Raises CandidateFailed, which says that it was not the candidate."""
        try:
            return self._measurer.measure(incumbent, self._load, number, self._left_s)
        except CandidateFailed as error:
            raise CandidateFailed(f"beside it the incumbent failed: {error}") from error

    def _is_decided(self, logs: Sequence[float]) -> bool:
        if len(logs) == 1:
            return logs[0] < _HOPELESS
        low, high = interval(logs)
        if len(logs) < _LEAST_ROUNDS:
            return high < self._rules.gain
        # What has not even a better mean by now would take many rounds to prove itself, if ever.
        return fmean(logs) < self._rules.gain or low > self._rules.gain

    def _result(self, ours: Sequence[Round], theirs: Sequence[Round], logs: Sequence[float]) -> Result:
        figures = sorted(ours, key=lambda one: one.speed(self._goal))[len(ours) // 2]
        ratio = math.exp(fmean(logs))
        low, _ = interval(logs)
        if low <= self._rules.gain or len(logs) < _LEAST_ROUNDS:
            is_open = fmean(logs) > self._rules.gain
            return Result(False, ratio, figures, "within the noise" if is_open else "", is_open)
        later = median(one.first_s for one in ours) / max(median(one.first_s for one in theirs), 1e-9)
        if self._goal == "latency" and later > _LATER_FIRST:
            return Result(False, ratio, figures, f"first token {later:.1f} times as late")
        return Result(True, ratio, figures)


def interval(logs: Sequence[float]) -> tuple[float, float]:
    """Where the mean of such numbers lies, 99.9 % sure on each side; nothing is known of a single one."""
    if len(logs) < 2:
        return -math.inf, math.inf
    half = _T[min(len(logs) - 2, len(_T) - 1)] * stdev(logs) / math.sqrt(len(logs))
    return fmean(logs) - half, fmean(logs) + half
