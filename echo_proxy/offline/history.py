"""What does the store remember of a policy's decisions?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from echo_proxy.learning.memory import Memory
from echo_proxy.protocols import Ledger
from echo_proxy.types import Amendment, Lesson

_PAGE = 500
_JUDGED = 0.5
"""Quality weight from which on somebody who can tell has judged: feedback has 1, a sampled judge 0.8, validators that
are content 0.05."""


@dataclass(frozen=True, slots=True)
class History:
    """Lessons and amendments in the order in which they became known."""

    entries: tuple[Lesson | Amendment, ...]
    finals: Mapping[str, Lesson]
    """Each lesson as it is known now, by decision."""
    certain: frozenset[str]
    """Decisions whose outcome was judged as soon as it was settled, by a validator that refuted it, for example."""

    def is_judged(self, decision_id: str) -> bool:
        """Whether more is known of the answer's quality than that nothing spoke against it."""
        return self.finals[decision_id].quality_weight >= _JUDGED


async def read_history(ledger: Ledger, report: Callable[[int], None]) -> History:
    """All that is kept. Raises StoreUnavailable.

    Args:
        ledger: of the policy that made the decisions, open.
        report: hears how many entries have been read.
    """
    entries: list[Lesson | Amendment] = []
    cursor = ""
    while True:
        page = await ledger.lessons(cursor, _PAGE)
        if not page.lessons:
            return history_of(entries)
        entries += page.lessons
        cursor = page.cursor
        report(len(entries))


def history_of(entries: list[Lesson | Amendment]) -> History:
    """The same from a list, without what is told twice and amendments of lessons that are no longer kept."""
    finals: dict[str, Lesson] = {}
    memory = Memory(max(len(entries), 1))
    kept = []
    for entry in entries:
        news = memory.absorb(entry)
        if news is not None:
            finals[entry.decision_id] = news.lesson
            kept.append(entry)
    certain = {one.decision_id for one in kept if isinstance(one, Lesson) and one.quality_weight >= _JUDGED}
    return History(tuple(kept), finals, frozenset(certain))
