"""What does each arm probably earn in this situation?"""

from collections.abc import Sequence

import numpy as np

from echo_proxy.bandits.evidence import combine
from echo_proxy.learning.knowledge import Knowledge
from echo_proxy.learning.prior import prior_of
from echo_proxy.policy import Policy, SegmentEstimate
from echo_proxy.types import Adjustment, Arm, ArmKey, Estimates, Situation


def estimate(arms: Sequence[Arm], situation: Situation, policy: Policy, knowledge: Knowledge) -> Estimates:
    """By the policy's estimator; by the averages of the segment until that has been fitted."""
    if isinstance(policy.bandit.estimate, SegmentEstimate) or knowledge.model is None:
        return averages(arms, situation, policy, knowledge)
    return knowledge.model.estimates(arms, situation)


def averages(arms: Sequence[Arm], situation: Situation, policy: Policy, knowledge: Knowledge) -> Estimates:
    """Average reward of each arm in the segment, prior included."""
    priors = [prior_of(arm, situation, policy.bandit.prior) for arm in arms]
    return combine(
        [knowledge.average(ArmKey(arm.name, situation.segment)) for arm in arms],
        np.array([prior.reward for prior in priors]),  # (n_arms,)
        np.array([prior.weight for prior in priors]),  # (n_arms,)
    )


def drift(arms: Sequence[Arm], policy: Policy, knowledge: Knowledge, now: float) -> Adjustment | None:
    """What recent surprises take from (or, below 0, add to) the arms; None when there are none."""
    rules = policy.bandit.drift
    if rules is None:
        return None
    corrections = knowledge.surprises.corrections([arm.name for arm in arms], rules, now)
    if not corrections.any():
        return None
    changed = [f"{arm.name} by {by:+.2f}" for arm, by in zip(arms, corrections, strict=True) if by]
    return Adjustment(
        "drift", tuple(map(float, -corrections)), f"newest answers differ from what was expected: {', '.join(changed)}"
    )
