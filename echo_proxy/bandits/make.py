"""Which algorithm does a policy ask for?"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from echo_proxy.bandits.beta_thompson import BetaThompson
from echo_proxy.bandits.discounted_ucb import DiscountedUcb
from echo_proxy.bandits.epsilon_greedy import EpsilonGreedy
from echo_proxy.bandits.fixed import Fixed
from echo_proxy.bandits.gaussian_thompson import GaussianThompson
from echo_proxy.bandits.linucb import LinUcb
from echo_proxy.bandits.softmax import Softmax
from echo_proxy.bandits.ucb1 import Ucb1
from echo_proxy.bandits.uniform import Uniform
from echo_proxy.policy import (
    BanditBase,
    BanditPolicy,
    BestEffortPolicy,
    BetaThompsonPolicy,
    DiscountedUcbPolicy,
    EpsilonGreedyPolicy,
    FixedPolicy,
    LinearThompsonPolicy,
    LinUcbPolicy,
    SoftmaxPolicy,
    Ucb1Policy,
    UniformPolicy,
)
from echo_proxy.protocols import Bandit


def make_bandit(policy: BanditPolicy, arms: Sequence[str]) -> Bandit:
    """The algorithm over the arms that can be drawn, in their order."""
    if isinstance(policy, FixedPolicy):
        return _fixed(policy, arms)
    return _MAKERS[type(policy)](policy)


_MAKERS: Mapping[type[BanditBase], Callable[[Any], Bandit]] = {
    EpsilonGreedyPolicy: lambda policy: EpsilonGreedy(policy.epsilon, policy.decay),
    Ucb1Policy: lambda policy: Ucb1(policy.width),
    DiscountedUcbPolicy: lambda policy: DiscountedUcb(policy.xi, policy.width),
    LinUcbPolicy: lambda policy: LinUcb(policy.alpha),
    LinearThompsonPolicy: lambda policy: GaussianThompson(policy.width, policy.calm_after),
    BetaThompsonPolicy: lambda _policy: BetaThompson(),
    SoftmaxPolicy: lambda policy: Softmax(policy.temperature),
    UniformPolicy: lambda _policy: Uniform(),
    BestEffortPolicy: lambda _policy: LinUcb(0.0),
}


_OTHERWISE: Mapping[str, BanditPolicy] = {
    "linucb": LinUcbPolicy(kind="linucb"),
    "linear_thompson": LinearThompsonPolicy(kind="linear_thompson"),
    "epsilon_greedy": EpsilonGreedyPolicy(kind="epsilon_greedy"),
}


def otherwise(policy: BestEffortPolicy) -> BanditPolicy:
    """What decides where the learned policy cannot say."""
    return _OTHERWISE[policy.otherwise]


def _fixed(policy: FixedPolicy, arms: Sequence[str]) -> Bandit:
    shares = [policy.probabilities.get(arm, 0.0) for arm in arms]
    total = sum(shares)
    if total == 0:
        return Uniform()
    return Fixed(tuple(share / total for share in shares))
