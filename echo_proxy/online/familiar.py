"""Which examples does a scope use again and again? What prompts have in common is best put at their beginning."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from echo_proxy.types import Selection

_MOST_GROUPS = 1000
"""Scopes and partitions of which is counted, the latest ones. # guess, not yet measured"""
_MOST_EXAMPLES = 256
"""Examples per group that are counted, the most used ones. # guess, not yet measured"""
_LEAST_USES = 2.0
"""An example that was used once is familiar to nobody."""
_HALF_LIVES = 10.0
"""Uses count half after so many periods. # guess, not yet measured"""


class _Group:
    """Uses in one scope and partition."""

    __slots__ = ("counted_at", "due", "ranking", "uses")

    def __init__(self, now: float) -> None:
        self.uses: dict[str, float] = {}
        self.counted_at = now
        self.ranking: tuple[str, ...] = ()
        self.due = now

    def count(self, ids: Iterable[str], now: float, period_s: float) -> None:
        self._fade(now, period_s)
        for one in ids:
            self.uses[one] = self.uses.get(one, 0.0) + 1.0
        if len(self.uses) > 2 * _MOST_EXAMPLES:
            self.uses = {one: self.uses[one] for one in self._by_use()}

    def _by_use(self) -> Sequence[str]:
        return sorted(self.uses, key=lambda one: (-self.uses[one], one))[:_MOST_EXAMPLES]

    def _fade(self, now: float, period_s: float) -> None:
        """Once a period: between two rankings a little more or less changes nothing."""
        if now - self.counted_at < period_s:
            return
        factor = 0.5 ** ((now - self.counted_at) / (_HALF_LIVES * period_s))
        self.uses = {one: factor * n for one, n in self.uses.items()}
        self.counted_at = now

    def rank(self, now: float, period_s: float) -> tuple[str, ...]:
        """The most used first; it stays as it is for a period once there is one."""
        if self.ranking and now < self.due:
            return self.ranking
        self.ranking = tuple(one for one in self._by_use() if self.uses[one] >= _LEAST_USES)
        self.due = now + period_s
        return self.ranking


class Familiar:
    """Counts how often examples were worth their tokens, by scope and partition. One worker's own view, in memory."""

    def __init__(self) -> None:
        self._groups: OrderedDict[tuple[str, str], _Group] = OrderedDict()

    def ranking(self, scope: str, partition: str, now: float, period_s: float) -> Sequence[str]:
        """Ids of examples, the most used first; changes at most once in period_s seconds. Empty = nothing is known."""
        group = self._groups.get((scope, partition))
        return group.rank(now, period_s) if group else ()

    def count(self, scope: str, partition: str, selection: Selection, now: float, period_s: float) -> None:
        """Note what a request could use.

        Also those for which there was no room: were only the shown ones counted, an example would stay in the backbone
        because it is in the backbone.
        """
        wanted = [one.example.id for one in selection.chosen]
        wanted += [one.candidate.example.id for one in selection.rejected if one.reason == "enough"]
        if not wanted:
            return
        group = self._groups.setdefault((scope, partition), _Group(now))
        self._groups.move_to_end((scope, partition))
        group.count(wanted, now, period_s)
        if len(self._groups) > _MOST_GROUPS:
            self._groups.popitem(last=False)
