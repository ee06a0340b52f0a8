"""How much does each lesson still count when a model is fitted?"""

from collections.abc import Sequence

import numpy as np

from echo_proxy.policy import BanditBase
from echo_proxy.types import Lesson, Vector


def remaining(lessons: Sequence[Lesson], rules: BanditBase) -> Vector:
    """What time and later answers leave of each lesson beside the newest, (0, 1], shape (n_lessons,).

    Answers count as much as they weigh as evidence, so that one which nobody judged hardly ages the others.

    Args:
        lessons: in any order.
    """
    ats = np.array([lesson.at for lesson in lessons])  # (n_lessons,)
    order = sorted(range(len(lessons)), key=lambda i: (lessons[i].at, lessons[i].decision_id))
    weights = np.array([sum(one.weight for one in lesson.evidence) for lesson in lessons])  # (n_lessons,)
    later = np.zeros(len(lessons))
    later[order] = weights[order][::-1].cumsum()[::-1] - weights[order]
    factors: Vector = 0.5 ** ((ats.max(initial=-np.inf) - ats) / rules.half_life_s) * rules.estimate.discount**later
    return factors
