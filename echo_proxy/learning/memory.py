"""Which lessons are remembered, so that models can be fitted to them?"""

from collections import OrderedDict
from dataclasses import replace

from echo_proxy.types import Amendment, Lesson, News

_HEARD = 4
"""Lessons by id that are not learned again, per lesson that is remembered: a worker reads its own from the store when
it may have forgotten them. The store keeps about twice as many as are remembered."""


class Memory:
    """The newest lessons, each with its latest amendment. Learning one twice changes nothing."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lessons: OrderedDict[str, Lesson] = OrderedDict()
        self._revisions: dict[str, int] = {}
        self._heard: OrderedDict[str, None] = OrderedDict()
        """Ids, those of forgotten lessons too."""
        self.n_changes = 0
        """Grows with everything that is new."""

    def __len__(self) -> int:
        return len(self._lessons)

    def resize(self, capacity: int) -> None:
        """Remember so many from now on."""
        self._capacity = capacity
        self._forget()

    def absorb(self, one: Lesson | Amendment) -> News | None:
        """What is new in it; None when it was known."""
        news = self._take(one)
        self.n_changes += news is not None
        self._forget()
        return news

    def drop(self, decision_id: str) -> None:
        """Forget a lesson from which nothing can be learned; it is not taken again."""
        if self._lessons.pop(decision_id, None) is not None:
            del self._revisions[decision_id]

    def snapshot(self) -> tuple[Lesson, ...]:
        """All lessons, in the order in which they were first heard of."""
        return tuple(self._lessons.values())

    def _take(self, one: Lesson | Amendment) -> News | None:
        known = self._lessons.get(one.decision_id)
        if isinstance(one, Lesson):
            return None if one.decision_id in self._heard else self._keep(one, 1, None)
        if known is None or one.revision <= self._revisions[one.decision_id]:
            return None
        return self._keep(_amended(known, one), one.revision, known)

    def _keep(self, lesson: Lesson, revision: int, before: Lesson | None) -> News:
        self._heard[lesson.decision_id] = None
        self._lessons[lesson.decision_id] = lesson
        self._revisions[lesson.decision_id] = revision
        return News(lesson, before)

    def _forget(self) -> None:
        while len(self._lessons) > self._capacity:
            decision_id, _ = self._lessons.popitem(last=False)
            del self._revisions[decision_id]
        while len(self._heard) > _HEARD * self._capacity:
            self._heard.popitem(last=False)


def _amended(lesson: Lesson, news: Amendment) -> Lesson:
    return replace(
        lesson,
        evidence=news.evidence,
        quality=news.quality,
        quality_weight=news.quality_weight,
        reward=news.reward,
    )
