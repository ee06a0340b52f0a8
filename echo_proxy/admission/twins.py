"""Which stored examples ask the same, and who stays?

Between writers one rule holds: an answer takes the place of a twin only where all whom the twin serves are served by
it too, and never that of a twin which waits in somebody else's quarantine. Else a stranger could delete what others
wrote by asking the same. So:

| stored twin | same answer | another answer |
|---|---|---|
| the writer's own, as far in or out of quarantine | it stays | the better stays, the newer on a tie |
| open to all, the new one too (no quarantine) | it stays | the better stays, the newer on a tie |
| open to all, the new one in quarantine | it stays | both stay |
| in another's quarantine | it is confirmed, both stay until it is released | both stay, a judge may be asked |
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from echo_proxy.admission.floor import worth
from echo_proxy.policy import Policy
from echo_proxy.protocols import Examples
from echo_proxy.types import Example, Observation, Query

_MOST = 50
"""Twins that are looked at: so many callers of one scope may wait with the same request. # guess, not yet measured"""
_TIE = 0.1
"""Difference of worth up to which the newer answer stays: agreement with other examples alone moves it by as much
(prior 0.9, reliability 0.6). # guess, not yet measured"""
_HOUR_S = 3600.0
_MOST_OBSERVATIONS = 64


@dataclass(frozen=True, slots=True)
class Standing:
    """How an example stands to its twins."""

    holder: Example | None
    """Holds the same answer already, for all whom the new one would serve."""
    better: Example | None
    """Answers otherwise, and clearly better: it stays."""
    replaced: tuple[Example, ...]
    """Give way to the new one."""
    confirmed: tuple[Example, ...]
    """Wait in others' quarantine and say the same to the same request."""
    doubted: tuple[Example, ...]
    """Wait in others' quarantine and answer the same request in other words, which nothing that is open answers yet."""


async def twins_of(example: Example, policy: Policy, store: Examples) -> tuple[Example, ...]:
    """Stored examples that lie within the distance of one request, those in quarantine too, nearest first; the example
    itself when it is stored. Raises StoreUnavailable."""
    near = await store.nearest(
        Query(
            *(example.vector, example.scope, example.partition, _MOST, policy.admission.duplicate_distance),
            now=example.created_at,
            reader=None,
        )
    )
    return tuple(candidate.example for candidate in near)


def standing(example: Example, twins: Sequence[Example], deviations: float) -> Standing:
    """Who stays, by the table above."""
    twins = [one for one in twins if one.id != example.id]
    others = [one for one in twins if one.reader not in ("", example.writer)]
    asking_same = [
        one for one in others if same_request(one.request, example.request) and not _same_person(one, example)
    ]
    mine = [one for one in twins if one.reader in ("", example.writer)]
    is_answered = any(not one.reader and same_request(one.request, example.request) for one in mine)
    holder = next((one for one in mine if _holds(one, example)), None)
    rivals = [one for one in mine if example.reader in ("", one.reader)]
    better = [one for one in rivals if _is_better(one, example, deviations)]
    return Standing(
        holder=holder,
        better=max(better, key=lambda one: one.quality, default=None),
        replaced=tuple(rivals),
        confirmed=tuple(one for one in asking_same if same_answer(one.response, example.response)),
        doubted=tuple(
            one for one in asking_same if not is_answered and not same_answer(one.response, example.response)
        ),
    )


def _same_person(one: Example, other: Example) -> bool:
    """Whether two keys are one user's, who vouches for nothing of his own."""
    return bool(one.person) and one.person == other.person


def _is_better(twin: Example, example: Example, deviations: float) -> bool:
    """A tie goes to the newer, which after a failure may be the stored one."""
    ahead = worth(twin.quality, None, deviations) - worth(example.quality, None, deviations)
    return ahead > (-_TIE if twin.created_at > example.created_at else _TIE)


def _holds(twin: Example, example: Example) -> bool:
    return twin.reader in ("", example.reader) and same_answer(twin.response, example.response)


def same_request(one: str, other: str) -> bool:
    """Whether two requests are the same words in the same order; case, spaces and closing marks do not count.

    Near is not enough to vouch for somebody's example: an embedder leaves out the middle of a long text, and a few
    foreign words move a vector little. Its request is shown to others as well as its answer.
    """
    return _words(one) == _words(other)


def same_answer(one: str, other: str) -> bool:
    """Whether two answers are the same but for blanks at the ends of lines.

    Nothing else is forgiven: in `rm -rf /tmp/x` a blank, and in a long answer one sentence, makes all the difference,
    while any measure of agreement would hardly notice.
    """
    return _lines(one) == _lines(other)


def _words(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(" .?!")


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def merged(example: Example, gone: Sequence[Example], now: float, decay: float) -> Example:
    """The example with the counts of those whose place it takes.

    Offloads and regret speak of the request and move on, faded to now; uses, gain and observations speak of the answer
    and move on only where it is the same.

    Args:
        example: the one that stays.
        gone: those that give way.
        now: seconds since the epoch.
        decay: factor per hour on offloads and regret, (0, 1].
    """
    alike = [one for one in gone if same_answer(one.response, example.response)]
    everyone = [example, *gone]
    seen: list[Observation] = [*example.observations, *(it for one in alike for it in one.observations)]
    seen.sort(key=lambda one: one.at)
    return replace(
        example,
        offloads=sum(one.offloads * _faded(one, now, decay) for one in everyone),
        regret=sum(one.regret * _faded(one, now, decay) for one in everyone),
        counted_at=now,
        uses=example.uses + sum(one.uses for one in alike),
        gain=example.gain + sum(one.gain for one in alike),
        observations=tuple(seen[-_MOST_OBSERVATIONS:]),
    )


def _faded(example: Example, now: float, decay: float) -> float:
    return float(decay ** (max(now - example.counted_at, 0.0) / _HOUR_S))
