"""The closed form that the rank-one steps of `bandits/pooled.py` are tested against.

What do all observations together say about the reward of each arm in a given context?

State is kept as sums, as in `evidence.py`; from the sums of all arms a posterior is made now and then, which answers
per request. Ridge regression in Bayesian words: r = x^T theta + noise, theta normal before any evidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from echo_proxy.bandits.linear import Matrix
from echo_proxy.types import Estimates, Vector

LEAST_VARIANCE = 1e-18
"""Variances below this are rounding; it keeps weights finite."""


@dataclass(frozen=True, slots=True, eq=False)
class LinearSums:
    """Additive evidence about one arm; d is the length of the context."""

    weight: float
    """Sum of evidence weights."""
    gram: Matrix
    """Sum of weight * x x^T, shape (d, d), symmetric."""
    moment: Vector
    """Sum of weight * reward * x, shape (d,)."""
    reward_sq: float
    """Sum of weight * reward^2."""


def zeros(d: int) -> LinearSums:
    """No evidence yet, of contexts with d features, d at least 1."""
    if d < 1:
        raise ValueError(f"d must be at least 1, got {d}")
    return LinearSums(0.0, np.zeros((d, d)), np.zeros(d), 0.0)


def linear_evidence(x: Vector, weight: float, reward: float) -> LinearSums:
    """Sums of a single observation.

    Args:
        x: context, shape (d,), unitless, about [-1, 1].
        weight: evidence weight, at least 0.
        reward: in [0, 1].

    Raises:
        ValueError: the context is no finite vector, the weight is negative or not finite, or the reward is outside
            [0, 1].
    """
    _check_context(x)
    if not (isfinite(weight) and weight >= 0.0):
        raise ValueError(f"weight must be finite and at least 0, got {weight}")
    if not 0.0 <= reward <= 1.0:  # False for NaN as well
        raise ValueError(f"reward must be in [0, 1], got {reward}")
    return LinearSums(weight, weight * np.outer(x, x), weight * reward * x, weight * reward**2)


def merge(a: LinearSums, b: LinearSums) -> LinearSums:
    """Evidence of two workers together.

    Raises:
        ValueError: they are about contexts of different lengths.
    """
    if a.moment.shape != b.moment.shape:
        raise ValueError(f"contexts must have one length, got {a.moment.size} and {b.moment.size}")
    return LinearSums(a.weight + b.weight, a.gram + b.gram, a.moment + b.moment, a.reward_sq + b.reward_sq)


def fade(sums: LinearSums, factor: float) -> LinearSums:
    """The same regression with less weight, so that a model that changed is noticed.

    Raises:
        ValueError: the factor is outside [0, 1].
    """
    if not 0.0 <= factor <= 1.0:
        raise ValueError(f"factor must be in [0, 1], got {factor}")
    return _scale(sums, factor)


def difference(new: tuple[float, float], old: tuple[float, float], x: Vector) -> LinearSums:
    """What turns sums that learned `old` in context x into sums that learned `new` instead, by merging.

    Args:
        new: weight and reward of the final evidence.
        old: weight and reward of the provisional evidence, the weight as it stands in the sums now (faded with them).
        x: context of both, shape (d,).

    Returns:
        Sums whose fields may be negative.

    Raises:
        ValueError: like `linear_evidence`.
    """
    return merge(linear_evidence(x, *new), _scale(linear_evidence(x, *old), -1.0))


@dataclass(frozen=True, slots=True, eq=False)
class LinearPosterior:
    """What is believed of every arm's coefficients: normal with these means and covariances."""

    thetas: Matrix
    """Expected coefficients per arm, shape (n_arms, d)."""
    covariances: Matrix
    """Covariance of each arm's coefficients, noise included, shape (n_arms, d, d)."""
    noise: float
    """Variance of a reward around its expectation, above 0."""

    def estimates(self, x: Vector) -> Estimates:
        """What is believed of each arm's expected reward in a context.

        Means are clipped to [0, 1]. Deviations are those of the expected reward, without the noise of a single one.
        A weight says how many observations of the arm in just this context would tell as much: noise / deviation^2.

        Args:
            x: context, shape (d,).

        Raises:
            ValueError: the context is not finite or has another length.
        """
        _check_context(x, self.thetas.shape[1])
        variances = np.maximum((self.covariances @ x) @ x, LEAST_VARIANCE)  # (n_arms,)
        means = np.clip(self.thetas @ x, 0.0, 1.0)  # (n_arms,)
        return Estimates(self.noise / variances, means, np.sqrt(variances))


def disjoint_posterior(
    sums: Sequence[LinearSums], prior_thetas: Matrix, precision: float | Vector, noise: float
) -> LinearPosterior:
    """Every arm learns for itself: theta_a ~ N(prior_a, noise / precision) before any evidence.

    Args:
        sums: evidence per arm, length n_arms.
        prior_thetas: coefficients expected before any evidence, shape (n_arms, d).
        precision: ridge penalty, above 0: how many observations the prior counts for in each direction; one for all
            features or shape (d,), so that an intercept can be penalised less.
        noise: variance of a reward around its expectation, above 0; at most 0.25 for rewards in [0, 1].

    Raises:
        ValueError: shapes disagree or a number is out of range.

    Source: Li et al. 2010, Algorithm 1 (disjoint), https://arxiv.org/abs/1003.0146
    """
    grams, moments = _stack(sums, prior_thetas)
    _check_noise(noise)
    inverses = _inverse(grams + np.diag(_penalty("precision", precision, moments.shape[1])))  # C, (n_arms, d, d)
    return LinearPosterior(prior_thetas + _times(inverses, moments), noise * inverses, noise)


