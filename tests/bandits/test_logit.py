from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from echo_proxy.bandits.logit import LogitFit, Observations, Precisions, fit_logit

PRECISIONS = Precisions(5.0, 4.0, np.array([0.5, 0.5]))


def observations(n: int = 300, d: int = 6, n_arms: int = 2, seed: int = 0) -> Observations:
    """Every arm seen at every point; arm 0 is good where the first coordinate is high, arm 1 where it is low."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)).astype(np.float32)
    slopes = np.zeros((d, n_arms))
    slopes[0] = np.linspace(2.0, -2.0, n_arms)
    rewards = (rng.random((n, n_arms)) < expit(x @ slopes)).astype(np.float64)
    return Observations(x, np.ones((n, n_arms)), rewards, np.zeros((n, n_arms)))


def gradients(fit: LogitFit, seen: Observations, precisions: Precisions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the negative log posterior, by beta, deltas and intercepts."""
    excess = seen.weights * (expit(seen.offsets + fit.intercepts + seen.x @ fit.thetas.T) - seen.rewards)
    slopes = excess.T @ seen.x  # (n_arms, d)
    return (
        slopes.sum(axis=0) + precisions.shared * fit.beta,
        slopes + precisions.own * (fit.thetas - fit.beta),
        excess.sum(axis=0) + precisions.intercepts * fit.intercepts,
    )


def test_the_fit_is_the_most_probable_point() -> None:
    """No coefficient can be moved to a more probable value."""
    seen = observations()
    fit = fit_logit(seen, PRECISIONS)

    assert all(np.abs(gradient).max() < 0.1 for gradient in gradients(fit, seen, PRECISIONS))


def test_a_difference_between_arms_is_learned() -> None:
    """Where the arms differ by context, the coefficients say so."""
    fit = fit_logit(observations(), PRECISIONS)

    assert fit.thetas[0, 0] > 0.8
    assert fit.thetas[1, 0] < -0.8


def test_order_does_not_matter() -> None:
    """The same observations in another order give the same fit."""
    seen = observations()
    order = np.random.default_rng(1).permutation(len(seen.x))
    other = Observations(seen.x[order], seen.weights[order], seen.rewards[order], seen.offsets[order])
    one, two = fit_logit(seen, PRECISIONS), fit_logit(other, PRECISIONS)

    assert one.thetas == pytest.approx(two.thetas, abs=1e-3)
    assert one.variances == pytest.approx(two.variances, abs=1e-3)


def test_a_weight_of_two_is_two_observations() -> None:
    """Evidence with twice the weight counts as if it had been seen twice."""
    seen = observations(100)
    twice = Observations(*(np.concatenate([part, part]) for part in (seen.x, seen.weights, seen.rewards, seen.offsets)))
    heavy, repeated = fit_logit(replace(seen, weights=seen.weights * 2), PRECISIONS), fit_logit(twice, PRECISIONS)

    assert heavy.thetas == pytest.approx(repeated.thetas, abs=1e-3)
    assert heavy.intercept_information == pytest.approx(repeated.intercept_information, rel=1e-3)


def test_an_unseen_arm_follows_the_others() -> None:
    """An arm without observations has the shared coefficients, no intercept and the prior's uncertainty of its own."""
    seen = observations(n_arms=3)
    seen.weights[:, 2] = 0.0
    seen.rewards[:, 0] = seen.rewards[:, 1]
    precisions = Precisions(5.0, 4.0, np.full(3, 0.5))
    fit = fit_logit(seen, precisions)

    assert fit.thetas[2] == pytest.approx(fit.beta, abs=1e-3)
    assert fit.intercepts[2] == pytest.approx(0.0, abs=1e-6)
    assert fit.intercept_information[2] == 0.0
    assert fit.variances[2] == pytest.approx(fit.shared_variances)
    assert (fit.variances[2] > fit.variances[0]).all()


def test_nothing_seen_leaves_the_prior() -> None:
    """Without observations all coefficients are 0."""
    fit = fit_logit(Observations(np.zeros((0, 3), np.float32), *(np.zeros((0, 2)) for _ in range(3))), PRECISIONS)

    assert not fit.thetas.any()
    assert not fit.intercepts.any()
    assert fit.variances == pytest.approx(np.full((2, 3), 1 / 5 + 1 / 4))


def test_points_without_coordinates_leave_averages() -> None:
    """Without coordinates an arm's intercept is where its evidence and its prior agree."""
    rewards = np.tile([1.0, 0.0], (20, 1))
    seen = Observations(np.zeros((20, 0), np.float32), np.ones((20, 2)), rewards, np.zeros((20, 2)))
    fit = fit_logit(seen, PRECISIONS)

    assert fit.intercepts[0] > 1.0
    assert fit.intercepts[0] == pytest.approx(-fit.intercepts[1], abs=1e-3)


def test_offsets_are_taken_into_account() -> None:
    """Where the offset explains all rewards, nothing is left to learn."""
    seen = observations()
    explained = replace(seen, rewards=expit(np.full(seen.rewards.shape, 1.5)), offsets=np.full(seen.offsets.shape, 1.5))
    fit = fit_logit(explained, PRECISIONS)

    assert np.abs(fit.thetas).max() < 1e-4
    assert np.abs(fit.intercepts).max() < 1e-4


def test_more_evidence_means_less_uncertainty() -> None:
    """Variances along every direction fall below the prior's, the more the more is known."""
    few, many = fit_logit(observations(50), PRECISIONS), fit_logit(observations(1000), PRECISIONS)

    assert (few.variances < few.prior_variance).all()
    assert many.variances.mean() < few.variances.mean()


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": np.full((300, 2), -1.0)},
        {"rewards": np.full((300, 2), 1.5)},
        {"rewards": np.full((300, 2), np.nan)},
        {"offsets": np.zeros((300, 3))},
        {"x": np.full((300, 6), np.inf, np.float32)},
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, np.ndarray]) -> None:
    """Negative weights, rewards outside [0, 1], values that are not finite and wrong shapes raise."""
    with pytest.raises(ValueError, match="must"):
        fit_logit(replace(observations(), **changes), PRECISIONS)


def test_precisions_must_be_positive() -> None:
    """A prior without precision is refused."""
    with pytest.raises(ValueError, match="above 0"):
        fit_logit(observations(), Precisions(0.0, 4.0, np.array([0.5, 0.5])))
