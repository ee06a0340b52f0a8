"""Which examples are there?"""

import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from echo_proxy.browse.visible import beginning, visible
from echo_proxy.browse.walk import walk
from echo_proxy.protocols import Examples
from echo_proxy.types import Example, Which

SORTS: Mapping[str, Callable[[Example], float]] = {
    "created": lambda one: one.created_at,
    "offloads": lambda one: one.offloads,
    "uses": lambda one: one.uses,
    "bytes": lambda one: float(one.n_bytes),
    "regret": lambda one: one.regret,
}
"""Orders of a list, the largest first."""
_BESIDE_ID = 115
"""Characters that the other columns need. A terminal that has no room for them and the id wraps the line: an id that is
cut could not be copied."""
_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "m"))


async def largest(store: Examples, which: Which, sort: str, limit: int) -> list[Example]:
    """The first examples in an order of SORTS; no more than `limit` are in memory at once."""
    key = SORTS[sort]
    kept: list[tuple[float, str, Example]] = []
    async for example in walk(store, which):
        entry = (key(example), example.id, example)
        if any(example.id == one for _, one, _ in kept):
            continue  # a store may give one that is written meanwhile twice
        if len(kept) < limit:
            heapq.heappush(kept, entry)
        elif entry[:2] > kept[0][:2]:
            heapq.heapreplace(kept, entry)
    return [example for _, _, example in sorted(kept, key=lambda one: one[:2], reverse=True)]


def show_list(examples: Sequence[Example], now: float, console: Console) -> None:
    """One row an example."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    longest = max((len(visible(one.id)) for one in examples), default=0)
    table.add_column("id", no_wrap=True, min_width=longest)
    table.add_column("age", no_wrap=True)
    for name in ("scope", "teacher"):
        table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=16)
    for name in ("quality", "uses", "offloads", "bytes"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("request", no_wrap=True, overflow="ellipsis", ratio=1, min_width=20)
    for one in examples:
        cells = [one.id, age(now - one.created_at), one.scope, one.teacher, f"{one.quality:.2f}"]
        cells += [
            f"{one.uses:.1f}",
            f"{one.offloads:.1f}",
            f"{one.n_bytes:,}",
            state_of(one),
            beginning(one.request, 80),
        ]
        table.add_row(*(Text(visible(cell)) for cell in cells))
    console.print(table, width=max(console.width, longest + _BESIDE_ID), crop=False)


def summary(one: Example) -> dict[str, Any]:
    """What a list tells of an example, as JSON's own types."""
    return {
        "id": one.id,
        "created_at": one.created_at,
        "expires_at": one.expires_at,
        "scope": one.scope,
        "writer": one.writer,
        "teacher": one.teacher,
        "origin": one.origin,
        "quality": one.quality,
        "uses": one.uses,
        "offloads": one.offloads,
        "regret": one.regret,
        "n_bytes": one.n_bytes,
        "state": state_of(one),
        "request": one.request,
    }


def state_of(one: Example) -> str:
    """Whom it serves: all of its scope, or its reader alone."""
    return "quarantine" if one.reader else "released"


def age(seconds: float) -> str:
    """For people, e.g. `3h`."""
    sign, seconds = ("-" if seconds < 0 else ""), abs(seconds)
    return sign + next((f"{seconds / unit:.0f}{name}" for unit, name in _UNITS if seconds >= unit), f"{seconds:.0f}s")
