"""How much does old evidence still count?"""

from echo_proxy.types import ArmSums

HOUR_S = 3600.0


def fading_factor(elapsed_s: float, half_life_s: float) -> float:
    """Share of evidence that is left after elapsed_s, (0, 1].

    A clock that went back fades nothing; a half-life of 0 or less means that evidence never fades.
    """
    if half_life_s <= 0 or elapsed_s <= 0:
        return 1.0
    return float(0.5 ** (elapsed_s / half_life_s))


def hourly_factor(elapsed_s: float, decay: float) -> float:
    """Share of a count that is left after elapsed_s when `decay` of it is left after an hour, [0, 1]."""
    return float(decay ** (max(elapsed_s, 0.0) / HOUR_S))


def faded(sums: ArmSums, factor: float) -> ArmSums:
    """The sums when only a share of them still counts."""
    return ArmSums(sums.weight * factor, sums.reward_sum * factor, sums.reward_sq_sum * factor)


def added(before: ArmSums, increment: ArmSums) -> ArmSums:
    """Both together. What rounding left below zero is zero: no sum of evidence is negative."""
    return ArmSums(
        max(0.0, before.weight + increment.weight),
        max(0.0, before.reward_sum + increment.reward_sum),
        max(0.0, before.reward_sq_sum + increment.reward_sq_sum),
    )
