"""How much is evidence still worth, now that more has arrived?

Fading by count rather than by time: a quiet night forgets nothing, a busy minute a lot. Every arm fades with every
observation of any arm, so that an arm left alone becomes uncertain again.
"""

from collections.abc import Sequence
from math import isfinite

from echo_proxy.bandits.evidence import add, fade
from echo_proxy.types import ArmSums

DISCOUNT = 0.996
"""What an observation leaves of all earlier ones: a memory of 250. Source: ParetoBandit 2026,
https://arxiv.org/abs/2604.00136"""


def remaining(weight: float, discount: float = DISCOUNT) -> float:
    """Factor on old evidence after new evidence of this weight, (0, 1]: discount ** weight.

    Args:
        weight: of the new evidence, all arms together, at least 0.
        discount: factor per observation of weight 1, (0, 1]; 1 never fades.

    Raises:
        ValueError: weight or discount is out of range.
    """
    if not (isfinite(weight) and weight >= 0.0):
        raise ValueError(f"weight must be finite and at least 0, got {weight}")
    if not 0.0 < discount <= 1.0:
        raise ValueError(f"discount must be in (0, 1], got {discount}")
    return float(discount**weight)


def faded(sums: Sequence[ArmSums], weight: float, discount: float = DISCOUNT) -> tuple[ArmSums, ...]:
    """Every arm's sums after evidence of this weight has arrived anywhere; raises ValueError like `remaining`."""
    factor = remaining(weight, discount)
    return tuple(fade(arm, factor) for arm in sums)


def learned(
    sums: Sequence[ArmSums], arm: int, weight: float, reward: float, discount: float = DISCOUNT
) -> tuple[ArmSums, ...]:
    """Every arm's sums after one more observation of one arm, which itself counts in full.

    Args:
        sums: evidence per arm.
        arm: index of the arm that was observed.
        weight: of the observation, at least 0.
        reward: in [0, 1].
        discount: as in `remaining`.

    Raises:
        ValueError: a number is out of range, or there is no such arm.

    Source: Garivier and Moulines 2011, section 3, https://arxiv.org/abs/0805.3415
    """
    if not 0 <= arm < len(sums):
        raise ValueError(f"arm must be in [0, {len(sums)}), got {arm}")
    left = faded(sums, weight, discount)
    return (*left[:arm], add(left[arm], weight, reward), *left[arm + 1 :])
