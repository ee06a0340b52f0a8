"""Which examples can stand in for one another, and what does each add to those that are worth more?

Ten ways to ask for the same thing leave ten examples. Each of them has been useful, yet nine are not missed when they
go. So the value of a set is the demand that it serves: every request is served by the examples of the set that are
near enough to it (a weighted coverage function, submodular), and what an example is worth is what it adds.
"""

import asyncio
import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from echo_proxy.online.names import names_in
from echo_proxy.policy import Utility
from echo_proxy.protocols import Examples
from echo_proxy.types import Example, Vector, Which
from echo_proxy.upkeep.unaided import Unaided

_PAGE = 100
"""Examples read at once: texts and vectors of more hold up a busy Redis beyond the deadlines of those it serves."""
_NEIGHBOURS = 32
"""Nearest examples, itself among them, that an example is compared with. guess, not yet measured"""
_CELL = 2_000
"""Larger groups are cut into cells of about so many, and neighbours are looked for in the same cell: the work grows
with n * cell. guess, not yet measured"""
_BLOCK = 500
"""Rows whose distances to a cell are in memory at once: some 20 MB."""
_MAX_DISTANCE = 0.6
"""Farther examples have nothing to do with each other; the default of retrieval."""
_LEAST = 0.3
"""Less useful ones are not shown: the default of selection."""
_SURE = 0.8
"""P(a request is served | an example that says the same is shown). The rest leaves some worth to a second one.
Chosen on seeds 1 and 2 of bench.keeping.eviction."""
_WIDTH = 0.45
"""Cosine distance over which it is believed that requests are equally hard. Chosen as above."""
_DOUBT = 0.3
"""Weight of the mean over all requests beside what is known of the near ones. Chosen as above."""
_SHARPNESS = 2.0
"""Means over neighbours are nearer to each other than the truth: raised to this power they are as far apart again.
Chosen as above."""

Rows = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Likeness:
    """Pairs of examples that are near each other, ordered by the first."""

    starts: NDArray[np.int64]
    """Pairs of example i are those from starts[i] up to starts[i + 1]; shape (n + 1,)."""
    others: Rows
    """Row of the other one, shape (n_pairs,), as are all that follow."""
    distance: NDArray[np.float32]
    relevance: NDArray[np.float32]
    """How likely the first one is about the same as the other one's request, [0, 1]."""


def added_worth(
    demand: Vector, reliability: Vector, weights: NDArray[np.int64], likeness: Likeness, is_forced: NDArray[np.bool_]
) -> Vector:
    """What each example adds to the forced ones and to those that bring more per byte, shape (n,), at least 0.

    The sum over any first ones is the demand that they serve together. Taken greedily per weight, lazily: what an
    example adds can only shrink. Sources: https://doi.org/10.1016/S0020-0190(99)00031-9 (budgeted coverage),
    https://doi.org/10.1007/BFb0006528 (lazy evaluation).

    Args:
        demand: requests to be expected for each example's own question, shape (n,), as are the other columns.
        reliability: P(the answer is good | it was given with this example), [0, 1].
        weights: bytes.
        likeness: of the n examples.
        is_forced: they are kept in any case.
    """
    helps = _helps(reliability, likeness)  # (n_pairs,)
    missing = demand.astype(np.float64)  # (n,), demand that is not served yet
    added = np.zeros(len(demand))  # (n,)

    def take(row: int) -> None:
        pairs = slice(likeness.starts[row], likeness.starts[row + 1])
        added[row] = missing[likeness.others[pairs]] @ helps[pairs]
        missing[likeness.others[pairs]] *= 1.0 - helps[pairs]

    for row in np.flatnonzero(is_forced).tolist():
        take(row)
    queue = [
        (-worth, row, 0)
        for row, worth in enumerate((_sums(missing[likeness.others] * helps, likeness) / weights).tolist())
        if not is_forced[row]
    ]
    heapq.heapify(queue)
    n_taken = 0
    while queue:
        _, row, seen = heapq.heappop(queue)
        pairs = slice(likeness.starts[row], likeness.starts[row + 1])
        worth = float(missing[likeness.others[pairs]] @ helps[pairs]) / float(weights[row])
        if seen < n_taken and queue and (-worth, row) > queue[0][:2]:
            heapq.heappush(queue, (-worth, row, n_taken))
            continue
        take(row)
        n_taken += 1
    return added


