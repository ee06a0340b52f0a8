import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.engine.radix import TOKEN_BYTES, Node, Radix, n_common, pack

texts = st.lists(st.integers(0, 2), min_size=1, max_size=12)
steps = st.lists(st.tuples(st.integers(0, 5), st.none() | texts, st.integers(0, 1)), max_size=40)


def common(one: list[int], other: list[int]) -> int:
    n = 0
    while n < min(len(one), len(other)) and one[n] == other[n]:
        n += 1
    return n


def nodes(node: Node) -> list[Node]:
    return [node, *(below for child in node.children.values() for below in nodes(child))]


def grown(history: list[tuple[int, list[int] | None, int]]) -> tuple[Radix, dict[int, list[int]]]:
    tree, held = Radix(), dict[int, list[int]]()
    for holder, text, n_uses in history:
        if text is not None:
            tree.hold(holder, pack(text), n_uses)
            held[holder] = text
        elif held.pop(holder, None) is not None:
            tree.leave(holder)
    return tree, held


@given(texts, texts, texts)
def test_common_beginnings_are_counted_in_tokens(one: list[int], other: list[int], before: list[int]) -> None:
    """As many tokens as are the same from the front, wherever the other text starts in its bytes."""
    n = n_common(pack(one), pack(before + other), len(before) * TOKEN_BYTES)

    assert n == common(one, other)


@given(steps, texts)
def test_finds_the_longest_known_beginning(history: list[tuple[int, list[int] | None, int]], text: list[int]) -> None:
    """Whatever came and went, a text is found as far as any holder has it."""
    tree, held = grown(history)

    node, n_known = tree.find(pack(text))

    assert n_known == max((common(text, other) for other in held.values()), default=0)
    assert n_known <= node.end
    assert node is tree.root or n_known > node.start


@given(steps)
def test_nodes_know_who_passes_and_who_ends(history: list[tuple[int, list[int] | None, int]]) -> None:
    """Each node's holders are those whose text begins with its path, its enders those whose text it is."""
    tree, held = grown(history)

    for node in nodes(tree.root)[1:]:
        path = b"".join(reversed([one.run for one in node.upwards()]))
        assert node.end == len(path) // TOKEN_BYTES
        assert node.holders == {holder for holder, text in held.items() if pack(text).startswith(path)}
        assert node.enders == {holder for holder, text in held.items() if pack(text) == path}
        assert node.holders
        assert node.parent is not None
        assert node.n_uses <= node.parent.n_uses or node.parent is tree.root
    assert set(tree.leaves) == set(held)


@given(steps)
def test_the_tree_stays_small(history: list[tuple[int, list[int] | None, int]]) -> None:
    """A node stands where texts part or end, or where its uses differ much from what follows; nothing else is left."""
    tree, held = grown(history)
    n_uses = 1 + sum(n for _, _, n in history)

    assert len(nodes(tree.root)) <= 1 + 2 * len(held) * (1 + n_uses.bit_length())


def test_uses_stay_with_the_shared_beginning() -> None:
    """What two prompts began with counts two uses, even when one of them has left and the other has grown."""
    tree = Radix()
    tree.hold(1, pack([7, 7, 7, 1]), n_uses=1)
    tree.hold(2, pack([7, 7, 7, 2]), n_uses=1)
    tree.hold(1, pack([7, 7, 7, 1, 5, 5]))

    tree.leave(2)

    uses = [(node.end, node.n_uses) for node in tree.leaves[1].upwards()]
    assert uses == [(6, 0), (4, 1), (3, 2)]


def test_an_empty_text_is_no_text() -> None:
    """Somebody without tokens is refused, as nobody could be found by it."""
    with pytest.raises(ValueError, match="at least one token"):
        Radix().hold(1, b"")
