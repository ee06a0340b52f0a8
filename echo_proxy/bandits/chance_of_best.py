"""How likely is each arm to be the best, when its true mean is only believed?

Thompson sampling draws a mean per arm from what is believed of it and takes the highest. The probability of that is
an integral, which we compute rather than sample: a decision then has an exact propensity and can be replayed.
"""

import numpy as np
from numpy.polynomial import legendre

from echo_proxy.types import Vector

N_POINTS = 4
"""Gauss-Legendre points per cell; cells of 1.5 deviations give a normal density to about 1e-6."""

EDGES_IN_DEVIATIONS = np.array([-6.0, -4.5, -3.0, -1.5, 0.0, 1.5, 3.0, 4.5, 6.0])
"""Where the cells of one arm end; the mass beyond is 2e-9."""

_POINTS, _WEIGHTS = legendre.leggauss(N_POINTS)  # both (N_POINTS,), on [-1, 1]
_TINY = 1e-300


def _running_integral() -> Vector:
    """Integrals from -1 to each point of the polynomials that are 1 at one point and 0 at the others.

    Shape (N_POINTS, N_POINTS): values at the points times this are the integrals up to each point.
    """
    to_coefficients = np.linalg.inv(legendre.legvander(_POINTS, N_POINTS - 1))  # (N_POINTS, N_POINTS)
    integrals = [legendre.legval(_POINTS, legendre.legint(column, lbnd=-1)) for column in to_coefficients.T]
    return np.array(integrals)


_UP_TO = _running_integral()


def points_of(edges: Vector) -> Vector:
    """Where to evaluate densities, shape (n_cells, N_POINTS).

    Args:
        edges: ends of the cells, ascending and distinct, shape (n_cells + 1,).
    """
    halves = 0.5 * np.diff(edges)  # (n_cells,)
    return np.asarray((edges[:-1] + halves)[:, None] + halves[:, None] * _POINTS)


def weights_of(edges: Vector) -> Vector:
    """Lengths that the points stand for in an integral, shape (n_cells, N_POINTS)."""
    return np.asarray(0.5 * np.diff(edges)[:, None] * _WEIGHTS)


def chances_of_best(log_densities: Vector, edges: Vector) -> Vector:
    """P(the arm's mean is the highest) when the means are independent, shape (n_arms,), sums to 1.

    The integral of f_i * product of F_j over all other arms, where f is an arm's density and F its distribution
    function, which comes from the same points by integrating the polynomial through them.

    Args:
        log_densities: per arm, up to a constant of its own, at `points_of(edges)`, shape (n_arms, n_cells, N_POINTS).
        edges: ends of the cells, shape (n_cells + 1,); they must cover every arm.

    Source: the integral is Chapelle and Li 2011, section 2, https://papers.nips.cc/paper/4321
    """
    halves = 0.5 * np.diff(edges)  # (n_cells,)
    masses, below = _masses(log_densities, halves)
    product = below.prod(axis=0)  # (n_cells, N_POINTS), P(all arms below)
    # Where F_i underflows its density does too, so that the quotient's guard changes nothing that counts.
    chances = (masses * (product / np.maximum(below, _TINY))).sum(axis=(1, 2))  # (n_arms,)
    return np.asarray(chances / chances.sum(), dtype=np.float64)


def _masses(log_densities: Vector, halves: Vector) -> tuple[Vector, Vector]:
    """Mass that each point stands for, and mass below each point, both (n_arms, n_cells, N_POINTS)."""
    densities = np.exp(log_densities - log_densities.max(axis=(1, 2), keepdims=True)) * halves[:, None]
    masses = densities * _WEIGHTS
    cells = masses.sum(axis=2)  # (n_arms, n_cells)
    up_to_cell = cells.cumsum(axis=1)  # (n_arms, n_cells)
    totals = up_to_cell[:, -1, None, None]  # (n_arms, 1, 1)
    below = (up_to_cell - cells)[:, :, None] + densities @ _UP_TO
    return masses / totals, np.clip(below / totals, 0.0, 1.0)
