"""What do the lines of policy take from the arms' expected rewards?"""

from collections.abc import Sequence

import numpy as np

from echo_proxy.limits.budget import budget_penalty
from echo_proxy.limits.deadline import deadline_penalty
from echo_proxy.limits.load import load_bias
from echo_proxy.limits.preference import preference_penalty, switch_penalty
from echo_proxy.policy import Policy
from echo_proxy.types import Adjustment, Arm, Conditions, Vector


def adjustments(
    arms: Sequence[Arm], means: Vector, conditions: Conditions, policy: Policy, *, is_load_weighed: bool = False
) -> tuple[Adjustment, ...]:
    """All that apply, in the order of the policy's lines; without load and deadline where they are weighed."""
    costs = normalised_costs(arms, conditions)
    found = (
        load_bias(arms, conditions, policy.load) if policy.load and not is_load_weighed else None,
        None if is_load_weighed else deadline_penalty(arms, means, conditions, policy.deadline),
        budget_penalty(arms, costs, conditions) if policy.budget else None,
        preference_penalty(arms, costs, conditions, policy.preference),
        switch_penalty(arms, conditions, policy.stickiness),
    )
    return tuple(one for one in found if one is not None)


def normalised_costs(arms: Sequence[Arm], conditions: Conditions) -> Vector:
    """Forecast cost per arm relative to the dearest, shape (n_arms,), [0, 1]; arms that never answered count as the
    mean of the others."""
    known = [conditions.forecasts[arm.name].cost_usd for arm in arms if arm.name in conditions.forecasts]
    if not known or max(known) <= 0:
        return np.zeros(len(arms))
    usual = float(np.mean(known))
    costs = [conditions.forecasts[arm.name].cost_usd if arm.name in conditions.forecasts else usual for arm in arms]
    return np.array(costs) / max(known)
