"""Which requests are on their way, and what is known of each? A flight lasts from the first pick to the settlement."""

from collections import OrderedDict
from dataclasses import dataclass, field

from echo_proxy.lane import Lane
from echo_proxy.online.measure import Answer
from echo_proxy.types import Attempt, Decision, Plan


@dataclass(slots=True)
class Flight:
    """One request between its first pick and its settlement. Changed only by the hooks, on one event loop."""

    lane: Lane
    plan: Plan
    taken_off_at: float
    """Monotonic seconds."""
    decision: Decision | None = None
    """The pick of the attempt under way; None when LiteLLM chooses."""
    awaits_deployment: bool = False
    """A pick was made whose deployment hook has not run: the next run of that hook is the outermost of the attempt."""
    attempts: list[Attempt] = field(default_factory=list)
    answer: Answer | None = None
    stream_end: bool | None = None
    """True = the caller read the stream to its end, False = left before, None = not known (or no stream)."""
    is_settled: bool = False

    @property
    def is_due(self) -> bool:
        """All that settling needs is there."""
        if self.answer is None or self.is_settled:
            return False
        return self.answer.error is not None or not self.plan.request.is_streamed or self.stream_end is not None

    @property
    def failed_deployments(self) -> frozenset[str]:
        """Deployments that failed this request."""
        return frozenset(attempt.deployment_id for attempt in self.attempts if attempt.error)


class FlightBook:
    """Flights by ticket (see calls.ticket_of); bounded in number and age."""

    def __init__(self, max_flights: int = 20_000, max_age_s: float = 900.0) -> None:
        self._flights: OrderedDict[str, Flight] = OrderedDict()
        self._max_flights = max_flights
        self._max_age_s = max_age_s

    def __len__(self) -> int:
        return len(self._flights)

    def get(self, ticket: str) -> Flight | None:
        """The flight of a request, or None."""
        return self._flights.get(ticket)

    def put(self, ticket: str, flight: Flight) -> list[Flight]:
        """Add a flight; returns those that had to go because they were too old or too many."""
        self._flights[ticket] = flight
        gone: list[Flight] = []
        while self._flights:
            oldest = next(iter(self._flights.values()))
            is_old = flight.taken_off_at - oldest.taken_off_at > self._max_age_s
            if not is_old and len(self._flights) <= self._max_flights:
                break
            gone.append(self._flights.popitem(last=False)[1])
        return gone

    def drop(self, ticket: str) -> None:
        """Forget a flight."""
        self._flights.pop(ticket, None)
