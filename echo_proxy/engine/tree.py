"""How are several guesses of one sequence computed in one decode? As a tree of rows, whose branches share beginnings.

    pending ── a ── b ── c        seat 4: the first draft
                 └─ d             seat 7: another one, which shares `pending` and `a`

Every row belongs to the seats whose drafts pass through it, so no token is computed twice. llama.cpp takes that under
three conditions (llama_batch_allocr::init): seats that meet in a row hold the same cells before it, the positions of
each seat go up one by one, and no seat leaves the company of another one and comes back. Walking the tree depth first,
the main seat's draft first, keeps the last two; `lend_cells` sees to the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from echo_proxy.engine.runner import Run, Runner


@dataclass(frozen=True, slots=True)
class DraftTree:
    """The newest token of a sequence and its drafts. Rows are counted from 0, the newest token's; see `plan_tree`."""

    start: int
    """Position of the newest token."""
    tokens: tuple[int, ...]
    """Per row."""
    seats: tuple[tuple[int, ...], ...]
    """Per row, the main seat first where it is among them."""
    depths: tuple[int, ...]
    """Per row, how many tokens after the newest one."""
    parents: tuple[int, ...]
    """Per row, the row before it; the newest token's is its own."""
    children: tuple[Mapping[int, int], ...]
    """Per row, the row of each drafted token after it; the first draft's comes first."""
    runs: tuple[Run, ...]
    """What is to be decoded; all logits are wanted."""

    @property
    def n_rows(self) -> int:
        """The newest token's included."""
        return len(self.tokens)

    @property
    def n_drafted(self) -> int:
        """Rows that are guesses."""
        return len(self.tokens) - 1

    @property
    def main(self) -> int:
        """The seat that the sequence has anyway."""
        return self.seats[0][0]

    @property
    def spares(self) -> tuple[int, ...]:
        """The seats that it uses beside it."""
        return self.seats[0][1:]

    def child(self, row: int, token: int) -> int | None:
        """The row of that token after this row; None when nobody guessed it."""
        return self.children[row].get(token)


@dataclass(slots=True)
class _Branches:
    """A tree that is being built: where each token after a row is, and which seats pass through each row."""

    tokens: list[int]
    seats: list[list[int]]
    depths: list[int] = field(default_factory=lambda: [0])
    parents: list[int] = field(default_factory=lambda: [0])
    children: list[dict[int, int]] = field(default_factory=lambda: [{}])

    def grow(self, seat: int, draft: Sequence[int]) -> None:
        """Lay a draft into the tree; what it shares with earlier ones is there already."""
        row = 0
        for depth, token in enumerate(draft, start=1):
            child = self.children[row].get(token)
            if child is None:
                child = self.children[row][token] = len(self.tokens)
                self.tokens.append(token)
                self.seats.append([])
                self.depths.append(depth)
                self.parents.append(row)
                self.children.append({})
            row = child
            self.seats[row].append(seat)


def plan_tree(
    pending: int, start: int, seat: int, spare_seats: Sequence[int], drafts: Sequence[Sequence[int]]
) -> DraftTree:
    """The rows that check all drafts at once.

    Args:
        pending: the sequence's newest token, which the model has not read yet.
        start: its position; the main seat holds all before it.
        seat: the sequence's own.
        spare_seats: empty ones; each serves one draft beside the first. Drafts beyond that are left out.
        drafts: guesses of the tokens after `pending`, the likeliest first. One that is the beginning of another needs
            no rows of its own.
    """
    kept = _without_beginnings(drafts)[: 1 + len(spare_seats)]
    used = [seat, *spare_seats[: max(len(kept) - 1, 0)]]
    # New rows are appended draft by draft, which is depth first: a draft leaves the tree once and never comes back.
    branches = _Branches([pending], [used])
    for one, draft in zip(used, kept, strict=False):
        branches.grow(one, draft)
    seats = tuple(map(tuple, branches.seats))
    tokens, depths = tuple(branches.tokens), tuple(branches.depths)
    runs = _runs(start, tokens, seats, depths)
    return DraftTree(start, tokens, seats, depths, tuple(branches.parents), tuple(branches.children), runs)


def _without_beginnings(drafts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    kept: list[tuple[int, ...]] = []
    for draft in map(tuple, drafts):
        if not draft or any(one[: len(draft)] == draft for one in kept):
            continue
        beginnings = [i for i, one in enumerate(kept) if draft[: len(one)] == one]
        if beginnings:
            kept[beginnings[0]] = draft
        else:
            kept.append(draft)
    return kept


def _runs(
    start: int, tokens: Sequence[int], seats: Sequence[tuple[int, ...]], depths: Sequence[int]
) -> tuple[Run, ...]:
    """Neighbouring rows of the same seats are one run."""
    runs: list[Run] = []
    first = 0
    for row in range(1, len(tokens) + 1):
        if row == len(tokens) or seats[row] != seats[first] or depths[row] != depths[row - 1] + 1:
            runs.append(Run(tokens[first:row], start + depths[first], seats[first], row - first))
            first = row
    return tuple(runs)


def lend_cells(runner: Runner, tree: DraftTree) -> None:
    """Let the spare seats share everything before the newest token; to be done before the decode."""
    for spare in tree.spares:
        if tree.start:
            runner.share(tree.main, spare, 0, tree.start)


class Reached(Protocol):
    """How far a sequence got in its tree."""

    @property
    def row(self) -> int:
        """The tree's row of the last accepted token; 0 = none was."""
        ...


def settle_cells(runner: Runner, tree: DraftTree, reached: Reached) -> None:
    """After the decode: the main seat holds the newest token and the accepted ones, the spare seats nothing."""
    if not tree.n_drafted:
        return
    row = reached.row
    end = tree.start + 1 + tree.depths[row]
    if tree.main in tree.seats[row]:
        if end < tree.start + 1 + _main_depth(tree):
            runner.cut(tree.main, end)
    else:
        shared = row
        while tree.main not in tree.seats[shared]:
            shared = tree.parents[shared]
        parting = tree.start + 1 + tree.depths[shared]
        runner.cut(tree.main, parting)
        runner.share(tree.seats[row][0], tree.main, parting, end)
    for spare in tree.spares:
        runner.cut(spare, 0)


def _main_depth(tree: DraftTree) -> int:
    return max(depth for depth, seats in zip(tree.depths, tree.seats, strict=True) if tree.main in seats)


def take_back(runner: Runner, tree: DraftTree) -> None:
    """Empty the spare seats without a decode, as when it failed."""
    for spare in tree.spares:
        runner.cut(spare, 0)
