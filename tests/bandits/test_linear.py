"""Rules of linear evidence and of what is believed after it."""

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.bandits.evidence import evidence
from echo_proxy.bandits.evidence import merge as merge_plain
from echo_proxy.bandits.linear import Matrix, updated
from echo_proxy.types import ArmSums, Vector
from tests.bandits.linear_reference import (
    LinearPosterior,
    LinearSums,
    difference,
    disjoint_posterior,
    fade,
    linear_evidence,
    merge,
    shared_posterior,
    zeros,
)

D = 3
N_ARMS = 4
NOISE = 0.1
Event = tuple[int, float, float, int]
"""Arm, weight, reward, seed of the context."""
events = st.lists(
    st.tuples(st.integers(0, N_ARMS - 1), st.floats(0.01, 2.0), st.floats(0.0, 1.0), st.integers(0, 1_000)),
    max_size=30,
)


def context(seed: int, d: int = D) -> Vector:
    """An intercept and features drawn from the seed."""
    return np.append(1.0, np.random.default_rng(seed).uniform(-1.0, 1.0, size=d - 1))


def learned(history: Sequence[Event]) -> list[LinearSums]:
    """Sums per arm after all events."""
    sums = [zeros(D)] * N_ARMS
    for arm, weight, reward, seed in history:
        sums[arm] = merge(sums[arm], linear_evidence(context(seed), weight, reward))
    return sums


def flat(sums: LinearSums) -> list[float]:
    """All numbers in one list, to compare with a tolerance."""
    return [sums.weight, *sums.gram.ravel().tolist(), *sums.moment.tolist(), sums.reward_sq]


def an_experience(n_events: int = 60) -> list[Event]:
    """A history of all arms but the last one."""
    rng = np.random.default_rng(3)
    return [(int(rng.integers(N_ARMS - 1)), 1.0, float(rng.random()), seed) for seed in range(n_events)]


PRIORS = np.random.default_rng(4).normal(size=(N_ARMS, D))  # (N_ARMS, D)
PRECISION = np.array([0.5, 2.0, 3.0])  # (D,)


# ------------------------------------------------------------------ sums


def test_sums_are_weighted() -> None:
    """The sums are those of weight times one, x x^T, reward * x and reward squared."""
    sums = linear_evidence(np.array([1.0, -2.0]), 2.0, 0.5)

    assert flat(sums) == [2.0, 2.0, -4.0, -4.0, 8.0, 1.0, -2.0, 0.5]


@given(history=events, order=st.randoms(use_true_random=False))
def test_order_of_updates_does_not_matter(history: list[Event], order: Random) -> None:
    """Evidence is a sum: learned in any order it is the same."""
    shuffled = list(history)
    order.shuffle(shuffled)

    for one, other in zip(learned(history), learned(shuffled), strict=True):
        assert flat(one) == pytest.approx(flat(other), abs=1e-9)


@given(history=events, cut=st.integers(0, 30))
def test_workers_that_merge_equal_one_worker(history: list[Event], cut: int) -> None:
    """Two workers that each saw a part of the traffic know together what one would know that saw all."""
    parts = zip(learned(history[:cut]), learned(history[cut:]), learned(history), strict=True)

    for first, second, alone in parts:
        assert flat(merge(first, second)) == pytest.approx(flat(alone), abs=1e-9)


@given(
    history=events,
    old=st.tuples(st.floats(0.0, 2.0), st.floats(0.0, 1.0)),
    new=st.tuples(st.floats(0.0, 2.0), st.floats(0.0, 1.0)),
    factor=st.floats(0.0, 1.0),
)
def test_late_feedback_replaces_an_early_guess(
    history: list[Event], old: tuple[float, float], new: tuple[float, float], factor: float
) -> None:
    """A correction leaves what would be known had the guess, faded since, never been made."""
    x, before = context(5), learned(history)[0]
    guessed = fade(merge(before, linear_evidence(x, *old)), factor)
    corrected = merge(guessed, difference(new, (factor * old[0], old[1]), x))

    assert flat(corrected) == pytest.approx(flat(merge(fade(before, factor), linear_evidence(x, *new))), abs=1e-9)


@given(history=events, factor=st.floats(0.0, 1.0))
def test_fading_scales_all_sums(history: list[Event], factor: float) -> None:
    """Fading makes everything count for less in the same proportion."""
    sums = learned(history)[0]

    assert flat(fade(sums, factor)) == pytest.approx([factor * number for number in flat(sums)])


