"""Rules of noticing that an arm has changed."""

from math import exp, inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.bandits.drift import ResidualSums, correction, corrections, merge, recent, significance
from echo_proxy.bandits.epsilon_greedy import EpsilonGreedy
from echo_proxy.bandits.evidence import add, combine, evidence
from echo_proxy.types import Estimates

residuals = st.lists(st.floats(-1.0, 1.0), max_size=60)
GOOD, OTHER, BAD = 0.9, 0.6, 0.1


def seen_residuals(values: list[float], memory: float = 20.0) -> ResidualSums:
    """Sums after residuals of weight 1."""
    sums = ResidualSums()
    for value in values:
        sums = recent(sums, value, 1.0, memory)
    return sums


def test_older_residuals_fade() -> None:
    """After a residual of weight 1, all older ones are worth exp(-1 / memory)."""
    sums = seen_residuals([0.5, -1.0], memory=10.0)

    assert sums.weight == pytest.approx(exp(-0.1) + 1.0)
    assert sums.weight_sq == pytest.approx(exp(-0.2) + 1.0)
    assert sums.residual_sum == pytest.approx(0.5 * exp(-0.1) - 1.0)
    assert sums.residual_sq_sum == pytest.approx(0.25 * exp(-0.1) + 1.0)


@given(values=residuals)
def test_a_correction_is_never_more_than_the_residuals(values: list[float]) -> None:
    """Shrinking towards no drift keeps a correction within what was seen."""
    change = correction(seen_residuals(values), threshold=0.0)

    assert abs(change) <= max(map(abs, values), default=0.0)


@given(values=residuals)
def test_significance_is_at_most_what_the_number_allows(values: list[float]) -> None:
    """A few equal residuals are never infinitely significant: |z| is at most the root of their number."""
    sums = seen_residuals(values)

    assert abs(significance(sums)) <= np.sqrt(len(values)) + 1e-9


def test_a_correction_is_the_shrunk_mean() -> None:
    """Two residuals of -0.8 that are averaged with two of 0 make -0.4."""
    sums = ResidualSums(2.0, 2.0, -1.6, 1.28)

    assert correction(sums, strength=2.0, threshold=0.0) == pytest.approx(-0.4)


def test_what_may_be_chance_corrects_nothing() -> None:
    """Below the threshold, the mean is left alone altogether."""
    sums = seen_residuals([0.5, -0.5, 0.5, 0.5])

    assert significance(sums) < 3.0
    assert correction(sums) == 0.0


def test_no_evidence_corrects_nothing() -> None:
    """An arm without residuals, or with residuals of exactly 0, is taken at its mean."""
    assert correction(ResidualSums(), threshold=0.0) == 0.0
    assert correction(seen_residuals([0.0] * 30), threshold=0.0) == 0.0


def test_corrections_are_one_per_arm() -> None:
    """All arms at once are the same as each alone."""
    arms = [ResidualSums(), seen_residuals([-0.8] * 20), seen_residuals([0.5] * 20)]

    assert corrections(arms).tolist() == [correction(arm) for arm in arms]
    assert corrections([]).shape == (0,)


def test_merged_workers_know_more() -> None:
    """Two workers that saw the same drift are surer of it together."""
    one = seen_residuals([-0.6, -0.9, -0.7, -0.9])

    assert significance(merge(one, one)) == pytest.approx(np.sqrt(2.0) * significance(one))


@pytest.mark.parametrize(
    ("residual", "weight", "memory", "message"),
    [
        (nan, 1.0, 20.0, "residual"),
        (1.1, 1.0, 20.0, "residual"),
        (0.5, -1.0, 20.0, "weight"),
        (0.5, inf, 20.0, "weight"),
        (0.5, 1.0, 0.0, "memory"),
        (0.5, 1.0, nan, "memory"),
    ],
)
def test_residuals_out_of_range_are_refused(residual: float, weight: float, memory: float, message: str) -> None:
    """What is no residual never reaches the sums."""
    with pytest.raises(ValueError, match=f"{message} must"):
        recent(ResidualSums(), residual, weight, memory)


@pytest.mark.parametrize(("strength", "threshold"), [(-1.0, 3.0), (nan, 3.0), (2.0, -1.0), (2.0, nan)])
def test_settings_out_of_range_are_refused(strength: float, threshold: float) -> None:
    """A negative strength would exaggerate; NaN would switch the gate off."""
    with pytest.raises(ValueError, match="must be finite and at least 0"):
        correction(ResidualSums(), strength, threshold)


# ------------------------------------------------------------------ what it is for


def shares_of_first(seed: int, chance: float, is_corrected: bool, n: int = 100) -> tuple[list[int], list[float]]:
    """Draws and corrections of two arms of 1,000 observations each, of which the first now succeeds by `chance`."""
    rng = np.random.default_rng(seed)
    sums, residual_sums = [evidence(1_000.0, GOOD), evidence(1_000.0, OTHER)], [ResidualSums(), ResidualSums()]
    drawn, changes = [], []
    for _ in range(n):
        seen, change = combine(sums, 0.5, 1.0), corrections(residual_sums)
        means = seen.means + change if is_corrected else seen.means
        arm = int(rng.choice(2, p=EpsilonGreedy(0.05).pmf(Estimates(seen.weights, means, seen.deviations))))
        reward = float(rng.random() < (chance, OTHER)[arm])
        residual_sums[arm] = recent(residual_sums[arm], reward - float(seen.means[arm]), 1.0)
        sums[arm] = add(sums[arm], 1.0, reward)
        drawn.append(arm)
        changes.append(float(np.abs(change).mean()))
    return drawn, changes


def test_traffic_leaves_an_arm_that_turned_bad() -> None:
    """Within 50 requests the arm that fell from 0.9 to 0.1 has lost its traffic, old evidence or not."""
    late = [shares_of_first(seed, BAD, is_corrected=True)[0][50:] for seed in range(20)]

    assert np.mean(np.array(late) == 0) < 0.1


def test_old_evidence_alone_does_not_notice() -> None:
    """Without the correction the same arm keeps nearly all traffic: the rule above tests something."""
    late = [shares_of_first(seed, BAD, is_corrected=False)[0][50:] for seed in range(20)]

    assert np.mean(np.array(late) == 0) > 0.9


def test_noise_of_a_stationary_arm_moves_little() -> None:
    """While nothing changes, means move by less than a hundredth on average and the better arm keeps its traffic."""
    runs = [shares_of_first(seed, GOOD, is_corrected=True, n=300) for seed in range(10)]

    assert np.mean([changes for _, changes in runs]) < 0.01
    assert np.mean([np.array(drawn) == 0 for drawn, _ in runs]) > 0.95
