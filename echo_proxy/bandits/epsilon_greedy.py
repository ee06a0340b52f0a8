"""Take the best arm, except now and then."""

from dataclasses import dataclass

from echo_proxy.bandits.evidence import check_estimates
from echo_proxy.bandits.ties import share_of_best
from echo_proxy.types import Vector


@dataclass(frozen=True, slots=True)
class EpsilonGreedy:
    """Explores any arm with probability epsilon, the best one included, and takes the best one otherwise."""

    epsilon: float
    """Share of requests that explore, [0, 1]."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.epsilon <= 1.0:
            raise ValueError(f"epsilon must be in [0, 1], got {self.epsilon}")

    def pmf(self, weights: Vector, means: Vector) -> Vector:
        """Probabilities, shape (n_arms,): 1 - epsilon + epsilon / n_arms for the best mean, ties share.

        Args:
            weights: evidence weight per arm, shape (n_arms,); checked, but it does not change the choice.
            means: expected reward per arm, shape (n_arms,).

        Raises:
            ValueError: the estimates are not usable.

        Source: Sutton and Barto, Reinforcement Learning, 2nd ed., section 2.2
        """
        check_estimates(weights, means)
        return self.epsilon / means.size + (1.0 - self.epsilon) * share_of_best(means)
