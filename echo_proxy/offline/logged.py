"""What does the log know, as arrays?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from echo_proxy.offline.evaluation import QualityFrom
from echo_proxy.offline.history import History
from echo_proxy.offline.off_policy import Draws, Indices, Matrix, Outcomes
from echo_proxy.offline.retrace import Traced, earned
from echo_proxy.policy import Policy
from echo_proxy.types import Lesson, Vector

IN_UNIT = frozenset({"reward", "quality"})
"""Measures in [0, 1]: what is not known of them is bounded."""
Mask = NDArray[np.bool_]
"""One-dimensional array of truths."""


class Logged:
    """The decisions as arrays."""

    def __init__(self, new: list[Traced], running: list[Traced], history: History, policy: Policy) -> None:
        self.lessons = [history.finals[traced.lesson.decision_id] for traced in new]
        self.arms = tuple(dict.fromkeys(arm for lesson in self.lessons for arm in lesson.arms))
        self.drawn: Indices = np.array([self.arms.index(lesson.arm) for lesson in self.lessons], dtype=np.int64)
        pmfs = [lesson.pmf[lesson.arms.index(lesson.arm)] / sum(lesson.pmf) for lesson in self.lessons]
        self.propensities: Vector = np.array(pmfs)
        self.new, self.running = self._draws(new), self._draws(running)
        self.unseen_new, self.unseen_running = _unseen(new), _unseen(running)
        self.judged = np.array([history.is_judged(lesson.decision_id) for lesson in self.lessons], dtype=bool)
        self.certain = np.array([lesson.decision_id in history.certain for lesson in self.lessons], dtype=bool)
        self.failed = np.array([_has_failed(lesson) for lesson in self.lessons], dtype=bool)
        self.contexts = _contexts(self.lessons)
        self.policy = policy

    def _draws(self, traced: list[Traced]) -> Draws:
        """The target restricted to the arms that the log could draw."""
        target = np.zeros((len(traced), len(self.arms)))
        for row, one in enumerate(traced):
            total = sum(one.shares.values())
            # Where the log could draw nothing of it, nothing is known: as the log drew, and counted as unseen.
            lesson = one.lesson
            shares = one.shares if total > 0 else dict(zip(lesson.arms, lesson.pmf, strict=True))
            for arm, share in shares.items():
                target[row, self.arms.index(arm)] = share / (total or sum(lesson.pmf))
        return Draws(self.drawn, self.propensities, target)

    def outcomes(self, measure: str, quality: QualityFrom) -> Outcomes:
        """What is known of a measure, and how many decisions each known one stands for."""
        if measure in IN_UNIT:
            values = [earned(one, self.policy) if measure == "reward" else one.quality for one in self.lessons]
            known = self.judged if quality == "judged" else np.ones(len(values), dtype=bool)
            known, certain = known | self.failed, self.certain | self.failed
            return Outcomes(np.where(self.failed, 0.0, values), _counts(known, certain, self.drawn))
        values = [float(getattr(one, measure)) for one in self.lessons]
        known = ~self.failed
        return Outcomes(np.where(known, values, 0.0), _counts(known, np.zeros_like(known), self.drawn))


def _counts(known: Mask, certain: Mask, drawn: Indices) -> Vector:
    """1 where it was certain that it would be known; elsewhere the known ones of an arm stand for its unknown ones.

    A validator's refutation is always known, praise only where somebody gave it: without these counts an arm would
    look the worse the fewer readers say something.
    """
    counts = certain.astype(float)
    for arm in np.unique(drawn):
        rest = (drawn == arm) & ~certain
        if (rest & known).any():
            counts[rest & known] = rest.sum() / (rest & known).sum()
    return counts


def _unseen(traced: Sequence[Traced]) -> dict[str, float]:
    """Share of all draws that goes to each arm which the log could not draw."""
    found: dict[str, float] = {}
    for one in traced:
        for arm, share in one.unseen.items():
            found[arm] = found.get(arm, 0.0) + share / len(traced)
    return found


def _contexts(lessons: Sequence[Lesson]) -> Matrix:
    """Features, shape (n, n_features); those of another schema than the newest one's are zero."""
    if not lessons:
        return np.zeros((0, 1))
    newest = lessons[-1].situation.context
    rows = np.zeros((len(lessons), len(newest.values)))
    for row, lesson in enumerate(lessons):
        if lesson.situation.context.schema == newest.schema:
            rows[row] = lesson.situation.context.values
    return rows


def as_logged(lesson: Lesson) -> Traced:
    """The decision as the log made it."""
    return Traced(lesson, dict(zip(lesson.arms, lesson.pmf, strict=True)), {})


def is_evidence(lesson: Lesson) -> bool:
    """The arm answered, or failed by its own fault."""
    return lesson.is_acted or _has_failed(lesson)


def _has_failed(lesson: Lesson) -> bool:
    return not lesson.is_acted and any(not one.is_served and one.key.arm == lesson.arm for one in lesson.evidence)