def test_inputs_stay_as_they_were() -> None:
    """What is returned shares no memory with what came in."""
    x, sums = np.array([1.0, 0.5]), zeros(2)
    merged = merge(sums, linear_evidence(x, 1.0, 1.0))
    merged.gram[:], merged.moment[:] = -1.0, -1.0

    assert x.tolist() == [1.0, 0.5]
    assert flat(sums) == [0.0] * 8


@pytest.mark.parametrize(
    ("x", "weight", "reward", "message"),
    [
        ([1.0, 0.0], 1.0, float("nan"), r"reward must be in \[0, 1\], got nan"),
        ([1.0, 0.0], 1.0, 1.1, r"reward must be in \[0, 1\], got 1.1"),
        ([1.0, 0.0], float("nan"), 0.5, "weight must be finite and at least 0, got nan"),
        ([1.0, 0.0], -1.0, 0.5, "weight must be finite and at least 0, got -1.0"),
        ([1.0, float("nan")], 1.0, 0.5, "context must be finite"),
        ([1.0, float("inf")], 1.0, 0.5, "context must be finite"),
        ([[1.0, 0.0]], 1.0, 0.5, r"context must have shape \(d,\), got \(1, 2\)"),
        ([], 1.0, 0.5, r"context must have shape \(d,\), got \(0,\)"),
    ],
)
def test_evidence_out_of_range_is_refused(x: list[float], weight: float, reward: float, message: str) -> None:
    """What is no reward, weight or context never reaches the sums, and the message says what came."""
    with pytest.raises(ValueError, match=message):
        linear_evidence(np.array(x), weight, reward)


@pytest.mark.parametrize("factor", [float("nan"), -0.1, 1.1])
def test_a_fading_factor_out_of_range_is_refused(factor: float) -> None:
    """Fading never adds evidence and never turns it round."""
    with pytest.raises(ValueError, match=r"factor must be in \[0, 1\]"):
        fade(zeros(2), factor)


def test_contexts_of_other_lengths_do_not_merge() -> None:
    """Evidence about other features is refused instead of broadcast."""
    with pytest.raises(ValueError, match="contexts must have one length, got 2 and 3"):
        merge(zeros(2), zeros(3))


def test_a_context_without_features_is_refused() -> None:
    """There is nothing to learn from no features."""
    with pytest.raises(ValueError, match="d must be at least 1, got 0"):
        zeros(0)


# ------------------------------------------------------------------ posteriors


def brute_force(history: Sequence[Event], shared_precision: float | None) -> LinearPosterior:
    """Posterior of all coefficients at once, as one joint normal distribution of (beta, delta_1, ..., delta_n)."""
    beta_precision = 1e12 if shared_precision is None else shared_precision  # without sharing, beta is 0
    a = np.diag(np.concatenate([np.full(D, beta_precision), np.tile(PRECISION, N_ARMS)]))
    b = a @ np.concatenate([np.zeros(D), PRIORS.ravel()])
    for arm, weight, reward, seed in history:
        design = selector(arm).T @ context(seed)
        a, b = a + weight * np.outer(design, design), b + weight * reward * design
    joint = np.linalg.inv(a)
    thetas = np.array([selector(arm) @ joint @ b for arm in range(N_ARMS)])
    covariances = np.array([NOISE * selector(arm) @ joint @ selector(arm).T for arm in range(N_ARMS)])
    return LinearPosterior(thetas, covariances, NOISE)


def selector(arm: int) -> Matrix:
    """Takes theta_arm = beta + delta_arm out of all coefficients, shape (D, D * (1 + N_ARMS))."""
    rows = np.zeros((D, D * (1 + N_ARMS)))
    rows[:, :D] = np.eye(D)
    rows[:, D * (1 + arm) : D * (2 + arm)] = np.eye(D)
    return rows


@given(history=events, shared_precision=st.floats(0.1, 10.0))
def test_shared_posterior_is_the_joint_one(history: list[Event], shared_precision: float) -> None:
    """Sums per arm lead to the same beliefs as one large regression over everything."""
    expected = brute_force(history, shared_precision)
    known = shared_posterior(learned(history), PRIORS, PRECISION, shared_precision, NOISE)

    assert known.thetas == pytest.approx(expected.thetas, abs=1e-8)
    assert known.covariances == pytest.approx(expected.covariances, abs=1e-8)


@given(history=events)
def test_disjoint_posterior_is_the_joint_one_without_sharing(history: list[Event]) -> None:
    """When arms have nothing in common, each is a ridge regression of its own."""
    expected = brute_force(history, None)
    known = disjoint_posterior(learned(history), PRIORS, PRECISION, NOISE)

    assert known.thetas == pytest.approx(expected.thetas, abs=1e-6)
    assert known.covariances == pytest.approx(expected.covariances, abs=1e-6)


