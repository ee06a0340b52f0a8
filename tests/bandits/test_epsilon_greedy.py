"""Rules of epsilon-greedy."""

import numpy as np
import pytest

from echo_proxy.bandits.epsilon_greedy import EpsilonGreedy
from echo_proxy.types import Estimates


def seen(means: list[float], weight: float = 1.0) -> Estimates:
    """Estimates with these means, each of the same weight."""
    return Estimates(np.full(len(means), weight), np.array(means), np.zeros(len(means)))


def test_the_best_arm_gets_what_exploring_leaves() -> None:
    """The best arm gets 1 - epsilon and its own part of epsilon; the others share the rest."""
    pmf = EpsilonGreedy(0.2).pmf(seen([0.1, 0.9, 0.3, 0.2]))

    assert pmf == pytest.approx([0.05, 0.85, 0.05, 0.05])


def test_ties_share() -> None:
    """Two equally good arms are equally likely, wherever they stand."""
    pmf = EpsilonGreedy(0.0).pmf(seen([0.9, 0.1, 0.9]))

    assert pmf.tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize("epsilon", [-0.1, 1.1, float("nan")])
def test_an_epsilon_out_of_range_is_refused(epsilon: float) -> None:
    """Epsilon is a probability."""
    with pytest.raises(ValueError, match=r"epsilon must be in \[0, 1\]"):
        EpsilonGreedy(epsilon)


def test_exploration_decays_with_the_evidence_of_all_arms() -> None:
    """After as much evidence as `decay` says, half of epsilon is left; without evidence all of it."""
    bandit = EpsilonGreedy(0.4, decay=20.0)

    assert bandit.pmf(seen([0.1, 0.9], weight=0.0)) == pytest.approx([0.2, 0.8])
    assert bandit.pmf(seen([0.1, 0.9], weight=10.0)) == pytest.approx([0.1, 0.9])


def test_without_decay_evidence_changes_no_exploration() -> None:
    """A fixed epsilon stays, however much has been seen."""
    assert EpsilonGreedy(0.4).pmf(seen([0.1, 0.9], weight=1e6)) == pytest.approx([0.2, 0.8])


@pytest.mark.parametrize("decay", [0.0, -1.0, float("nan"), float("inf")])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    """A decay of zero would divide by it; no decay is None."""
    with pytest.raises(ValueError, match="decay must be finite and above 0"):
        EpsilonGreedy(0.1, decay)
