"""What do rank-one steps of a ridge regression need?"""

from math import isfinite

import numpy as np
from numpy.typing import NDArray

from echo_proxy.types import Vector

Matrix = NDArray[np.float64]
"""Two- or three-dimensional array of float64."""


def updated(inverse: Matrix, x: Vector, weight: float) -> Matrix:
    """Inverse of (A + weight * x x^T), from the inverse of A.

    Args:
        inverse: of a symmetric positive definite A, shape (d, d).
        x: context, shape (d,).
        weight: negative takes an observation out again.

    Raises:
        ValueError: the result would not be positive definite, shapes disagree, or a value is not finite.

    Source: Sherman and Morrison 1950, https://doi.org/10.1214/aoms/1177729893
    """
    if inverse.ndim != 2 or inverse.shape[0] != inverse.shape[1]:
        raise ValueError(f"inverse must have shape (d, d), got {inverse.shape}")
    _check_context(x, inverse.shape[0])
    if not isfinite(weight):
        raise ValueError(f"weight must be finite, got {weight}")
    step = inverse @ x  # (d,)
    scale = 1.0 + weight * float(x @ step)
    if not scale > 1e-12:  # rounding leaves about 1e-15 of an exact zero; False for NaN as well
        raise ValueError(f"taking out weight {weight} must leave a positive definite matrix, got factor {scale}")
    return _symmetric(inverse - (weight / scale) * np.outer(step, step))


def _symmetric(matrices: Matrix) -> Matrix:
    return np.asarray(0.5 * (matrices + np.swapaxes(matrices, -1, -2)))


def _check_context(x: Vector, d: int | None = None) -> None:
    if x.ndim != 1 or x.size == 0 or x.size != (d or x.size):
        raise ValueError(f"context must have shape ({d or 'd'},), got {x.shape}")
    if not np.isfinite(x).all():
        raise ValueError(f"context must be finite, got {x.tolist()}")