def test_with_an_intercept_alone_it_is_the_plain_mean() -> None:
    """A context of one constant makes linear estimates the same as those from sums of rewards."""
    rewards = [0.2, 0.9, 0.4]
    plain, linear = ArmSums(), zeros(1)
    for reward in rewards:
        plain = merge_plain(plain, evidence(1.0, reward))
        linear = merge(linear, linear_evidence(np.ones(1), 1.0, reward))
    seen = disjoint_posterior([linear], np.zeros((1, 1)), 1e-9, NOISE).estimates(np.ones(1))

    assert seen.means == pytest.approx([plain.reward_sum / plain.weight])
    assert seen.weights == pytest.approx([3.0])
    assert seen.deviations == pytest.approx([np.sqrt(NOISE / 3.0)])


def test_a_new_arm_leaves_the_others_alone_in_the_disjoint_model() -> None:
    """Adding an arm changes nothing in what is believed of the others, bit for bit."""
    sums = learned(an_experience())[:-1]
    before = disjoint_posterior(sums, PRIORS[:-1], PRECISION, NOISE)
    after = disjoint_posterior([*sums, zeros(D)], PRIORS, PRECISION, NOISE)

    assert after.thetas[:-1].tolist() == before.thetas.tolist()
    assert after.covariances[:-1].tolist() == before.covariances.tolist()
    assert after.thetas[-1].tolist() == PRIORS[-1].tolist()


def test_a_new_arm_starts_from_what_arms_have_in_common() -> None:
    """Without evidence of its own, an arm is expected to be like the others, plus its own prior."""
    sums, n_arms = [zeros(1)] * 4, 4
    for arm in range(n_arms - 1):
        for _ in range(200):
            sums[arm] = merge(sums[arm], linear_evidence(np.ones(1), 1.0, 0.8))
    priors = np.array([[0.0], [0.0], [0.0], [0.1]])
    seen = shared_posterior(sums, priors, 10.0, 0.1, NOISE).estimates(np.ones(1))

    assert seen.means == pytest.approx([0.8, 0.8, 0.8, 0.9], abs=0.01)
    assert seen.deviations[-1] > 2 * seen.deviations[0]


def test_a_new_arm_leaves_the_others_alone_in_the_shared_model() -> None:
    """An arm without evidence teaches the others nothing."""
    sums = learned(an_experience())
    before = shared_posterior(sums[:-1], PRIORS[:-1], PRECISION, 1.0, NOISE)
    after = shared_posterior(sums, PRIORS, PRECISION, 1.0, NOISE)

    assert after.thetas[:-1] == pytest.approx(before.thetas, abs=1e-12)


def test_an_intercept_may_be_penalised_less() -> None:
    """A vector of precisions shrinks each feature by its own."""
    sums = [merge(linear_evidence(np.array([1.0, 1.0]), 1.0, 1.0), linear_evidence(np.array([1.0, -1.0]), 1.0, 1.0))]
    known = disjoint_posterior(sums, np.zeros((1, 2)), np.array([1e-9, 1.0]), NOISE)

    assert known.thetas[0] == pytest.approx([1.0, 0.0])


@given(history=events, seed=st.integers(0, 100))
def test_estimates_are_rewards_with_known_deviations(history: list[Event], seed: int) -> None:
    """Means stay in [0, 1], and weight, deviation and noise agree with each other."""
    known = shared_posterior(learned(history), PRIORS, PRECISION, 1.0, NOISE)
    x = context(seed)
    seen = known.estimates(x)

    assert ((seen.means >= 0.0) & (seen.means <= 1.0)).all()
    assert seen.deviations**2 == pytest.approx([x @ covariance @ x for covariance in known.covariances])
    assert seen.weights == pytest.approx(NOISE / seen.deviations**2)


def test_evidence_makes_certain() -> None:
    """What has been seen of an arm lowers its deviation and no feature's raises it."""
    x = context(1)
    little = disjoint_posterior(learned(an_experience(6)), PRIORS, PRECISION, NOISE).estimates(x)
    much = disjoint_posterior(learned(an_experience(60)), PRIORS, PRECISION, NOISE).estimates(x)

    assert (much.deviations[:-1] < little.deviations[:-1]).all()
    assert much.deviations[-1] == little.deviations[-1]


