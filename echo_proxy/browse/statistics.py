"""What does the store hold, in sum?"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from echo_proxy.browse.listing import state_of
from echo_proxy.browse.visible import visible
from echo_proxy.browse.walk import walk
from echo_proxy.protocols import Examples
from echo_proxy.types import Example, Which

_SOON_S = 86400.0
_AGES = ((3600.0, "1 hour"), (86400.0, "1 day"), (7 * 86400.0, "1 week"), (30 * 86400.0, "30 days"))
_OLDER = "older"
_GROUPS: Mapping[str, Callable[[Example], str]] = {
    "scope": lambda one: one.scope,
    "teacher": lambda one: one.teacher,
    "origin": lambda one: one.origin,
    "state": state_of,
}
_MAX_GROUPS = 1000
"""So many scopes or teachers are kept apart, those that are met first; all others count together."""
_OTHERS = "(others)"
_BAR = 40


@dataclass(slots=True)
class Sums:
    """About some examples."""

    n: int = 0
    n_bytes: int = 0
    uses: float = 0.0
    offloads: float = 0.0
    quality_sum: float = 0.0
    n_expiring: int = 0
    """Expire within a day."""

    def add(self, one: Example, now: float) -> None:
        """Count an example."""
        self.n += 1
        self.n_bytes += one.n_bytes
        self.uses += one.uses
        self.offloads += one.offloads
        self.quality_sum += one.quality
        self.n_expiring += one.expires_at - now < _SOON_S

    @property
    def mean_quality(self) -> float:
        """0 of none."""
        return self.quality_sum / self.n if self.n else 0.0


@dataclass(slots=True)
class Statistics:
    """About all examples that are meant."""

    max_bytes: int
    """What upkeep keeps at most."""
    total: Sums = field(default_factory=Sums)
    groups: dict[str, dict[str, Sums]] = field(default_factory=lambda: {name: {} for name in _GROUPS})
    """By kind of group and its name."""
    ages: Counter[str] = field(default_factory=Counter)
    """How many are younger than so much, and not counted before."""

    def as_json(self) -> dict[str, Any]:
        """JSON's own types."""
        groups = {kind: {name: _told(sums) for name, sums in found.items()} for kind, found in self.groups.items()}
        ages = {name: self.ages[name] for name in _age_names()}
        return {"max_bytes": self.max_bytes, "total": _told(self.total), "by": groups, "younger_than": ages}


async def gather(store: Examples, which: Which, now: float, max_bytes: int) -> Statistics:
    """Count all examples that are meant."""
    found = Statistics(max_bytes)
    async for one in walk(store, which):
        found.total.add(one, now)
        for kind, name_of in _GROUPS.items():
            groups, name = found.groups[kind], name_of(one)
            name = name if name in groups or len(groups) < _MAX_GROUPS else _OTHERS
            groups.setdefault(name, Sums()).add(one, now)
        found.ages[_age_of(now - one.created_at)] += 1
    return found


def show_statistics(found: Statistics, limit: int, console: Console) -> None:
    """Tables; of each kind of group the `limit` largest."""
    share = found.total.n_bytes / found.max_bytes
    console.print(
        f"{found.total.n:,} examples, {found.total.n_bytes:,} bytes: {share:.1%} of upkeep.max_bytes "
        f"({found.max_bytes:,}); {found.total.n_expiring:,} expire within a day",
        highlight=False,
    )
    for kind, groups in found.groups.items():
        table = Table(kind, *(_column(name) for name in ("n", "bytes", "uses", "offloads", "quality", "expiring")))
        for name, sums in sorted(groups.items(), key=lambda one: (-one[1].n, one[0]))[:limit]:
            table.add_row(Text(visible(name)), *_cells(sums))
        console.print(table)
        if len(groups) > limit:
            console.print(f"and {len(groups) - limit:,} more (--limit)", highlight=False)
    _show_ages(found, console)


def _show_ages(found: Statistics, console: Console) -> None:
    most = max(found.ages.values(), default=1)
    table = Table("age", _column("n"), "", box=None)
    for name in _age_names():
        n = found.ages[name]
        table.add_row(name if name == _OLDER else f"under {name}", f"{n:,}", "█" * round(_BAR * n / most))
    console.print(table)


def _column(name: str) -> Column:
    return Column(name, justify="right")


def _cells(sums: Sums) -> tuple[str, ...]:
    numbers = (f"{sums.n:,}", f"{sums.n_bytes:,}", f"{sums.uses:,.1f}", f"{sums.offloads:,.1f}")
    return (*numbers, f"{sums.mean_quality:.3f}", f"{sums.n_expiring:,}")


def _told(sums: Sums) -> dict[str, Any]:
    found = asdict(sums)
    del found["quality_sum"]
    return {**found, "mean_quality": sums.mean_quality}


def _age_of(seconds: float) -> str:
    return next((name for limit, name in _AGES if seconds < limit), _OLDER)


def _age_names() -> tuple[str, ...]:
    return (*(name for _, name in _AGES), _OLDER)
