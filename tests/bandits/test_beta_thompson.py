"""Rules of Thompson sampling with Beta beliefs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betainc, betaincinv

from echo_proxy.bandits.beta_thompson import BetaThompson, beta_chances
from echo_proxy.types import Estimates

count = st.floats(0.5, 500.0)
RANKS = (np.arange(2_000) + 0.5) / 2_000  # of the first arm's belief


@settings(max_examples=50)
@given(a=st.tuples(count, count), b=st.tuples(count, count))
def test_two_arms_are_as_likely_as_the_distribution_functions_say(
    a: tuple[float, float], b: tuple[float, float]
) -> None:
    """P(first > second) is the second's distribution function, averaged over the first's belief."""
    expected = betainc(a[1], b[1], betaincinv(a[0], b[0], RANKS)).mean()
    pmf = beta_chances(np.array(a), np.array(b))

    assert pmf[0] == pytest.approx(expected, abs=1e-3)


def test_many_arms_are_drawn_as_often_as_sampling_draws_them() -> None:
    """The integral is what a million Thompson draws come to."""
    rng = np.random.default_rng(6)
    weights, means = rng.uniform(2.0, 60.0, size=8), rng.uniform(0.4, 0.7, size=8)
    drawn = rng.beta(weights * means, weights * (1.0 - means), size=(1_000_000, 8)).argmax(axis=1)
    shares = np.bincount(drawn, minlength=8) / drawn.size

    assert BetaThompson().pmf(Estimates(weights, means, np.zeros(8))) == pytest.approx(shares, abs=2e-3)


def test_one_success_does_not_end_exploration() -> None:
    """An arm that succeeded once is likelier than an unknown one, but not certain."""
    pmf = BetaThompson().pmf(Estimates(np.array([1.0, 0.0]), np.array([1.0, 0.5]), np.zeros(2)))

    assert 0.5 < pmf[0] < 0.9


def test_any_weight_is_workable() -> None:
    """Evidence beyond what float64 resolves still makes the better arm win."""
    pmf = BetaThompson().pmf(Estimates(np.array([1e300, 1e12]), np.array([0.6, 0.5]), np.zeros(2)))

    assert pmf == pytest.approx([1.0, 0.0])


def test_means_outside_the_rewards_count_as_the_nearer_end() -> None:
    """A mean that a correction moved out of [0, 1] is taken as 0 or 1."""
    weights = np.array([5.0, 5.0])
    beyond = Estimates(weights, np.array([-0.2, 1.2]), np.zeros(2))
    ends = Estimates(weights, np.array([0.0, 1.0]), np.zeros(2))

    assert BetaThompson().pmf(beyond).tolist() == BetaThompson().pmf(ends).tolist()
