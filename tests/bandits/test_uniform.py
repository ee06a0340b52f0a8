"""Rules of the uniform baseline."""

import numpy as np

from echo_proxy.bandits.uniform import Uniform
from echo_proxy.types import Estimates


def test_every_arm_is_alike() -> None:
    """Evidence does not matter: each of four arms gets a quarter."""
    seen = Estimates(np.array([9.0, 0.0, 1.0, 2.0]), np.array([1.0, 0.0, 0.5, 0.2]), np.array([0.1, 0.0, 0.3, 0.2]))
    pmf = Uniform().pmf(seen)

    assert pmf.tolist() == [0.25] * 4
