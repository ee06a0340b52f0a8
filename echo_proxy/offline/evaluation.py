"""What does an evaluation say?"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from echo_proxy.offline.support import Support

Estimator = Literal["dr", "snips", "ips"]
QualityFrom = Literal["judged", "all"]
MEASURES = ("reward", "quality", "cost_usd", "latency_s")


class Verdict(StrEnum):
    """What to do."""

    SWITCH = "switch"
    """The new policy earns more."""
    KEEP = "keep"
    """The running one does."""
    NOT_PROVEN = "not proven"
    """The log is too short to tell."""
    NO_ANSWER = "no answer"
    """The log cannot tell, however long it gets: it did not try what the policy would do."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A value and how sure it is."""

    value: float
    standard_error: float
    lower: float
    """Of the 95 % interval."""
    upper: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure under both policies."""

    measure: str
    n_known: int
    """Decisions of which it is known."""
    new: Figure
    running: Figure
    difference: Figure
    """New minus running, on the same decisions."""


@dataclass(frozen=True, slots=True)
class ArmShare:
    """How often an arm is drawn."""

    arm: str
    n_logged: int
    """Decisions in which the log drew it."""
    n_judged: int
    """Of them, answers that somebody judged."""
    new: float
    """Share of the new policy's draws."""
    running: float


@dataclass(frozen=True, slots=True)
class Progress:
    """Both policies' mean reward in the decisions so far."""

    n: int
    new: float
    running: float


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """How to compare."""

    estimator: Estimator = "dr"
    quality: QualityFrom = "judged"
    clip: float | None = None
    """Limit of the importance weights; None = none."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the log says of two policies."""

    verdict: Verdict
    reasons: tuple[str, ...]
    """Why there is no answer; empty when there is one."""
    n_more: int | None
    """Further decisions that would probably decide it; None when it is decided, or no number would."""
    comparisons: tuple[Comparison, ...]
    """Empty when there is no answer: a number would mislead."""
    arms: tuple[ArmShare, ...]
    support_new: Support | None
    support_running: Support | None
    n_logged: int
    """Decisions in the log's span, those without evidence included."""
    n_used: int
    share_judged: float
    """Of the used ones: somebody judged the answer."""
    quality_from: QualityFrom
    notes: tuple[str, ...]
    """What the reader must know beside."""
    over_time: tuple[Progress, ...] = ()
    """For the plot."""