def shared_posterior(
    sums: Sequence[LinearSums],
    prior_thetas: Matrix,
    precision: float | Vector,
    shared_precision: float | Vector,
    noise: float,
) -> LinearPosterior:
    """Arms learn from each other what they have in common, and a new arm starts from it.

    theta_a = beta + delta_a with beta ~ N(0, noise / shared_precision) and delta_a ~ N(prior_a, noise / precision).
    With S_a the arm's gram, s_a its moment less S_a prior_a, L = diag(precision), C_a = (S_a + L)^-1:
    P = diag(shared_precision) + sum(L - L C_a L), beta = P^-1 sum(L C_a s_a),
    theta_a = prior_a + C_a (s_a + L beta), covariance_a = noise (C_a + C_a L P^-1 L C_a).

    The covariances are each arm's own. Arms are correlated through beta, which `Estimates` cannot say: bandits treat
    them as independent and so explore a little more than necessary.

    Args:
        sums: evidence per arm, length n_arms.
        prior_thetas: how each arm is expected to differ from what arms have in common, shape (n_arms, d).
        precision: of delta, above 0, one number or shape (d,); high means that arms are much alike.
        shared_precision: of beta, above 0, one number or shape (d,).
        noise: variance of a reward around its expectation, above 0.

    Raises:
        ValueError: shapes disagree or a number is out of range.

    Source: Gelman et al., Bayesian Data Analysis, 3rd ed., chapter 15 (hierarchical linear models), normal equations
    solved by blocks
    """
    grams, moments = _stack(sums, prior_thetas)
    _check_noise(noise)
    d = moments.shape[1]
    penalty = _penalty("precision", precision, d)  # (d,)
    inverses = _inverse(grams + np.diag(penalty))  # C, (n_arms, d, d)
    told = np.diag(penalty) - penalty[:, None] * inverses * penalty  # L - L C L, (n_arms, d, d)
    common = _inverse(np.diag(_penalty("shared_precision", shared_precision, d)) + told.sum(axis=0))  # P^-1, (d, d)
    beta = common @ (penalty * _times(inverses, moments).sum(axis=0))  # (d,)
    thetas = prior_thetas + _times(inverses, moments + penalty * beta)  # (n_arms, d)
    reach = inverses * penalty  # C L, (n_arms, d, d)
    covariances = inverses + reach @ common @ reach.transpose(0, 2, 1)  # (n_arms, d, d)
    return LinearPosterior(thetas, noise * covariances, noise)


def _stack(sums: Sequence[LinearSums], prior_thetas: Matrix) -> tuple[Matrix, Matrix]:
    """Grams (n_arms, d, d) and moments less what the prior explains (n_arms, d)."""
    if not sums:
        raise ValueError("there must be at least one arm, got none")
    shape = (len(sums), sums[0].moment.size)
    if prior_thetas.shape != shape or not np.isfinite(prior_thetas).all():
        raise ValueError(f"prior_thetas must be finite with shape {shape}, got shape {prior_thetas.shape}")
    if any(arm.moment.size != shape[1] for arm in sums):
        raise ValueError(f"contexts must have one length, got {[arm.moment.size for arm in sums]}")
    grams = np.stack([arm.gram for arm in sums])  # (n_arms, d, d)
    moments = np.stack([arm.moment for arm in sums])  # (n_arms, d)
    return grams, moments - _times(grams, prior_thetas)


def _times(matrices: Matrix, vectors: Matrix) -> Matrix:
    """Each arm's matrix times its vector, shape (n_arms, d)."""
    return np.asarray((matrices @ vectors[:, :, None])[:, :, 0])


def _inverse(matrices: Matrix) -> Matrix:
    return _symmetric(np.asarray(np.linalg.inv(matrices), dtype=np.float64))


def _symmetric(matrices: Matrix) -> Matrix:
    return np.asarray(0.5 * (matrices + np.swapaxes(matrices, -1, -2)))


def _penalty(name: str, value: float | Vector, d: int) -> Vector:
    """The value per feature, shape (d,), finite and above 0."""
    values = np.asarray(value, dtype=np.float64)
    if values.shape not in ((), (d,)):
        raise ValueError(f"{name} must be one number or have shape ({d},), got shape {values.shape}")
    if not (np.isfinite(values) & (values > 0.0)).all():
        raise ValueError(f"{name} must be finite and above 0, got {value}")
    return np.broadcast_to(values, (d,))


def _check_noise(noise: float) -> None:
    if not (isfinite(noise) and noise > 0.0):
        raise ValueError(f"noise must be finite and above 0, got {noise}")


def _check_context(x: Vector, d: int | None = None) -> None:
    if x.ndim != 1 or x.size == 0 or x.size != (d or x.size):
        raise ValueError(f"context must have shape ({d or 'd'},), got {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"context must be finite, got {x.tolist()}")


def _scale(sums: LinearSums, factor: float) -> LinearSums:
    return LinearSums(factor * sums.weight, factor * sums.gram, factor * sums.moment, factor * sums.reward_sq)
