"""What may a round still spend, in USD and in seconds?"""

from echo_proxy.errors import EchoProxyError
from echo_proxy.protocols import Clock

_ROUNDING = 1e-12
"""USD by which sums of prices may be off."""


class BudgetSpent(EchoProxyError):
    """The round has used up its money or its time, or no model was idle until then."""


class Budget:
    """What is left of a round's money and time."""

    def __init__(self, usd: float, seconds: float, clock: Clock) -> None:
        """It begins to run at once."""
        self._usd = usd
        self._clock = clock
        self._end = clock.monotonic() + seconds
        self.spent_usd = 0.0
        self.n_calls = 0
        """Calls that were paid."""

    @property
    def left_s(self) -> float:
        """Seconds, at least 0."""
        return max(self._end - self._clock.monotonic(), 0.0)

    @property
    def left_usd(self) -> float:
        """At least 0."""
        return max(self._usd - self.spent_usd, 0.0)

    def has_room(self, usd: float) -> bool:
        """Whether work that probably costs so much may begin; what costs nothing may as long as there is time."""
        return self.left_s > 0 and usd <= self.left_usd + _ROUNDING

    def spend(self, usd: float) -> None:
        """A call has cost so much."""
        self.spent_usd += usd
        self.n_calls += 1
