"""How is spending held at its target?"""

from bisect import insort
from collections.abc import Sequence

import numpy as np

from echo_proxy.policy import BudgetPolicy
from echo_proxy.types import Adjustment, Arm, Conditions, Lesson, Vector

_DAY_S = 86400.0
_HORIZON = 20.0
"""Requests over which what was spent too much is made up for: fewer make the price swing, more leave a debt at the
end of a short run. Chosen on seeds 0 to 2 of bench.router.budget."""
_MOST = 0.5
"""Largest share of the target by which it is moved to make up for the past."""
_MOST_RATIO = 10.0
"""A price follows no cost beyond so many times the target at once: a target may be wrong by more for a moment."""
_SAVED_S = 3600.0
"""Of a day's budget so much time's worth is kept for later: a quiet night is not for the next morning's rush."""


class Pacer:
    """The price of cost: it rises while more than the target is spent, by dual ascent.

    ParetoBandit follows an average of what answers cost; what was overspent before stays overspent. Here the target
    moves a little until the debt is paid, so that the total comes out right, too.

    Source of the ascent: ParetoBandit, arXiv 2604.00136
    """

    def __init__(self, rules: BudgetPolicy | None) -> None:
        self.rules = rules
        self.price = 0.0
        """lambda: reward that a unit of normalised cost must bring."""
        self.debt_usd = 0.0
        """Spent beyond the target so far; below 0 when less."""
        self._average_usd: float | None = None
        self._arrivals = _Arrivals()

    def learn(self, lesson: Lesson) -> None:
        """Follow what a request has cost, whoever answered it."""
        if self.rules is None:
            return
        allowed_usd = self._allowed_usd(lesson.at, self.rules)
        self.debt_usd += lesson.cost_usd - allowed_usd
        if self.rules.usd_per_day is not None:
            self.debt_usd = max(self.debt_usd, -self.rules.usd_per_day * _SAVED_S / _DAY_S)
        target = self.target_usd()
        if target is None:
            return
        rate = self.rules.rate
        old = target if self._average_usd is None else self._average_usd
        self._average_usd = old + rate * (lesson.cost_usd - old)
        correction = float(np.clip(self.debt_usd / (_HORIZON * target), -_MOST, _MOST))
        step = rate * (min(self._average_usd / (target * (1 - correction)), _MOST_RATIO) - 1)
        self.price = float(np.clip(self.price + step, 0.0, self.rules.max_price))

    def target_usd(self) -> float | None:
        """What a request may cost on average; None without a budget, or before the first requests of a daily one."""
        if self.rules is None:
            return None
        if self.rules.usd_per_1000_requests is not None:
            return self.rules.usd_per_1000_requests / 1000
        gap_s = self._arrivals.gap_s
        if gap_s is None or self.rules.usd_per_day is None:
            return None
        return self.rules.usd_per_day * gap_s / _DAY_S

    def _allowed_usd(self, at: float, rules: BudgetPolicy) -> float:
        """What may be spent more since the lesson before: by requests, or by the time that has passed."""
        if rules.usd_per_day is None:
            return (rules.usd_per_1000_requests or 0.0) / 1000
        return rules.usd_per_day * min(self._arrivals.add(at), _SAVED_S) / _DAY_S


class _Arrivals:
    """How often do requests come? Lessons come when answers end, from several workers: not in the order of arrival."""

    _LEAST, _MOST = 100, 2000
    """Arrivals that are looked at."""
    _WINDOW_S = 60.0
    """Older ones are not, beyond the least."""
    _ENOUGH = 10
    _LATE = 10
    """One in so many of the newest is left aside: others of that time are still being answered, or a clock is ahead."""
    _EVERY = 8
    """The gap is measured once in so many arrivals."""
    _PAUSE = 20.0
    """No gap counts for more than so many usual ones: a night says nothing of the morning."""

    def __init__(self) -> None:
        self.gap_s: float | None = None
        """Time between two requests, above 0; None while too few have come."""
        self._sorted: list[float] = []
        self._n_added = 0
        self._clock: float | None = None

    def add(self, at: float) -> float:
        """Seconds by which time has gone on with this arrival, at least 0."""
        arrivals = self._sorted
        insort(arrivals, at)
        while len(arrivals) > self._MOST or (
            len(arrivals) > self._LEAST and arrivals[0] < arrivals[self._n_settled() - 1] - self._WINDOW_S
        ):
            del arrivals[0]
        self._n_added += 1
        if len(arrivals) >= self._ENOUGH and (self.gap_s is None or self._n_added % self._EVERY == 0):
            self.gap_s = self._gap_s()
        before, now = self._clock, arrivals[self._n_settled() - 1]
        self._clock = now if before is None else max(before, now)
        return 0.0 if before is None else self._clock - before

    def _n_settled(self) -> int:
        return len(self._sorted) - len(self._sorted) // self._LATE

    def _gap_s(self) -> float:
        gaps = np.sort(np.diff(self._sorted[: self._n_settled()]))  # (n - 1,), ascending
        usual = gaps[: len(gaps) - len(gaps) // 20 - 1]
        longest = self._PAUSE * float(usual.mean())
        return max(float(np.minimum(gaps, longest).mean()) if longest > 0 else float(gaps.mean()), 1e-6)


def budget_penalty(arms: Sequence[Arm], costs: Vector, conditions: Conditions) -> Adjustment | None:
    """price * normalised cost per arm; None while spending is on target."""
    if not conditions.budget_price:
        return None
    taken = conditions.budget_price * costs  # (n_arms,)
    return Adjustment("budget", tuple(map(float, taken)), f"price of cost {conditions.budget_price:.3g}")
