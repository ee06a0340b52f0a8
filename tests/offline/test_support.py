import numpy as np
import pytest

from echo_proxy.offline.off_policy import Draws, Outcomes
from echo_proxy.offline.support import Support, support_of

ARMS = ("small", "large")


def support(logging: float, target: float, n: int = 1000, clip: float | None = None, **unseen: float) -> Support:
    """Of a policy that draws `large` with one probability where the log drew it with another."""
    drawn = (np.random.default_rng(1).random(n) < logging).astype(np.int64)
    draws = Draws(drawn, np.where(drawn == 1, logging, 1 - logging), np.tile([1 - target, target], (n, 1)))
    return support_of(draws, Outcomes(np.zeros(n), np.ones(n)), ARMS, unseen, clip)


def test_a_log_that_explores_answers() -> None:
    """All decisions of the policy's own kind count fully."""
    made = support(0.3, 0.6)

    assert made.problems == ()
    assert 500 < made.effective_size < 1000
    assert made.mean_weight == pytest.approx(1.0, abs=0.1)
    assert support(0.3, 0.3).effective_size == pytest.approx(1000)


def test_too_few_decisions_do_not() -> None:
    """The numbers are told."""
    assert support(0.5, 0.5, n=20).problems[0] == "expected at least 50 decisions with a known outcome, got 20 of 20"


def test_a_policy_too_far_from_the_log_cannot_be_judged() -> None:
    """1,000 decisions are worth a handful."""
    (problem,) = support(0.02, 0.99).problems

    assert "1000 known outcomes are worth" in problem


def test_draws_to_an_arm_that_the_log_never_drew_are_named() -> None:
    """A share of one floor may pass, more may not."""
    assert support(0.5, 0.5, new=0.01).problems == ()
    assert support(0.5, 0.5, new=0.3).problems == ("30% of its draws go to what the log could not draw: new 30.0%",)


def test_a_log_without_chance_is_found_out() -> None:
    """It never drew the other arm, so its weights are below one."""
    problems = " ".join(support(1.0, 0.5).problems)

    assert "50% of its draws go to arms of which the log knows fewer than 10 outcomes: small 50.0%" in problems
    assert "should be 1 on average, got 0.50" in problems


def test_what_clipping_takes_is_told() -> None:
    """Share of decisions and mass of weight."""
    made = support(0.1, 0.5, clip=2.0)

    assert made.share_clipped == pytest.approx(0.1, abs=0.03)
    assert made.clipped_mass == pytest.approx(made.share_clipped * 3, rel=1e-6)
    assert made.max_weight == pytest.approx(5.0)
