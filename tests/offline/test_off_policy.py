import numpy as np
import pytest

from echo_proxy.offline.off_policy import (
    Draws,
    Estimate,
    Outcomes,
    doubly_robust,
    effective_size,
    interval,
    ips,
    snips,
)

DRAWS = Draws(
    drawn=np.array([0, 1, 0, 1]),
    propensities=np.array([0.5, 0.5, 0.8, 0.2]),
    target=np.array([[0.25, 0.75], [0.25, 0.75], [0.4, 0.6], [0.4, 0.6]]),
)
"""Weights 0.5, 1.5, 0.5, 3."""
ONES = np.ones(4)
OUTCOMES = Outcomes(np.array([1.0, 0.0, 1.0, 1.0]), ONES)


def test_weights_are_ratios_of_probabilities() -> None:
    """And may be limited."""
    assert DRAWS.ratios() == pytest.approx([0.5, 1.5, 0.5, 3.0])
    assert DRAWS.ratios(clip=2.0) == pytest.approx([0.5, 1.5, 0.5, 2.0])


def test_ips_is_the_mean_of_weighted_outcomes() -> None:
    """(0.5 + 0 + 0.5 + 3) / 4."""
    assert ips(DRAWS, OUTCOMES).value == pytest.approx(1.0)


def test_snips_divides_by_the_weights() -> None:
    """4 / 5.5; its standard error is the jackknife's: from the value without each decision in turn."""
    got = snips(DRAWS, OUTCOMES)
    without = np.array([3.5 / 5, 4 / 4, 3.5 / 5, 1 / 2.5])

    assert got.value == pytest.approx(4 / 5.5)
    assert got.standard_error == pytest.approx(np.sqrt(3 / 4 * ((without - without.mean()) ** 2).sum()))


def test_doubly_robust_corrects_what_the_model_expects() -> None:
    """Expected 0.5 everywhere: 0.5 plus the weighted mean of the errors +0.5, -0.5, +0.5, +0.5."""
    got = doubly_robust(DRAWS, OUTCOMES, np.full((4, 2), 0.5))

    assert got.value == pytest.approx(0.5 + (0.25 - 0.75 + 0.25 + 1.5) / 5.5)


def test_a_perfect_model_leaves_nothing_to_the_draws() -> None:
    """The value is what the model expects, whatever the weights."""
    expected = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])

    got = doubly_robust(DRAWS, OUTCOMES, expected)

    assert got.value == pytest.approx((0.25 + 0.25 + 1 + 1) / 4)


def test_an_outcome_counts_for_others_of_its_arm() -> None:
    """Unknown ones count nothing, even when their value is odd."""
    known = Outcomes(np.array([1.0, 0.0, -99.0, 1.0]), np.array([2.0, 1.0, 0.0, 1.0]))

    assert ips(DRAWS, known).value == pytest.approx((2 * 0.5 + 3) / 4)
    assert snips(DRAWS, known).value == pytest.approx((2 * 0.5 + 3) / (2 * 0.5 + 1.5 + 3))


def test_the_policy_that_logged_has_the_plain_mean() -> None:
    """With every estimator."""
    target = np.array([[0.5, 0.5], [0.5, 0.5], [0.8, 0.2], [0.8, 0.2]])
    draws = Draws(DRAWS.drawn, DRAWS.propensities, target)

    assert ips(draws, OUTCOMES).value == pytest.approx(0.75)
    assert snips(draws, OUTCOMES).value == pytest.approx(0.75)
    assert doubly_robust(draws, OUTCOMES, np.full((4, 2), 0.3)).value == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("propensities", "target"),
    [([0.5, 0.0], [[1, 0], [1, 0]]), ([0.5, 1.5], [[1, 0], [1, 0]]), ([0.5, 0.5], [[1, 0]]), ([0.5], [[1, 0]])],
)
def test_impossible_draws_are_refused(propensities: list[float], target: list[list[float]]) -> None:
    """Probabilities outside (0, 1] and shapes that disagree."""
    with pytest.raises(ValueError, match="propensities"):
        Draws(np.array([0, 1]), np.array(propensities), np.array(target, dtype=float))


def test_outcomes_that_are_no_numbers_are_refused() -> None:
    """NaN would poison every mean."""
    with pytest.raises(ValueError, match="finite"):
        Outcomes(np.array([np.nan]), np.array([0.0]))


def test_nothing_known_has_no_value() -> None:
    """Rather than 0 / 0."""
    with pytest.raises(ValueError, match="knows the outcome of nothing"):
        snips(DRAWS, Outcomes(np.zeros(4), np.zeros(4)))


def test_estimators_are_unbiased() -> None:
    """Over 400 logs of a known world the means meet the truth within four standard errors."""
    rng = np.random.default_rng(5)
    logging, target, means = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.3, 0.6]), np.array([0.2, 0.5, 0.9])
    found = {"ips": [], "snips": [], "dr": []}
    for _ in range(400):
        drawn = rng.choice(3, 400, p=logging)
        draws = Draws(drawn, logging[drawn], np.tile(target, (400, 1)))
        outcomes = Outcomes((rng.random(400) < means[drawn]).astype(float), np.ones(400))
        found["ips"].append(ips(draws, outcomes).value)
        found["snips"].append(snips(draws, outcomes).value)
        found["dr"].append(doubly_robust(draws, outcomes, np.tile([0.5, 0.2, 0.7], (400, 1))).value)

    for values in found.values():
        assert np.mean(values) == pytest.approx(target @ means, abs=4 * np.std(values) / 20)


# ------------------------------------------------------------------ intervals


def skewed(n: int = 500) -> Estimate:
    terms = np.random.default_rng(3).exponential(1.0, n)
    return Estimate(float(terms.mean()), terms - terms.mean())


def test_the_same_seed_gives_the_same_interval() -> None:
    """Another one a slightly different one."""
    assert interval(skewed(), seed=1) == interval(skewed(), seed=1)
    assert interval(skewed(), seed=1) != interval(skewed(), seed=2)


def test_an_interval_leans_where_the_long_tail_is() -> None:
    """A mean of skewed terms is rather too small than too large."""
    made = skewed()
    got = interval(made, seed=1)

    assert got.upper - made.value > made.value - got.lower > 0
    assert got.upper - got.lower == pytest.approx(2 * 1.96 * made.standard_error, rel=0.15)


def test_a_long_log_is_resampled_in_parts() -> None:
    """With the interval that theory expects."""
    terms = np.random.default_rng(3).standard_normal(30_000)
    got = interval(Estimate(0.0, terms - terms.mean()), seed=1)

    assert got.upper == pytest.approx(1.96 / np.sqrt(30_000), rel=0.1)


def test_certainty_has_no_width() -> None:
    """Two policies that draw alike differ by exactly nothing; a single decision tells nothing."""
    assert interval(Estimate(0.0, np.zeros(9)), 0).lower == interval(Estimate(0.0, np.zeros(9)), 0).upper == 0.0
    assert interval(Estimate(0.5, np.zeros(1)), 0).upper == np.inf


def test_a_difference_is_paired() -> None:
    """What both share cancels."""
    one = skewed()

    got = Estimate(one.value + 0.1, one.influences).minus(one)

    assert got.value == pytest.approx(0.1)
    assert got.standard_error == 0.0


def test_effective_size_counts_equal_weights_fully() -> None:
    """And one weight that outweighs all as one."""
    assert effective_size(np.full(10, 3.0)) == pytest.approx(10)
    assert effective_size(np.array([1e6, 1.0, 1.0])) == pytest.approx(1.0, abs=1e-3)
    assert effective_size(np.zeros(3)) == 0.0
