"""Who shares the first place?"""

import numpy as np

from echo_proxy.types import Vector


def share_of_best(scores: Vector) -> Vector:
    """One, split evenly over the arms with the highest score, shape (n_arms,).

    Ties are shared rather than broken by position, so that no arm profits from where it stands in the configuration.
    """
    is_best = scores == np.max(scores)  # (n_arms,)
    return np.where(is_best, 1.0 / np.count_nonzero(is_best), 0.0)
