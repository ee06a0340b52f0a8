"""Which examples must go so that the store and each writer keep within their bytes, and how do they go?

First a plan is made, which changes nothing; then it is acted upon, in batches under the lease of the round. An example
that is used between the two goes all the same: a plan is seconds old when it is acted upon, and the next request of
its kind is taught anew.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from echo_proxy.policy import Utility
from echo_proxy.policy_keeping import UpkeepPolicy
from echo_proxy.protocols import Examples
from echo_proxy.types import Holdings, Json, Lease, Vector
from echo_proxy.upkeep.shares import Bounds, keep_within
from echo_proxy.upkeep.stand_in import Likeness, added_worth, likeness_of, need
from echo_proxy.upkeep.unaided import Unaided
from echo_proxy.upkeep.worth import demand, reliability

_PAGE = 500
_BATCH = 200
"""Removed in one go: a lost lease is noticed soon, and a busy store is not held up for long."""
MAX_COMPARED = 100_000
"""Larger stores are planned without looking at what stands in for what: their vectors alone would take more than
150 MB, and reading them minutes."""

_COLUMNS = tuple(one.name for one in fields(Holdings) if one.name not in ("ids", "writers"))


@dataclass(frozen=True, slots=True)
class EvictionPlan:
    """What would be dropped, and what that costs."""

    made_at: float
    """Seconds since the epoch."""
    ids: tuple[str, ...]
    """What is dropped: expired ones first, then from the least value per byte on."""
    n_expired: int
    """So many of them have outlived their time."""
    n_examples: int
    """In the store, before."""
    n_new: int
    """Too young to be evicted."""
    bytes_before: int
    bytes_after: int
    budget_bytes: int
    dropped_bytes: Mapping[str, int]
    """By reason: expired, writer_share (their writers had too much), max_bytes (all together were too much)."""
    is_over: bool
    """The budget, or a writer's share of it, is missed by examples that are too young to be evicted."""
    value: float
    """What is expected of the examples that have not expired; comparable within a plan alone."""
    value_lost: float
    """Of that, what is expected of those that are evicted."""
    gap: float
    """Share of the value that better choices, of each writer and then of all, could keep beyond this one, at most."""
    is_compared: bool
    """Examples that stand in for one another were counted once; else each counts for itself."""

    @property
    def lost_share(self) -> float:
        """Share of the value that is lost, [0, 1]."""
        return self.value_lost / self.value if self.value > 0 else 0.0

    def to_json(self) -> dict[str, Json]:
        """Figures without the ids, for a report."""
        told: dict[str, Json] = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "ids"}
        told["dropped_bytes"] = dict(self.dropped_bytes)
        return {**told, "n_dropped": len(self.ids), "lost_share": self.lost_share}


async def plan_eviction(
    store: Examples,
    rules: UpkeepPolicy,
    now: float,
    writer_share: float | None,
    utility: Utility | None = None,
    unaided: Mapping[str, Unaided] | None = None,
) -> EvictionPlan:
    """What has to go so that there is room within `rules.max_bytes` and within each writer's share of them; nothing is
    changed. Raises StoreError.

    Args:
        writer_share: the policy's `admission.writer_share`, (0, 1]; None = writers are not looked at, and the store is
            cut to exactly `rules.max_bytes`, with no room left, as a comparison of ways to evict needs it.
        utility: how the policy's selection judges relevance (`selection.utility`), by which examples stand in for one
            another; None takes its defaults.
        unaided: how requests are answered without examples, see `unaided_answers`; None = nothing is known.
    """
    held = await _holdings(store)
    alive = held.expires_at > now  # (n,)
    ids = [one for one, lives in zip(held.ids, alive.tolist(), strict=True) if lives]
    bounds = Bounds(rules.max_bytes, writer_share)
    writers = [one for one, lives in zip(held.writers, alive.tolist(), strict=True) if lives]
    is_touched = await asyncio.to_thread(bounds.is_touched, writers, held.n_bytes[alive])
    is_compared = is_touched and len(ids) <= MAX_COMPARED
    likeness = await likeness_of(store, ids, utility or Utility()) if is_compared else None
    # In a thread: it takes seconds, in which a proxy must go on serving.
    return await asyncio.to_thread(_plan, held, rules, bounds, now, likeness, unaided or {})


