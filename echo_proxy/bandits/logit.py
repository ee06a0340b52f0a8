"""What does each arm probably earn at a point, when arms are alike in part? Logistic regression that shares.

theta_a = beta + delta_a with beta ~ N(0, 1 / shared_precision) and delta_a ~ N(0, 1 / own_precision), and an intercept
of its own per arm on top of an offset that says what was believed before. Rewards in [0, 1] count as shares of a
success. A fit looks at all arms at once; an arm that was never observed follows beta.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from echo_proxy.types import Vector

Matrix = NDArray[np.float64]
"""Two-dimensional array of float64."""
Features = NDArray[np.float32]
"""One row per observation, shape (n, d); single precision, as the fit is bound by memory."""

_MAX_ITERATIONS = 80
_TOLERANCE = 1e-7
"""Relative change of the loss at which the fit stops; single precision has no more to give."""
_CURVATURE = 0.2
"""Of a typical logistic loss, between 0 and 1/4; scales the steps and leaves the result as it is."""


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """What was seen of every arm at every point; where a weight is 0, the arm was not observed."""

    x: Features
    """Points, shape (n, d), centred: the intercepts say what holds at 0."""
    weights: Matrix
    """Shape (n, n_arms), at least 0."""
    rewards: Matrix
    """Shape (n, n_arms), [0, 1]."""
    offsets: Matrix
    """Log odds that were believed before, shape (n, n_arms)."""


@dataclass(frozen=True, slots=True, eq=False)
class Precisions:
    """Of what is believed before any evidence, all above 0."""

    shared: float
    own: float
    intercepts: Vector
    """Shape (n_arms,)."""


@dataclass(frozen=True, slots=True, eq=False)
class LogitFit:
    """Coefficients, and how much the observations say about them."""

    beta: Vector
    """What arms have in common, shape (d,)."""
    thetas: Matrix
    """Coefficients per arm, beta included, shape (n_arms, d)."""
    intercepts: Vector
    """Log odds on top of the offset, shape (n_arms,)."""
    intercept_information: Vector
    """Precision that the observations add to the intercepts', shape (n_arms,)."""
    basis: Matrix
    """The directions that were observed most, orthonormal columns, shape (d, n_directions)."""
    variances: Matrix
    """Of each arm's coefficients along them, shape (n_arms, n_directions)."""
    shared_variances: Vector
    """The same for an arm that was never observed, shape (n_directions,)."""
    prior_variance: float
    """Of any arm's coefficient along any other direction."""


def fit_logit(seen: Observations, precisions: Precisions, n_directions: int = 128) -> LogitFit:
    """The most probable coefficients, and their variances by Laplace's approximation, diagonal along the directions.

    Raises:
        ValueError: shapes disagree, a weight is negative, a reward is outside [0, 1] or a precision is not above 0.

    Source: Bishop 2006, Pattern Recognition and Machine Learning, sections 4.4 and 4.5
    """
    _check(seen, precisions)
    spectrum, turn = _eigen(seen)
    turned = seen.x @ turn  # (n, d)
    beta, deltas, intercepts = _most_probable(turned, spectrum, seen, precisions)
    thetas = beta + deltas  # (n_arms, d)
    p = expit(seen.offsets + intercepts + turned @ thetas.T.astype(np.float32))  # (n, n_arms)
    curvature = seen.weights * p * (1 - p)  # (n, n_arms)
    top = slice(max(spectrum.size - n_directions, 0), None)
    told = curvature.T @ turned[:, top].astype(np.float64) ** 2  # (n_arms, n_directions)
    variances, shared_variances = _variances(told, precisions)
    back = turn.astype(np.float64)
    return LogitFit(
        back @ beta,
        thetas @ back.T,
        intercepts,
        curvature.sum(axis=0),
        back[:, top],
        variances,
        shared_variances,
        1 / precisions.shared + 1 / precisions.own,
    )