@pytest.mark.parametrize(
    ("n_arms", "priors", "precision", "noise", "message"),
    [
        (0, PRIORS, 1.0, NOISE, "at least one arm"),
        (3, PRIORS, 1.0, NOISE, r"prior_thetas must be finite with shape \(3, 3\)"),
        (4, PRIORS * np.nan, 1.0, NOISE, "prior_thetas must be finite"),
        (4, PRIORS, 0.0, NOISE, "precision must be finite and above 0"),
        (4, PRIORS, np.ones(2), NOISE, r"precision must be one number or have shape \(3,\)"),
        (4, PRIORS, 1.0, 0.0, "noise must be finite and above 0"),
        (4, PRIORS, 1.0, float("nan"), "noise must be finite and above 0"),
    ],
)
def test_wrong_priors_are_refused(
    n_arms: int, priors: Matrix, precision: float | Vector, noise: float, message: str
) -> None:
    """A prior that fits neither arms nor features is an error, in both models."""
    sums = [zeros(D)] * n_arms
    with pytest.raises(ValueError, match=message):
        disjoint_posterior(sums, priors, precision, noise)
    with pytest.raises(ValueError, match=message):
        shared_posterior(sums, priors, precision, 1.0, noise)


def test_a_wrong_shared_precision_is_refused() -> None:
    """What arms have in common needs a proper prior too."""
    with pytest.raises(ValueError, match="shared_precision must be finite and above 0"):
        shared_posterior([zeros(D)] * N_ARMS, PRIORS, 1.0, -1.0, NOISE)


def test_arms_with_other_features_are_refused() -> None:
    """All arms learn from the same features."""
    with pytest.raises(ValueError, match="contexts must have one length"):
        disjoint_posterior([zeros(3), zeros(2)], np.zeros((2, 3)), 1.0, NOISE)


@pytest.mark.parametrize(("x", "message"), [([1.0, 0.0], "context must have"), ([1.0, 0.0, np.nan], "finite")])
def test_a_wrong_context_is_refused(x: list[float], message: str) -> None:
    """A context of other features, or one that is no number, gets no estimates."""
    known = disjoint_posterior([zeros(D)] * N_ARMS, PRIORS, 1.0, NOISE)
    with pytest.raises(ValueError, match=message):
        known.estimates(np.array(x))


# ------------------------------------------------------------------ rank-one updates


@given(weight=st.floats(-0.4, 5.0), seed=st.integers(0, 1_000), d=st.integers(1, 24))
def test_an_updated_inverse_equals_a_fresh_one(weight: float, seed: int, d: int) -> None:
    """Updating the inverse is the same as inverting the updated matrix."""
    x = context(seed, d) / np.sqrt(d)
    a = np.eye(d) + np.outer(x, x)
    fresh = np.linalg.inv(a + weight * np.outer(x, x))

    assert updated(np.linalg.inv(a), x, weight) == pytest.approx(fresh, abs=1e-8)


def test_an_inverse_stays_exact_over_many_updates() -> None:
    """After thousands of updates, corrections among them, the inverse is still that of the sums."""
    d, sums, inverse = 24, zeros(24), np.eye(24)
    for seed in range(3_000):
        x, new = context(seed, d), linear_evidence(context(seed, d), 1.0, 0.5)
        sums, inverse = merge(sums, new), updated(inverse, x, 1.0)
        if seed % 3 == 0:
            sums, inverse = merge(sums, difference((0.25, 0.5), (1.0, 0.5), x)), updated(inverse, x, -0.75)

    assert inverse == pytest.approx(np.linalg.inv(np.eye(d) + sums.gram), abs=1e-8)


@pytest.mark.parametrize("weight", [-1.0, -2.0])
def test_taking_out_more_than_there_is_is_refused(weight: float) -> None:
    """A correction that leaves no positive definite matrix is a mistake."""
    with pytest.raises(ValueError, match="must leave a positive definite matrix"):
        updated(np.eye(2), np.array([1.0, 0.0]), weight)


@pytest.mark.parametrize(
    ("inverse", "x", "weight", "message"),
    [
        (np.ones((2, 3)), np.ones(2), 1.0, r"inverse must have shape \(d, d\), got \(2, 3\)"),
        (np.eye(2), np.ones(3), 1.0, r"context must have shape \(2,\), got \(3,\)"),
        (np.eye(2), np.array([1.0, np.nan]), 1.0, "context must be finite"),
        (np.eye(2), np.ones(2), float("nan"), "weight must be finite, got nan"),
        (np.eye(2) * np.nan, np.ones(2), 1.0, "must leave a positive definite matrix"),
    ],
)
def test_a_wrong_update_is_refused(inverse: Matrix, x: Vector, weight: float, message: str) -> None:
    """Shapes and numbers that do not fit stop before they spoil the inverse."""
    with pytest.raises(ValueError, match=message):
        updated(inverse, x, weight)
