"""Rules of epsilon-greedy."""

import numpy as np
import pytest

from echo_proxy.bandits.epsilon_greedy import EpsilonGreedy


def test_the_best_arm_gets_what_exploring_leaves() -> None:
    """The best arm gets 1 - epsilon and its own part of epsilon; the others share the rest."""
    pmf = EpsilonGreedy(0.2).pmf(np.ones(4), np.array([0.1, 0.9, 0.3, 0.2]))

    assert pmf == pytest.approx([0.05, 0.85, 0.05, 0.05])


def test_ties_share() -> None:
    """Two equally good arms are equally likely, wherever they stand."""
    pmf = EpsilonGreedy(0.0).pmf(np.ones(3), np.array([0.9, 0.1, 0.9]))

    assert pmf.tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize("epsilon", [-0.1, 1.1, float("nan")])
def test_an_epsilon_out_of_range_is_refused(epsilon: float) -> None:
    """Epsilon is a probability."""
    with pytest.raises(ValueError, match=r"epsilon must be in \[0, 1\]"):
        EpsilonGreedy(epsilon)
