"""What do the parts of `echo-proxy tune` tell each other?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from echo_proxy.local.options import LocalModelOptions

Goal = Literal["latency", "throughput"]
Outcome = Literal["start", "better", "kept", "failed", "not tried", "lossy"]
"""Of a candidate: the first one; took the place of the incumbent; did not; gave no figures; would not fit; is better
or not, but changes the texts."""


class CandidateFailed(Exception):
    """A candidate could not be measured; the message says why."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked in a round."""

    n_requests: int
    n_clients: int
    """Requests under way at once."""
    n_prompt_tokens: int
    n_answer_tokens: int


@dataclass(frozen=True, slots=True)
class Round:
    """What one round took."""

    tokens_per_s: float
    """Written by all requests together."""
    latency_s: float
    """Median time to a whole answer."""
    first_s: float
    """Median time to a first token."""
    prefill_s: float
    """Median time in which a prompt was read."""
    seconds: float
    """The round's own length."""
    n_bytes: int
    """Most memory that the process has held so far."""
    n_drafted: int = 0
    """Tokens that were guessed."""
    n_accepted: int = 0
    """Guesses that became part of an answer."""

    def speed(self, goal: Goal) -> float:
        """What is compared: answers per second and client, or tokens per second."""
        return 1.0 / self.latency_s if goal == "latency" else self.tokens_per_s


@dataclass(frozen=True, slots=True)
class Row:
    """A candidate and what came of it."""

    changed: str
    """What it has that the incumbent of its time had not."""
    options: LocalModelOptions
    outcome: Outcome
    figures: Round | None = None
    """Of its median round."""
    ratio: float | None = None
    """Its speed, in that of the incumbent in the same minutes."""
    n_bytes: int | None = None
    """Memory: measured, or estimated where it was not tried."""
    agreement: float | None = None
    """Share of greedy answers that is the same as the incumbent's, where the texts may differ."""
    note: str = ""


class Measurer(Protocol):
    """Runs candidates."""

    def measure(self, options: LocalModelOptions, load: Load, number: int, limit_s: float) -> Round:
        """One round; prompts of another number are other prompts. Raises CandidateFailed, also after `limit_s`."""
        ...

    def answers(self, options: LocalModelOptions, limit_s: float) -> Sequence[str]:
        """Greedy answers to a few fixed prompts. Raises CandidateFailed."""
        ...

    def release(self, options: LocalModelOptions) -> None:
        """It is not needed any more."""
        ...


def changed(options: LocalModelOptions, **changes: Any) -> LocalModelOptions:
    """The options with some others, checked again. Raises pydantic's ValidationError, which is a ValueError."""
    return LocalModelOptions.model_validate({**options.model_dump(), **changes})


def differing(options: LocalModelOptions, base: LocalModelOptions) -> dict[str, Any]:
    """What the options have that the base has not, as it stands in YAML."""
    ours, theirs = options.model_dump(mode="json"), base.model_dump(mode="json")
    return {name: value for name, value in ours.items() if value != theirs[name]}
