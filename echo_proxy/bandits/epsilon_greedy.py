"""Take the best arm, except now and then."""

from dataclasses import dataclass
from math import isfinite

from echo_proxy.bandits.evidence import check_estimates
from echo_proxy.bandits.ties import share_of_best
from echo_proxy.types import Estimates, Vector


@dataclass(frozen=True, slots=True)
class EpsilonGreedy:
    """Explores any arm with probability epsilon, the best one included, and takes the best one otherwise."""

    epsilon: float
    """Share of requests that explore before there is evidence, [0, 1]; for good when there is no decay."""
    decay: float | None = None
    """Evidence weight after which half as much is explored, above 0; None keeps epsilon as it is."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.epsilon <= 1.0:
            raise ValueError(f"epsilon must be in [0, 1], got {self.epsilon}")
        if self.decay is not None and not (isfinite(self.decay) and self.decay > 0.0):
            raise ValueError(f"decay must be finite and above 0, got {self.decay}")

    def pmf(self, seen: Estimates) -> Vector:
        """Probabilities, shape (n_arms,): 1 - epsilon + epsilon / n_arms for the best mean, ties share.

        Raises:
            ValueError: the estimates are not usable.

        Source: Sutton and Barto, Reinforcement Learning, 2nd ed., section 2.2
        """
        check_estimates(seen)
        epsilon = self.epsilon_after(float(seen.weights.sum()))
        return epsilon / seen.means.size + (1.0 - epsilon) * share_of_best(seen.means)

    def epsilon_after(self, weight: float) -> float:
        """Share of requests that explore, [0, 1]: epsilon / (1 + weight / decay).

        Falls like 1 / weight in the long run, as the paper's. Evidence that fades keeps the weight bounded and so
        exploration alive; without fading, `with_floor` does.

        Args:
            weight: evidence weight of all arms together, priors included, at least 0.

        Source: Auer, Cesa-Bianchi and Fischer 2002, Figure 3 (epsilon_n-greedy), with epsilon_n = min(1, cK / (d^2 n));
        the smooth start instead of the minimum is ours. https://doi.org/10.1023/A:1013689704352
        """
        return self.epsilon if self.decay is None else self.epsilon / (1.0 + weight / self.decay)
