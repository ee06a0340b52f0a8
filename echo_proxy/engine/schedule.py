"""Which tokens are computed in the next step? Answers first, one token each, then as much of the prompts as fits."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepLimits:
    """How much one step may compute."""

    n_rows: int
    """At most so many rows, as many as the model takes at once."""
    n_prefill_rows: int
    """At most so many rows of prompts while somebody else waits for its next token: the longer a step, the longer the
    gap in everybody's stream."""


def plan_rows(unread: Sequence[int], limits: StepLimits) -> list[int]:
    """How many tokens of each sequence are read now.

    Args:
        unread: tokens that each sequence has still to read, at least 1 each; 1 = it only waits for its next token.
            The most urgent comes first.

    Returns:
        Rows of each sequence, as many as its unread tokens at most; 0 = it must wait for another step.
    """
    rows = [0] * len(unread)
    free = limits.n_rows
    for i, n_unread in enumerate(unread):
        if n_unread == 1 and free:
            rows[i], free = 1, free - 1
    if any(rows):
        free = min(free, limits.n_prefill_rows)
    for i, n_unread in enumerate(unread):
        if n_unread > 1:
            rows[i] = min(n_unread, free)
            free -= rows[i]
    return rows
