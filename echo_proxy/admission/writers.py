"""How much of the store may one writer fill?"""

from dataclasses import dataclass

from echo_proxy.policy import Policy
from echo_proxy.protocols import Clock, Examples

_FRESH_S = 60.0
"""What a writer holds is asked for so often; what this worker adds meanwhile is added up."""
_MOST_WRITERS = 10_000
"""Writers that are remembered; beyond that all are asked for anew."""


@dataclass(slots=True)
class _Known:
    until: float
    n_bytes: int


class WriterShares:
    """What writers hold, as far as one worker knows. Workers add side by side, so a share may be overrun by what they
    write within a minute."""

    def __init__(self, store: Examples, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, _Known] = {}

    async def has_room(self, writer: str, n_bytes: int, policy: Policy) -> bool:
        """Whether a writer may add so many bytes. Raises StoreUnavailable."""
        most = policy.admission.writer_share * policy.upkeep.max_bytes
        return (await self._held(writer)).n_bytes + n_bytes <= most

    def add(self, writer: str, n_bytes: int) -> None:
        """So many more were written; below 0 fewer."""
        if writer in self._known:
            self._known[writer].n_bytes += n_bytes

    async def _held(self, writer: str) -> _Known:
        now, known = self._clock.monotonic(), self._known.get(writer)
        if known is None or known.until <= now:
            held = await self._store.held_by(writer)
            if len(self._known) >= _MOST_WRITERS:
                self._known.clear()
            known = self._known[writer] = _Known(now + _FRESH_S, held.n_bytes)
        return known
