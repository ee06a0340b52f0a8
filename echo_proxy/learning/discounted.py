"""What do averages say when every answer makes the older ones count less?"""

from collections import OrderedDict
from collections.abc import Iterable

from echo_proxy.bandits.evidence import difference, fade, merge
from echo_proxy.bandits.fading import remaining
from echo_proxy.types import ArmKey, ArmSums, Evidence, News

_AMENDABLE = 10_000
"""Newest decisions whose outcome can still be replaced."""


class DiscountedSums:
    """Sums per arm and segment that fade with all evidence that comes after, whichever arm it is about.

    A fold over the lessons, so every worker comes to the same; a later view of a decision replaces exactly what is
    left of the earlier one.
    """

    def __init__(self, discount: float) -> None:
        self._discount = discount
        self._heard = 0.0
        """Weight of all evidence so far."""
        self._sums: dict[ArmKey, tuple[ArmSums, float]] = {}
        """By key, with what had been heard when they were as they are."""
        self._heard_by: OrderedDict[str, float] = OrderedDict()

    def learn(self, news: News) -> None:
        """A new lesson, or a later view of one."""
        lesson, before = news.lesson, news.before
        if before is None:
            self._heard += sum(one.weight for one in lesson.evidence)
            self._heard_by[lesson.decision_id] = self._heard
            if len(self._heard_by) > _AMENDABLE:
                self._heard_by.popitem(last=False)
        then = self._heard_by.get(lesson.decision_id)
        if then is not None:
            self._replace(
                before.evidence if before else (), lesson.evidence, remaining(self._heard - then, self._discount)
            )

    def sums(self, key: ArmKey) -> ArmSums:
        """What is left of the evidence about one arm in one segment."""
        sums, heard = self._sums.get(key, (ArmSums(), self._heard))
        return fade(sums, remaining(self._heard - heard, self._discount))

    def _replace(self, old: Iterable[Evidence], new: Iterable[Evidence], left: float) -> None:
        for sign, evidence in ((-1, old), (1, new)):
            for one in evidence:
                told = (left * one.weight, one.reward)
                change = difference(told, (0.0, 0.0)) if sign > 0 else difference((0.0, 0.0), told)
                self._sums[one.key] = (merge(self.sums(one.key), change), self._heard)
