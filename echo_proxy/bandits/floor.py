"""How likely must even the worst arm be, so that logs can tell what it would have done?"""

from echo_proxy.types import Vector

_ROUNDING = 1e-9
"""Sums of a few float64 probabilities are exact to about 1e-15; anything beyond this is a mistake, not rounding."""


def with_floor(pmf: Vector, floor: float) -> Vector:
    """Probabilities of at least `floor` each, shape (n_arms,).

    The rest is given out in the proportions of `pmf`, so arms keep their order and ties stay ties.

    Args:
        pmf: probabilities, shape (n_arms,).
        floor: least probability of an arm, in [0, 1 / n_arms].

    Raises:
        ValueError: `pmf` is not a distribution, or the floors would add up to more than 1.
    """
    _check_distribution(pmf)
    if not 0.0 <= floor <= 1.0 / pmf.size:
        raise ValueError(f"floor must be in [0, {1.0 / pmf.size:.6g}] for {pmf.size} arms, got {floor}")
    rest = max(1.0 - pmf.size * floor, 0.0)  # rounding may push it below zero
    return floor + rest * pmf


def _check_distribution(pmf: Vector) -> None:
    if pmf.ndim != 1 or pmf.size == 0:
        raise ValueError(f"pmf must have shape (n_arms,), got {pmf.shape}")
    if not (pmf.min() >= 0.0 and abs(pmf.sum() - 1.0) <= _ROUNDING):  # False for NaN as well
        raise ValueError(f"pmf must be probabilities that sum to 1, got {pmf.tolist()}")
