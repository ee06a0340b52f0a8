"""Deployments and traffic of which theory knows the answer."""

from collections.abc import Sequence

import numpy as np

from echo_proxy.offline.simulate_arrivals import Arrivals, Traffic, draw_traffic, poisson
from echo_proxy.offline.simulate_fleet import Fleet, FleetFile, make_fleet
from echo_proxy.offline.simulate_outcomes import expected_outcomes


def fleet(slots: Sequence[int] = (1,), speeds: Sequence[float] = (1.0,)) -> Fleet:
    """Deployments d0, d1, ... with an arm each; an answer of one token takes 1 / speed seconds."""
    return make_fleet(
        FleetFile.model_validate(
            {
                "deployments": {
                    f"d{i}": {
                        "slots": n,
                        "prefill_tokens_per_s": 1e12,
                        "decode_tokens_per_s": float(speed),
                        "usd_per_1m_completion_tokens": 1.0 + i,
                    }
                    for i, (n, speed) in enumerate(zip(slots, speeds, strict=True))
                },
                "arms": {f"d{i}+0": {"deployment": f"d{i}", "quality": {"all": 0.5}} for i in range(len(slots))},
            }
        )
    )


def markov(rate: float, n: int, mean: float = 1.0, seed: int = 1) -> Arrivals:
    """Poisson arrivals whose answers' lengths are exponential."""
    arrivals = poisson(rate, n, 1.0, 1.0, np.random.default_rng(seed))
    lengths = np.random.default_rng(seed + 1).exponential(mean, n)
    return Arrivals(arrivals.at, arrivals.prompt_tokens, lengths)


def traffic(arrivals: Arrivals, qualities: Sequence[float] = (0.5,), seed: int = 1) -> Traffic:
    """One class of requests, answered well by each arm with this probability."""
    pool = expected_outcomes({"all": 1.0}, np.array([qualities]))
    return draw_traffic(arrivals, pool, np.random.default_rng(seed))
