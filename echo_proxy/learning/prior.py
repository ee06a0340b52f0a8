"""What is believed of an arm before any evidence?"""

from dataclasses import dataclass

from echo_proxy.policy import Prior
from echo_proxy.types import Arm, Situation


@dataclass(frozen=True, slots=True)
class Belief:
    """An expected reward, and how many observed answers it is worth."""

    reward: float
    weight: float


def prior_of(arm: Arm, situation: Situation, prior: Prior) -> Belief:
    """The arm's own prior, else what is known of its examples, else the policy's prior."""
    if arm.prior_reward is not None:
        return Belief(arm.prior_reward, prior.weight)
    if prior.utility_weight and arm.n_examples and situation.n_chosen:
        return Belief(situation.utility, prior.utility_weight)
    return Belief(prior.reward, prior.weight)
