"""How is spending held at its target?"""

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
_GAP_RATE = 0.02
"""Share of the newest gap in the average time between two requests. guess, not yet measured"""


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
        self._gap_s: float | None = None
        self._last_at: float | None = None

    def learn(self, lesson: Lesson) -> None:
        """Follow what a request has cost, whoever answered it."""
        self._learn_gap(lesson.at)
        target = self.target_usd()
        if self.rules is None or target is None:
            return
        rate = self.rules.rate
        old = target if self._average_usd is None else self._average_usd
        self._average_usd = old + rate * (lesson.cost_usd - old)
        self.debt_usd += lesson.cost_usd - target
        if self.rules.usd_per_day is not None:  # what a quiet night saved is not for the next morning's rush
            self.debt_usd = max(self.debt_usd, -_HORIZON * target)
        correction = float(np.clip(self.debt_usd / (_HORIZON * target), -_MOST, _MOST))
        step = rate * (self._average_usd / (target * (1 - correction)) - 1)
        self.price = float(np.clip(self.price + step, 0.0, self.rules.max_price))

    def target_usd(self) -> float | None:
        """What a request may cost on average; None without a budget, or before the second request of a daily one."""
        if self.rules is None:
            return None
        if self.rules.usd_per_1000_requests is not None:
            return self.rules.usd_per_1000_requests / 1000
        if self._gap_s is None or self.rules.usd_per_day is None:
            return None
        return self.rules.usd_per_day * self._gap_s / _DAY_S

    def _learn_gap(self, at: float) -> None:
        last, self._last_at = self._last_at, at
        if last is None:
            return
        gap = min(max(at - last, 1e-6), _DAY_S)
        self._gap_s = gap if self._gap_s is None else self._gap_s + _GAP_RATE * (gap - self._gap_s)


def budget_penalty(arms: Sequence[Arm], costs: Vector, conditions: Conditions) -> Adjustment | None:
    """price * normalised cost per arm; None while spending is on target."""
    if not conditions.budget_price:
        return None
    taken = conditions.budget_price * costs  # (n_arms,)
    return Adjustment("budget", tuple(map(float, taken)), f"price of cost {conditions.budget_price:.3g}")