def _plan(
    held: Holdings,
    rules: UpkeepPolicy,
    bounds: Bounds,
    now: float,
    likeness: Likeness | None,
    unaided: Mapping[str, Unaided],
) -> EvictionPlan:
    is_dead = held.expires_at <= now
    alive = _rows(held, np.flatnonzero(~is_dead))
    is_new = alive.created_at > now - rules.keep_new_s
    values = demand(alive, now, rules.offload_decay)
    if likeness is None:
        values = values * reliability(alive)
    else:
        needed = values * need(alive.ids, unaided, likeness)
        values = added_worth(needed, reliability(alive), alive.n_bytes, likeness, is_new)
    kept = keep_within(values, alive.n_bytes, alive.writers, is_new, bounds)
    gone = _from_least(values, alive.n_bytes, ~kept.is_kept)
    best = float(values[kept.is_kept].sum()) + kept.missed
    expired_bytes = int(held.n_bytes[is_dead].sum())
    return EvictionPlan(
        made_at=now,
        ids=tuple(held.ids[row] for row in np.flatnonzero(is_dead)) + tuple(alive.ids[row] for row in gone),
        n_expired=int(is_dead.sum()),
        n_examples=len(held.ids),
        n_new=int(is_new.sum()),
        bytes_before=int(held.n_bytes.sum()),
        bytes_after=int(alive.n_bytes[kept.is_kept].sum()),
        budget_bytes=rules.max_bytes,
        dropped_bytes={"expired": expired_bytes, "writer_share": kept.writers_bytes, "max_bytes": kept.all_bytes},
        is_over=kept.is_over,
        value=float(values.sum()),
        value_lost=float(values[gone].sum()),
        gap=kept.missed / best if best > 0 else 0.0,
        is_compared=likeness is not None,
    )


def _from_least(values: Vector, weights: NDArray[np.int64], is_gone: NDArray[np.bool_]) -> NDArray[np.int64]:
    gone = np.flatnonzero(is_gone)
    return gone[np.argsort(values[gone] / weights[gone], kind="stable")]


async def act(store: Examples, plan: EvictionPlan, lease: Lease) -> AsyncIterator[int]:
    """Drop what was planned, batch by batch; yields how many of each batch were still there.

    It may end at any point and be done again: what is gone is gone, and the next plan says what is left to do.

    Raises:
        LeaseLost: somebody else does upkeep by now; the batches before have gone.
        StoreError: the store cannot be reached.
    """
    for start in range(0, len(plan.ids), _BATCH):
        yield await store.remove(plan.ids[start : start + _BATCH], lease)


async def _holdings(store: Examples) -> Holdings:
    """All examples, newest first, so that of equals the older one goes. Ids begin with the time of writing."""
    pages: list[Holdings] = []
    seen: set[str] = set()
    cursor = ""
    while True:
        page = await store.holdings(cursor, _PAGE)
        fresh = [row for row, one in enumerate(page.holdings.ids) if one not in seen]  # a page may show one again
        seen.update(page.holdings.ids)
        pages.append(_rows(page.holdings, np.array(fresh, dtype=np.int64)))
        cursor = page.cursor
        if not cursor:
            return await asyncio.to_thread(_joined, pages)


def _joined(pages: Sequence[Holdings]) -> Holdings:
    ids = tuple(one for page in pages for one in page.ids)
    writers = tuple(one for page in pages for one in page.writers)
    joined = Holdings(ids, writers, *(np.concatenate([getattr(page, name) for page in pages]) for name in _COLUMNS))
    return _rows(joined, np.array(sorted(range(len(ids)), key=ids.__getitem__, reverse=True), dtype=np.int64))


def _rows(held: Holdings, rows: NDArray[np.int64]) -> Holdings:
    ids, writers = tuple(held.ids[row] for row in rows), tuple(held.writers[row] for row in rows)
    return Holdings(ids, writers, *(getattr(held, name)[rows] for name in _COLUMNS))
