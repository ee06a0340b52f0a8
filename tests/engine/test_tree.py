from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.engine.runner import Run
from echo_proxy.engine.tree import DraftTree, lend_cells, plan_tree, settle_cells, take_back
from tests.engine.runner_fake import FakeRunner

DRAFTS = st.lists(st.lists(st.integers(0, 3), max_size=5).map(tuple), max_size=5)


class At:
    """Somewhere in a tree."""

    def __init__(self, row: int) -> None:
        self.row = row


def read_prompt(prompt: Sequence[int]) -> FakeRunner:
    """A runner whose seat 0 holds the prompt."""
    runner = FakeRunner(n_seats=6)
    if prompt:
        runner.decode([Run(tuple(prompt), 0, (0,), 0)])
    return runner


def path(tree: DraftTree, row: int) -> list[int]:
    """The drafted tokens down to a row."""
    tokens: list[int] = []
    while row:
        tokens.insert(0, tree.tokens[row])
        row = tree.parents[row]
    return tokens


def test_one_draft_is_one_run() -> None:
    """A single guess needs no seat but the sequence's own."""
    tree = plan_tree(9, 5, 2, (3, 4), [(1, 2, 3)])

    assert tree.runs == (Run((9, 1, 2, 3), 5, (2,), 4),)
    assert (tree.main, tree.spares, tree.n_drafted) == (2, (), 3)


def test_no_draft_is_the_newest_token() -> None:
    """Without guesses the tree is what an engine computes anyway."""
    tree = plan_tree(9, 0, 2, (), [])

    assert tree.runs == (Run((9,), 0, (2,), 1),)
    assert tree.child(0, 1) is None


def test_shared_beginnings_are_computed_once() -> None:
    """Rows belong to all seats whose drafts pass through them."""
    tree = plan_tree(9, 5, 2, (3, 4), [(1, 2, 3), (1, 7), (1, 7, 8), (6,)])

    assert tree.runs == (
        Run((9,), 5, (2, 3, 4), 1),
        Run((1,), 6, (2, 3), 1),
        Run((2, 3), 7, (2,), 2),
        Run((7, 8), 7, (3,), 2),
        Run((6,), 6, (4,), 1),
    )
    assert tree.child(0, 6) == 6


def test_drafts_beyond_the_seats_are_left_out() -> None:
    """Each draft beside the first takes a spare seat; the likeliest come first."""
    assert plan_tree(9, 5, 2, (3,), [(1,), (2,), (4,)]).tokens == (9, 1, 2)


@given(DRAFTS, st.integers(0, 4), st.integers(0, 4))
def test_every_tree_is_legal_and_right(drafts: list[tuple[int, ...]], n_spares: int, start: int) -> None:
    """Whatever is guessed, the runner takes the rows, and each row's logits are those of its own text."""
    prompt = list(range(10, 10 + start))
    runner = read_prompt(prompt)
    tree = plan_tree(9, start, 0, range(1, 1 + n_spares), drafts)
    lend_cells(runner, tree)
    runner.decode(tree.runs)

    for row in range(tree.n_rows):
        assert int(runner.logits(row).argmax()) == runner.expected([*prompt, 9, *path(tree, row)])
    if len(set(drafts)) <= n_spares + 1:
        assert all(tuple(draft[:i]) in {tuple(path(tree, r)) for r in range(tree.n_rows)}
                   for draft in drafts for i in range(len(draft) + 1))  # fmt: skip


@given(DRAFTS, st.data())
def test_cells_are_settled(drafts: list[tuple[int, ...]], data: st.DataObject) -> None:
    """Wherever the walk ends, the main seat holds the accepted text, the spare ones nothing, and no cell is lost."""
    runner = read_prompt([10, 11])
    tree = plan_tree(9, 2, 0, (1, 2), drafts)
    row = data.draw(st.integers(0, tree.n_rows - 1))
    lend_cells(runner, tree)
    runner.decode(tree.runs)
    settle_cells(runner, tree, At(row))

    assert runner.tokens(0) == [10, 11, 9, *path(tree, row)]
    assert runner.n_used == len(runner.tokens(0))
    assert [runner.tokens(seat) for seat in (1, 2)] == [[], []]


def test_lent_cells_come_back_without_a_decode() -> None:
    """A decode that failed leaves the spare seats to be emptied."""
    runner = read_prompt([10, 11])
    tree = plan_tree(9, 2, 0, (1,), [(1,), (2,)])
    lend_cells(runner, tree)
    lent = runner.tokens(1)
    take_back(runner, tree)

    assert (lent, runner.tokens(1)) == ([10, 11], [])


def test_a_beginning_gives_way_to_the_longer_draft() -> None:
    """A guess that goes on where another one ends replaces it, wherever it comes."""
    assert plan_tree(9, 0, 0, (), [(1,), (1, 2)]).tokens == (9, 1, 2)
