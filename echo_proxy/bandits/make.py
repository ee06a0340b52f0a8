"""Which algorithm does a policy ask for?"""

from collections.abc import Sequence

from echo_proxy.bandits.epsilon_greedy import EpsilonGreedy
from echo_proxy.bandits.fixed import Fixed
from echo_proxy.bandits.ucb1 import Ucb1
from echo_proxy.bandits.uniform import Uniform
from echo_proxy.policy import BanditPolicy, EpsilonGreedyPolicy, FixedPolicy, Ucb1Policy
from echo_proxy.protocols import Bandit


def make_bandit(policy: BanditPolicy, arms: Sequence[str]) -> Bandit:
    """The algorithm over the arms that can be drawn, in their order."""
    if isinstance(policy, EpsilonGreedyPolicy):
        return EpsilonGreedy(policy.epsilon)
    if isinstance(policy, Ucb1Policy):
        return Ucb1(policy.width)
    if isinstance(policy, FixedPolicy):
        return _fixed(policy, arms)
    return Uniform()


def _fixed(policy: FixedPolicy, arms: Sequence[str]) -> Bandit:
    shares = [policy.probabilities.get(arm, 0.0) for arm in arms]
    total = sum(shares)
    if total == 0:
        return Uniform()
    return Fixed(tuple(share / total for share in shares))
