"""Rules of computing how likely each arm is the best."""

import numpy as np
import pytest

from echo_proxy.bandits.chance_of_best import N_POINTS, chances_of_best, points_of


def test_points_lie_within_their_cells() -> None:
    """Every cell has its points between its ends, in ascending order."""
    edges = np.array([0.0, 1.0, 1.5, 4.0])
    points = points_of(edges)

    assert points.shape == (3, N_POINTS)
    assert (points > edges[:-1, None]).all()
    assert (points < edges[1:, None]).all()
    assert (np.diff(points.ravel()) > 0.0).all()


def test_equal_beliefs_are_exactly_integrated() -> None:
    """Three arms that are uniform on the same interval are the best a third of the time each."""
    edges = np.array([0.0, 0.3, 1.0])

    assert chances_of_best(np.zeros((3, 2, N_POINTS)), edges) == pytest.approx([1 / 3] * 3, abs=1e-12)


def test_polynomial_beliefs_are_exactly_integrated() -> None:
    """P(the larger of two uniforms > a third uniform) is 2/3: Beta(2, 1) with density 2x against a uniform."""
    edges = np.array([0.0, 0.4, 1.0])
    log_densities = np.stack([np.log(points_of(edges)), np.zeros((2, N_POINTS))])

    assert chances_of_best(log_densities, edges) == pytest.approx([2 / 3, 1 / 3], abs=1e-12)


def test_constants_of_the_densities_do_not_matter() -> None:
    """Densities need no normalisation, not even to a common scale, however small or large they are."""
    edges = np.linspace(0.0, 1.0, 5)
    log_densities = np.stack([3.0 * np.log(points_of(edges)), np.zeros((4, N_POINTS))])
    shifted = log_densities + np.array([-5_000.0, 5_000.0])[:, None, None]

    assert chances_of_best(shifted, edges) == pytest.approx(chances_of_best(log_densities, edges))
