import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.online.reward import reward
from echo_proxy.policy import Reward

RULES = Reward(quality_weight=0.8, cost_weight=0.1, latency_weight=0.1, cost_scale_usd=0.01, latency_scale_s=10)
weights = st.floats(0, 1)
amounts = st.floats(0, 1e6)


@pytest.mark.parametrize(
    ("quality", "cost_usd", "latency_s", "expected"),
    [
        (1.0, 0.0, 0.0, 1.0),
        (1.0, 0.005, 0.0, 0.95),
        (1.0, 0.0, 5.0, 0.95),
        (1.0, 0.01, 10.0, 0.8),
        (1.0, 5.0, 500.0, 0.8),
        (0.5, 0.01, 10.0, 0.4),
        (0.0, 0.0, 0.0, 0.0),
    ],
)
def test_reward_is_a_weighted_mean(quality: float, cost_usd: float, latency_s: float, expected: float) -> None:
    """A bad answer earns nothing for being cheap or quick."""
    assert reward(quality, cost_usd, latency_s, RULES) == pytest.approx(expected)


def test_weights_are_scaled_to_one() -> None:
    """Only their proportions matter."""
    double = Reward(quality_weight=0.4, cost_weight=0.05, latency_weight=0.05, cost_scale_usd=0.01, latency_scale_s=10)

    assert reward(0.9, 0.003, 2.0, double) == pytest.approx(reward(0.9, 0.003, 2.0, RULES))


@given(st.floats(0, 1), amounts, amounts, weights, weights, weights.filter(lambda weight: weight > 0))
def test_reward_is_in_range(q: float, cost: float, latency: float, a: float, b: float, c: float) -> None:
    """Rounding included: the bandit refuses what is above one."""
    assert 0.0 <= reward(q, cost, latency, Reward(quality_weight=a, cost_weight=b, latency_weight=c)) <= 1.0


def test_rounding_does_not_push_it_above_one() -> None:
    """0.3 + (0.2 + 0.1) is more than (0.3 + 0.2) + 0.1 in binary."""
    assert reward(1.0, 0.0, 0.0, Reward(quality_weight=0.3, cost_weight=0.2, latency_weight=0.1)) == 1.0


@given(st.floats(0, 1), amounts, amounts, amounts)
def test_cheaper_and_quicker_never_earn_less(quality: float, cost: float, latency: float, less: float) -> None:
    """At the same quality."""
    assert reward(quality, cost, latency, RULES) <= reward(quality, min(cost, less), latency, RULES)
    assert reward(quality, cost, latency, RULES) <= reward(quality, cost, min(latency, less), RULES)
