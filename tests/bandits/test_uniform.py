"""Rules of the uniform baseline."""

import numpy as np

from echo_proxy.bandits.uniform import Uniform


def test_every_arm_is_alike() -> None:
    """Evidence does not matter: each of four arms gets a quarter."""
    pmf = Uniform().pmf(np.array([9.0, 0.0, 1.0, 2.0]), np.array([1.0, 0.0, 0.5, 0.2]))

    assert pmf.tolist() == [0.25] * 4
