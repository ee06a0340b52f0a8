"""Is an answer good enough to be kept, as sure as one is of it?"""

from math import sqrt


def worth(estimate: float, deviation: float | None, deviations: float) -> float:
    """Quality less its uncertainty.

    Args:
        estimate: quality, [0, 1].
        deviation: its standard deviation, [0, 0.5]; None = that of an answer of which only this guess is known, good
            or bad: sqrt(q (1 - q)).
        deviations: how many of them are taken off, at least 0.
    """
    unsure = sqrt(estimate * (1 - estimate)) if deviation is None else deviation
    return estimate - deviations * unsure
