"""How many requests will an example help to offload?"""

import numpy as np

from echo_proxy.types import Holdings, Vector

_BIRTH = 0.1
"""Offloads that an example is given in advance: somebody asked for it once. It fades like the others. Chosen on
seeds 1 and 2 of bench.keeping.eviction."""
_TRUST = 4.0
"""Good outcomes that an example is given in advance, as `selection.utility.prior_weight`."""


def demand(held: Holdings, now: float, decay: float) -> Vector:
    """Offloads to be expected of each example by itself, shape (n,), above 0; only their proportions mean something.

    Args:
        held: n examples; offloads are faded to now.
        now: seconds since the epoch.
        decay: share of the count that is left after an hour.
    """
    age_hours = np.maximum(now - held.created_at, 0.0) / 3600  # (n,)
    # An example that nobody has used for months is still worth more than nothing, and the less the older it is.
    return held.offloads + _BIRTH * np.maximum(decay**age_hours, 1e-3 / (1.0 + age_hours))


def reliability(held: Holdings) -> Vector:
    """Share of the answers given with each example that were good, [0, 1], shape (n,); one without any is trusted."""
    uses = np.maximum(held.uses, 0.0)
    return (_TRUST * held.quality + np.clip(held.gain, 0.0, uses)) / (_TRUST + uses)
