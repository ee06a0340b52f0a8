"""What is known of each arm, given all the evidence so far?

Evidence is kept as sums, so order does not matter, workers merge by adding, and late feedback replaces an early guess
by adding the difference.
"""

from collections.abc import Sequence
from math import inf, isfinite

import numpy as np

from echo_proxy.types import ArmSums, Estimates, Vector

NEGLIGIBLE_WEIGHT = 1e-9
"""Evidence below this counts as none: it is what rounding leaves after a correction, not an observation."""


def evidence(weight: float, reward: float) -> ArmSums:
    """Sums of a single observation.

    Raises:
        ValueError: the weight is negative or not finite, or the reward is outside [0, 1].
    """
    if not (isfinite(weight) and weight >= 0.0):
        raise ValueError(f"weight must be finite and at least 0, got {weight}")
    if not 0.0 <= reward <= 1.0:  # False for NaN as well
        raise ValueError(f"reward must be in [0, 1], got {reward}")
    return ArmSums(weight, weight * reward, weight * reward**2)


def merge(a: ArmSums, b: ArmSums) -> ArmSums:
    """Evidence of two workers together."""
    return ArmSums(a.weight + b.weight, a.reward_sum + b.reward_sum, a.reward_sq_sum + b.reward_sq_sum)


def add(sums: ArmSums, weight: float, reward: float) -> ArmSums:
    """Sums after one more observation; raises ValueError like `evidence`."""
    return merge(sums, evidence(weight, reward))


def difference(new: tuple[float, float], old: tuple[float, float]) -> ArmSums:
    """What turns sums that learned `old` into sums that learned `new` instead, by merging.

    Args:
        new: weight and reward of the final evidence.
        old: weight and reward of the provisional evidence, the weight as it stands in the sums now (faded with them).

    Returns:
        Sums whose fields may be negative.

    Raises:
        ValueError: like `evidence`.
    """
    return merge(evidence(*new), _negative(evidence(*old)))


def fade(sums: ArmSums, factor: float) -> ArmSums:
    """The same mean with less weight, so that a model that changed is noticed.

    Raises:
        ValueError: the factor is outside [0, 1].
    """
    if not 0.0 <= factor <= 1.0:
        raise ValueError(f"factor must be in [0, 1], got {factor}")
    return _scale(sums, factor)


def combine(sums: Sequence[ArmSums], prior_mean: float | Vector, prior_weight: float | Vector) -> Estimates:
    """Each arm's evidence together with `prior_weight` imagined observations of `prior_mean`.

    Args:
        sums: evidence per arm, length n_arms.
        prior_mean: expected reward before any evidence, in [0, 1]; one for all arms or shape (n_arms,).
        prior_weight: how many observations the prior counts for, at least 0, one for all arms or shape (n_arms,); 0
            leaves the plain mean of the rewards.

    Returns:
        Weights and means per arm. An arm without evidence or prior weight has weight 0 and the prior's mean.

    Raises:
        ValueError: the prior is out of range, or its shape disagrees with the number of arms.
    """
    priors = _per_arm("prior_mean", prior_mean, len(sums), 1.0)  # (n_arms,)
    counts = _per_arm("prior_weight", prior_weight, len(sums), inf)  # (n_arms,)
    # A correction can leave a weight a rounding error below zero.
    told = np.array([(arm.weight, arm.reward_sum) for arm in sums], dtype=np.float64).reshape(-1, 2)  # (n_arms, 2)
    totals = np.maximum(told[:, 0], 0.0) + counts  # (n_arms,)
    is_known = totals > NEGLIGIBLE_WEIGHT  # (n_arms,)
    means = np.where(is_known, (told[:, 1] + counts * priors) / np.where(is_known, totals, 1.0), priors)
    means = np.minimum(np.maximum(means, 0.0), 1.0)
    # of a Beta distribution with that mean and that many observations; at most that of a fair coin
    deviations = np.sqrt(means * (1.0 - means) / (totals + 1.0))  # (n_arms,)
    return Estimates(totals, means, deviations)


def check_estimates(seen: Estimates) -> None:
    """Refuse what no bandit can decide on.

    Raises:
        ValueError: there is no arm, shapes disagree, a weight or deviation is negative, or a value is not finite.
    """
    if seen.means.ndim != 1 or seen.means.size == 0:
        raise ValueError(f"means must have shape (n_arms,), got {seen.means.shape}")
    if not isfinite(seen.means.sum()):  # one that is not finite makes the sum so
        raise ValueError(f"means must be finite, got {seen.means.tolist()}")
    for name, values in (("weights", seen.weights), ("deviations", seen.deviations)):
        if values.shape != seen.means.shape:
            raise ValueError(f"{name} must have the shape of means {seen.means.shape}, got {values.shape}")
        if not (isfinite(values.sum()) and values.min() >= 0.0):
            raise ValueError(f"{name} must be finite and at least 0, got {values.tolist()}")


def _per_arm(name: str, value: float | Vector, n_arms: int, most: float) -> Vector:
    """The value per arm, shape (n_arms,), finite and in [0, most]."""
    values = np.asarray(value, dtype=np.float64)
    if values.shape not in ((), (n_arms,)):
        raise ValueError(f"{name} must be one number or have shape ({n_arms},), got shape {values.shape}")
    if values.size and not (values.min() >= 0.0 and values.max() <= most and values.max() < inf):  # False for NaN
        raise ValueError(f"{name} must be finite and in [0, {most:g}], got {value}")
    return values if values.shape == (n_arms,) else np.full(n_arms, float(values))


def _scale(sums: ArmSums, factor: float) -> ArmSums:
    return ArmSums(factor * sums.weight, factor * sums.reward_sum, factor * sums.reward_sq_sum)


def _negative(sums: ArmSums) -> ArmSums:
    return _scale(sums, -1.0)