def _helps(reliability: Vector, likeness: Likeness) -> Vector:
    """P(the other one's request is served | the first one is kept), shape (n_pairs,)."""
    firsts = np.repeat(np.arange(len(reliability)), np.diff(likeness.starts))
    useful = likeness.relevance * reliability[firsts]
    helps: Vector = np.where(useful >= _LEAST, _SURE * useful, 0.0)
    return helps


def _sums(values: Vector, likeness: Likeness) -> Vector:
    """Over the pairs of each example, shape (n,)."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    sums: Vector = np.maximum(total[likeness.starts[1:]] - total[likeness.starts[:-1]], 0.0)
    return sums


def need(ids: Sequence[str], unaided: Mapping[str, Unaided], likeness: Likeness) -> Vector:
    """How much a request like the example's own needs help, [0, 1], shape (n,); 1 = always answered badly without.

    Of most examples nothing is known, so what is known of their neighbours counts, the less the farther they are.
    """
    known = [unaided.get(one, Unaided(0.0, 0.0)) for one in ids]
    n, good = np.array([one.n for one in known]), np.array([one.good for one in known])  # (n,)
    mean = good.sum() / n.sum() if n.sum() > 0 else 0.0
    near = np.exp(-((likeness.distance.astype(np.float64) / _WIDTH) ** 2))  # (n_pairs,)
    good_near = _sums(near * good[likeness.others], likeness)
    n_near = _sums(near * n[likeness.others], likeness)
    alone = (_DOUBT * mean + good_near) / (_DOUBT + n_near)
    needed: Vector = np.clip(1.0 - alone, 0.0, 1.0) ** _SHARPNESS
    return needed


# ------------------------------------------------------------------ which are near each other


@dataclass(slots=True)
class _Seen:
    """What is kept of examples to compare them: neither texts nor anything else that is long."""

    vectors: NDArray[np.float16]
    """Shape (n, dimensions)."""
    wanted: list[frozenset[str]]
    """Names in each request, without numbers."""
    held: list[frozenset[str]]
    """Names in each request and response."""
    groups: dict[tuple[str, str, str], list[int]]
    """Rows by scope, partition and reader: only these are found for the same requests. What is in quarantine stands in
    for nothing outside it."""


async def likeness_of(store: Examples, ids: Sequence[str], utility: Utility) -> Likeness:
    """Pairs of near examples; each is near itself at least. Raises StoreError.

    Args:
        ids: of the examples, in the order of rows; what the store does not show is near itself alone.
        utility: how relevance falls with distance and missing names.
    """
    seen = await _read(store, ids)
    # In a thread, as is the reading of pages: a proxy must go on serving.
    return await asyncio.to_thread(_compared, seen, utility, len(ids))


def _compared(seen: _Seen, utility: Utility, n: int) -> Likeness:
    found: list[tuple[Rows, Rows, NDArray[np.float32]]] = []
    for rows in seen.groups.values():
        for cell in _cells(np.array(rows, dtype=np.int32), seen.vectors):
            found += [_neighbours(part, cell, seen.vectors) for part in _parts(cell, _BLOCK)]
    return _paired(found, seen, utility, n)


async def _read(store: Examples, ids: Sequence[str]) -> _Seen:
    places = {one: row for row, one in enumerate(ids)}
    none: frozenset[str] = frozenset()
    seen = _Seen(np.zeros((0, 0), np.float16), [none] * len(ids), [none] * len(ids), defaultdict(list))
    cursor = ""
    while True:
        page = await store.find(Which(), cursor, _PAGE)
        await asyncio.to_thread(_note, page.examples, places, seen)
        cursor = page.cursor
        if not cursor:
            break
    for row in places.values():  # gone meanwhile: near nothing but itself
        seen.groups["", "", str(row)].append(row)
    return seen


def _note(examples: Sequence[Example], places: dict[str, int], seen: _Seen) -> None:
    for example in examples:
        row = places.pop(example.id, None)  # once: a page may show it again
        if row is None:
            continue
        if not seen.vectors.size:
            seen.vectors = np.zeros((len(seen.wanted), len(example.vector)), np.float16)
        seen.vectors[row] = example.vector
        asked = names_in(example.request)
        seen.wanted[row] = frozenset(one for one in asked if not any(c.isdigit() for c in one))
        seen.held[row] = asked | names_in(example.response)
        seen.groups[example.scope, example.partition, example.reader].append(row)


def _cells(rows: Rows, vectors: NDArray[np.float16]) -> list[Rows]:
    """The rows, cut so that near ones mostly stay together."""
    rows = np.sort(rows)
    if len(rows) <= 2 * _CELL:
        return [rows]
    centres = vectors[rows[::_CELL]].astype(np.float32)  # (n_cells, dimensions)
    nearest = np.concatenate(
        [np.argmax(vectors[part].astype(np.float32) @ centres.T, axis=1) for part in _parts(rows, _CELL)]
    )
    cells = [rows[nearest == place] for place in range(len(centres))]
    return [part for cell in cells for part in _parts(cell, 2 * _CELL)]


def _parts(rows: Rows, size: int) -> list[Rows]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _neighbours(asked: Rows, cell: Rows, vectors: NDArray[np.float16]) -> tuple[Rows, Rows, NDArray[np.float32]]:
    """Who of a cell would be found for the requests of some of it: rows asked, rows found, their distances."""
    taken = vectors[cell].astype(np.float32)
    distance = np.clip(1.0 - vectors[asked].astype(np.float32) @ taken.T, 0.0, 2.0)  # (n_asked, n_cell)
    distance[asked[:, None] == cell[None, :]] = -1.0  # of many that are equally near, itself must be among the nearest
    k = min(_NEIGHBOURS, len(cell))
    places = np.argpartition(distance, k - 1, axis=1)[:, :k]
    near = np.maximum(np.take_along_axis(distance, places, axis=1), 0.0)
    is_near = near <= _MAX_DISTANCE
    return np.repeat(asked[:, None], k, axis=1)[is_near], cell[places][is_near], near[is_near]


def _paired(found: Sequence[tuple[Rows, Rows, NDArray[np.float32]]], seen: _Seen, utility: Utility, n: int) -> Likeness:
    """By the one that helps."""
    none = np.zeros(0, np.int32)
    found = [(none, none, np.zeros(0, np.float32)), *found]  # there may be no example at all
    asked, first, distance = (np.concatenate([one[column] for one in found]) for column in range(3))
    order = np.argsort(first, kind="stable")
    asked, first, distance = asked[order], first[order], distance[order]
    starts = np.concatenate([[0], np.cumsum(np.bincount(first, minlength=n))])
    is_missing = np.fromiter(
        (not seen.wanted[other] <= seen.held[one] for one, other in zip(first.tolist(), asked.tolist(), strict=True)),
        dtype=bool,
        count=len(first),
    )
    steps = np.minimum((distance - utility.half_distance) / utility.width, 80.0)  # beyond, float32 overflows
    near = 1.0 / (1.0 + np.exp(steps))
    relevance = np.where(is_missing, utility.missing_names_factor * near, near).astype(np.float32)
    return Likeness(starts.astype(np.int64), asked, distance, relevance)
