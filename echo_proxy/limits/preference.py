"""Does the caller want it good or cheap, and does the conversation stay where it was?"""

from collections.abc import Sequence

import numpy as np

from echo_proxy.policy import Policy, PreferencePolicy, StickinessPolicy
from echo_proxy.types import Adjustment, Arm, Conditions, Request, Vector


def preference_of(request: Request, policy: Policy) -> float | None:
    """Where the caller wants the dial, as far as the policy lets it: towards cheap always, towards dear if allowed."""
    asked = request.preference
    is_heard = asked is not None and (asked <= policy.preference.value or policy.allow_client_preference)
    return asked if is_heard else None


def preference_penalty(
    arms: Sequence[Arm], costs: Vector, conditions: Conditions, rules: PreferencePolicy
) -> Adjustment | None:
    """(1 - dial) * strength * normalised cost per arm; None when the dial stands at quality."""
    dial = rules.value if conditions.preference is None else conditions.preference
    if dial >= 1 or not rules.strength:
        return None
    taken = (1 - dial) * rules.strength * costs
    return Adjustment("preference", tuple(map(float, taken)), f"dial at {dial:g}")


def switch_penalty(arms: Sequence[Arm], conditions: Conditions, rules: StickinessPolicy | None) -> Adjustment | None:
    """switch_cost for arms of another deployment than the conversation's last; None when it is new or that is gone."""
    last = conditions.last_deployment
    if rules is None or not last or all(arm.deployment != last for arm in arms):
        return None
    taken = rules.switch_cost * np.array([arm.deployment != last for arm in arms])
    return Adjustment("switch", tuple(map(float, taken)), f"the conversation is with {last}")
