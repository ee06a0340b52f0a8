"""What will an arm's answer cost and take, as busy as its deployment is now?"""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import log, log2, sqrt

from echo_proxy.types import Arm, Forecast, Lesson, Load

_RATE = 0.05
"""Share of the newest answer in the moving averages. guess, not yet measured"""
_ENOUGH = 3.0
"""Answers from which on what was seen at a load counts. guess, not yet measured"""
_SPREAD = 0.5
"""Standard deviation of log(latency / forecast) before anything is known. guess, not yet measured"""
_SPREAD_WEIGHT = 10.0
"""How many answers that is worth. guess, not yet measured"""


class _Level:
    """What answers took that were asked for while about so many others were in flight."""

    __slots__ = ("first_s", "n", "token_s", "weight")

    def __init__(self) -> None:
        self.weight = 0.0
        self.n = 0.0
        self.first_s = 0.0
        self.token_s = 0.0

    def learn(self, n: float, first_s: float, token_s: float) -> None:
        self.weight += 1.0
        rate = max(_RATE, 1.0 / self.weight)
        self.n += rate * (n - self.n)
        self.first_s += rate * (first_s - self.first_s)
        self.token_s += rate * (token_s - self.token_s)


class _Arm:
    """Moving averages of one arm's answers."""

    __slots__ = ("cost_usd", "levels", "log_ratio", "log_ratio_sq", "prompt_tokens", "seen", "tokens", "weight")

    def __init__(self) -> None:
        self.weight = 0.0
        self.cost_usd = 0.0
        self.prompt_tokens = 0.0
        self.tokens = 0.0
        self.log_ratio = 0.0
        self.log_ratio_sq = 0.0
        self.levels: dict[int, _Level] = {}
        self.seen: list[_Level] = []
        """By load, ascending; single answers only while there is nothing better."""

    def learn(self, lesson: Lesson, n: float) -> None:
        known = self.latency_s(n)
        if known > 0 and lesson.latency_s > 0:
            self._learn_spread(log(lesson.latency_s / known))
        self.weight += 1.0
        rate = max(_RATE, 1.0 / self.weight)
        self.cost_usd += rate * (lesson.cost_usd - self.cost_usd)
        self.prompt_tokens += rate * (lesson.prompt_tokens - self.prompt_tokens)
        self.tokens += rate * (lesson.completion_tokens - self.tokens)
        # An answer that came at once tells nothing of its first token: all its time counts as its tokens'.
        first_s = min(lesson.time_to_first_token_s or 0.0, lesson.latency_s)
        token_s = (lesson.latency_s - first_s) / max(lesson.completion_tokens, 1)
        self.levels.setdefault(_level(n), _Level()).learn(n, first_s, token_s)
        levels = [level for _, level in sorted(self.levels.items())]
        self.seen = [level for level in levels if level.weight >= _ENOUGH] or levels

    def _learn_spread(self, ratio: float) -> None:
        rate = max(_RATE, 1.0 / (self.weight + 1.0))
        self.log_ratio += rate * (ratio - self.log_ratio)
        self.log_ratio_sq += rate * (ratio * ratio - self.log_ratio_sq)

    def spread(self) -> float:
        variance = max(self.log_ratio_sq - self.log_ratio**2, 0.0)
        n = max(self.weight - 1.0, 0.0)
        return sqrt((n * variance + _SPREAD_WEIGHT * _SPREAD**2) / (n + _SPREAD_WEIGHT))

    def latency_s(self, n: float) -> float:
        """Of an answer of usual length at a load of n others; 0 when nothing is known.

        Between the loads that were seen, and beyond the highest, along a straight line: what was asked for behind k
        others in a queue of c places waits for k / c of them. It never falls as the load grows beyond what was seen,
        and never grows faster than in proportion to the queue."""
        below: _Level | None = None
        last: _Level | None = None
        for level in self.seen:
            if level.n >= n:
                return self._between(below, level, n)
            last, below = below, level
        if below is None:
            return 0.0
        at = self._at(below)
        slope = (at - self._at(last)) / max(below.n - last.n, 1.0) if last else 0.0
        return at + min(max(slope, 0.0), at / (below.n + 1.0)) * (n - below.n)

    def service_s(self) -> float:
        """Of an answer of usual length at the least load that was seen."""
        return self._at(self.seen[0]) if self.seen else 0.0

    def _between(self, below: _Level | None, above: _Level, n: float) -> float:
        if below is None:
            return self._at(above)
        share = (n - below.n) / max(above.n - below.n, 1e-9)
        return (1 - share) * self._at(below) + share * self._at(above)

    def _at(self, level: _Level) -> float:
        return level.first_s + level.token_s * self.tokens


class Forecaster:
    """Moving averages of cost, tokens and latency per arm, the last by load."""

    def __init__(self, arms: Sequence[Arm] = ()) -> None:
        self._arms: dict[str, _Arm] = {}
        self._n_offered: Counter[str] = Counter()
        self._n_before: dict[str, float] = {}
        self._deployments: Mapping[str, str] = {}
        self.adopt(arms)

    def adopt(self, arms: Sequence[Arm]) -> None:
        """Which deployment each arm keeps busy; the load of others is taken for 0."""
        self._deployments = {arm.name: arm.deployment for arm in arms}

    def learn(self, lesson: Lesson) -> None:
        """Take over what an answer cost and took."""
        if not lesson.is_acted:
            return
        before = self._most_answers()
        for arm in lesson.arms:
            self._n_before.setdefault(arm, before)
        self._n_offered.update(lesson.arms)
        n = self._busy(lesson.arm, lesson.situation.conditions.loads)
        self._arms.setdefault(lesson.arm, _Arm()).learn(lesson, n)

    def n_answers(self, arm: str) -> float:
        """How often it has answered."""
        return self._arms[arm].weight if arm in self._arms else 0.0

    def n_offered(self, arm: str) -> int:
        """In how many requests it could have been drawn."""
        return self._n_offered[arm]

    def n_before(self, arm: str) -> float:
        """How often the arm that knows best had answered before this one could be drawn: 0 for those of the start."""
        return self._n_before.get(arm, self._most_answers())

    def _most_answers(self) -> float:
        return max((arm.weight for arm in self._arms.values()), default=0.0)

    def forecasts(self, loads: Mapping[str, Load] | None = None) -> Mapping[str, Forecast]:
        """By arm; arms that have never answered are missing."""
        return {name: self._forecast(name, arm, loads or {}) for name, arm in self._arms.items()}

    def _forecast(self, name: str, arm: _Arm, loads: Mapping[str, Load]) -> Forecast:
        n = self._busy(name, loads)
        return Forecast(arm.cost_usd, arm.latency_s(n), arm.weight, arm.service_s(), arm.spread())

    def _busy(self, arm: str, loads: Mapping[str, Load]) -> float:
        load = loads.get(self._deployments.get(arm, ""))
        return load.in_flight + load.waiting if load else 0.0


def _level(n: float) -> int:
    """Two levels for every doubling."""
    return int(2 * log2(n + 1.0))
