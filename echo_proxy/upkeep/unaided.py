"""Which examples are shown for requests that would have been answered as well without them?

A count of successful offloads cannot tell: an easy request succeeds with any example. Routers that have an arm without
examples draw it now and then, also where examples were at hand, and those answers say it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from echo_proxy.learning.memory import Memory
from echo_proxy.protocols import Ledger
from echo_proxy.types import Arm, Lesson

_MAX_LESSONS = 20_000
"""The newest ones that are looked at: some 20 MB. guess, not yet measured"""
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Unaided:
    """What cheap models made of requests for which an example was at hand, but was not shown."""

    n: float
    """Answers, by evidence weight."""
    good: float
    """Summed weight * quality, in [0, n]."""


async def unaided_answers(store: Ledger, arms: Sequence[Arm]) -> Mapping[str, Unaided]:
    """By id of the example; empty where no router ever leaves examples out. Raises StoreError."""
    shown = {arm.deployment for arm in arms if arm.n_examples}
    bare = {arm.name for arm in arms if arm.n_examples == 0 and arm.deployment in shown}
    found: dict[str, Unaided] = {}
    for lesson in await _lessons(store) if bare else ():
        if lesson.is_acted and lesson.arm in bare:
            _count(lesson, found)
    return found


def _count(lesson: Lesson, found: dict[str, Unaided]) -> None:
    weight = lesson.quality_weight
    for trial in lesson.trials:
        if trial.example_id and trial.is_chosen:
            old = found.get(trial.example_id, Unaided(0.0, 0.0))
            found[trial.example_id] = Unaided(old.n + weight, old.good + weight * lesson.quality)


async def _lessons(store: Ledger) -> Sequence[Lesson]:
    memory, cursor = Memory(_MAX_LESSONS), ""
    while True:
        page = await store.lessons(cursor, _PAGE)
        for one in page.lessons:
            memory.absorb(one)
        if not page.lessons:
            return memory.snapshot()
        cursor = page.cursor