def _eigen(seen: Observations) -> tuple[Vector, Features]:
    """Weighted gram of all points in its own basis: eigenvalues ascending (d,), directions as columns (d, d)."""
    scaled = seen.x * np.sqrt(seen.weights.sum(axis=1, keepdims=True)).astype(np.float32)
    values, turn = np.linalg.eigh(scaled.T @ scaled)
    return np.maximum(values, 0.0).astype(np.float64), turn


def _most_probable(
    x: Features, spectrum: Vector, seen: Observations, precisions: Precisions
) -> tuple[Vector, Matrix, Vector]:
    """beta (d,), deltas (n_arms, d) and intercepts (n_arms,) in the basis of x.

    The unknowns are scaled by about the square root of the curvature, so that one step size suits all of them.
    """
    n_arms, d = seen.weights.shape[1], x.shape[1]
    counts = seen.weights.sum(axis=0)  # (n_arms,)
    shares = counts / max(float(counts.sum()), 1e-12)
    widths = np.concatenate(
        [
            _CURVATURE * spectrum + precisions.shared,
            (_CURVATURE * shares[:, None] * spectrum + precisions.own).ravel(),
            _CURVATURE * counts + precisions.intercepts,
        ]
    )
    scale = 1 / np.sqrt(widths)
    precision = np.concatenate(
        [np.full(d, precisions.shared), np.full(n_arms * d, precisions.own), precisions.intercepts]
    )

    def loss(scaled: Vector) -> tuple[float, Vector]:
        unknowns = scaled * scale
        beta, deltas, intercepts = _split(unknowns, d, n_arms)
        z = seen.offsets + intercepts + x @ (beta + deltas).T.astype(np.float32)  # (n, n_arms)
        excess = seen.weights * (expit(z) - seen.rewards)
        slopes = (excess.T.astype(np.float32) @ x).astype(np.float64)  # (n_arms, d)
        gradient = np.concatenate([slopes.sum(axis=0), slopes.ravel(), excess.sum(axis=0)]) + precision * unknowns
        value = (seen.weights * (np.logaddexp(0.0, z) - seen.rewards * z)).sum() + (precision * unknowns**2).sum() / 2
        return float(value), gradient * scale

    options = {"maxiter": _MAX_ITERATIONS, "ftol": _TOLERANCE, "gtol": 0.0, "maxcor": 10}
    found = minimize(loss, np.zeros(scale.size), jac=True, method="L-BFGS-B", options=options)
    return _split(found.x * scale, d, n_arms)


def _split(unknowns: Vector, d: int, n_arms: int) -> tuple[Vector, Matrix, Vector]:
    return unknowns[:d], unknowns[d : d * (1 + n_arms)].reshape(n_arms, d), unknowns[d * (1 + n_arms) :]


def _variances(told: Matrix, precisions: Precisions) -> tuple[Matrix, Vector]:
    """Of theta per arm and direction (n_arms, n_directions), and of beta + an unseen delta (n_directions,).

    With h what an arm's observations tell, L the own precision, C = 1 / (h + L), P = shared + sum(L - L C L):
    C + C L / P L C, as in `linear.shared_posterior`, one direction at a time.
    """
    own = precisions.own
    c = 1 / (told + own)
    common = 1 / (precisions.shared + (own - own**2 * c).sum(axis=0))  # (n_directions,)
    return c + (c * own) ** 2 * common, common + 1 / own


def _check(seen: Observations, precisions: Precisions) -> None:
    n = seen.x.shape[0]
    shape = (n, precisions.intercepts.size)
    for name, values in (("weights", seen.weights), ("rewards", seen.rewards), ("offsets", seen.offsets)):
        if values.shape != shape or not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite with shape {shape}, got shape {values.shape}")
    if not np.isfinite(seen.x).all():
        raise ValueError("x must be finite")
    if (seen.weights < 0).any() or (seen.rewards < 0).any() or (seen.rewards > 1).any():
        raise ValueError("weights must be at least 0 and rewards in [0, 1]")
    if not (precisions.shared > 0 and precisions.own > 0 and (precisions.intercepts > 0).all()):
        raise ValueError(f"precisions must be above 0, got {precisions}")
