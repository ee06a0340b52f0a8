"""How do the numbers that a store keeps of examples become columns?"""

import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from echo_proxy.stores.fading import HOUR_S
from echo_proxy.stores.keys import untag
from echo_proxy.types import Holdings, Vector

COLUMNS = (
    *("version", "n_bytes", "offloads", "regret", "quality", "uses", "gain"),
    *("created_at", "expires_at", "n_replays", "replayed_at", "counted_at"),
)
"""Stored fields, in the order in which a store gives them here."""


def holdings_of(
    ids: Sequence[str], writers: Sequence[str], numbers: NDArray[np.float64], now: float, decay: float
) -> Holdings:
    """Columns of examples.

    Args:
        ids: of the examples, in the order of the rows, as is the next.
        writers: as they are stored, see `tag`.
        numbers: stored fields in the order of COLUMNS, shape (len(ids), len(COLUMNS)).
        now: seconds since the epoch; offloads and regret are faded to it.
        decay: factor per hour, (0, 1].
    """
    column = dict(zip(COLUMNS, numbers.T.copy(), strict=True))  # each of shape (n,)
    left: Vector = decay ** (np.maximum(now - column["counted_at"], 0.0) / HOUR_S)  # (n,)
    return Holdings(
        ids=tuple(ids),
        writers=tuple(sys.intern(untag(one)) for one in writers),  # a million examples have few of them
        versions=column["version"].astype(np.int64),
        n_bytes=column["n_bytes"].astype(np.int64),
        offloads=column["offloads"] * left,
        regret=column["regret"] * left,
        quality=column["quality"],
        uses=column["uses"],
        gain=column["gain"],
        created_at=column["created_at"],
        expires_at=column["expires_at"],
        n_replays=column["n_replays"].astype(np.int64),
        replayed_at=column["replayed_at"],
    )
