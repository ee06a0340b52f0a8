"""Which requests are on their way, and what is known of each? A flight lasts from the first pick to the settlement."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

from echo_proxy.lane import Lane
from echo_proxy.litellm.joint import Lead
from echo_proxy.online.measure import Answer
from echo_proxy.types import Attempt, Decision, Plan


@dataclass(frozen=True, slots=True)
class Serving:
    """An answer that is given without asking a model."""

    text: str
    kind: Literal["stored", "shared"]
    """From the store, or that of the same request, just answered."""
    example_id: str = ""
    """Empty when it is no example's."""
    age_s: float = 0.0
    """Since it was written."""


def serving_of(plan: Plan, now: float) -> Serving | None:
    """What a plan gives from the store; nothing in shadow mode."""
    answer = plan.answer
    if answer is None or not answer.is_served or plan.is_shadow:
        return None
    example = answer.example
    return Serving(example.response, "stored", example.id, max(now - example.created_at, 0.0))


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
    words: str | None = None
    """The answer as the model gave it, before any guardrail or hook changed it for the caller; None when unknown."""
    is_settled: bool = False
    serving: Serving | None = None
    """What the attempt under way gives; None when a model is asked."""
    lead: Lead | None = None
    """What the same requests wait for that came after this one."""

    @property
    def is_due(self) -> bool:
        """All that settling needs is there."""
        if self.answer is None or self.is_settled:
            return False
        return self.answer.error is not None or not self.plan.request.is_streamed or self.stream_end is not None

    def given(self, answer: Answer) -> str:
        """An answer's words as the model gave them; as they were reported where no more is known."""
        return answer.text if self.words is None else self.words

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
