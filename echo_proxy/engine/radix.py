"""Who holds a text that begins like this one? Many texts by their common beginnings.

Texts are packed into bytes, four to a token, so that a run of tokens is compared in one memcmp, and a text is found
in time of its length, however many others there are.
"""

from array import array
from collections.abc import Iterator, Sequence

TOKEN_BYTES = 4


def pack(tokens: Sequence[int]) -> bytes:
    """The tokens as a key, four bytes each."""
    return array("i", tokens).tobytes()


def n_common(one: bytes, other: bytes, start: int = 0) -> int:
    """Tokens that `one` and the bytes of `other` from `start` on have in common at their beginnings."""
    low, high = 0, min(len(one), len(other) - start) // TOKEN_BYTES
    if other.startswith(one[: high * TOKEN_BYTES], start):
        return high
    while high - low > 1:  # the first `low` are the same, the first `high` are not
        middle = (low + high) // 2
        if other.startswith(one[low * TOKEN_BYTES : middle * TOKEN_BYTES], start + low * TOKEN_BYTES):
            low = middle
        else:
            high = middle
    return low


class Node:
    """A run of tokens that follows on its parent's."""

    __slots__ = ("children", "end", "enders", "holders", "n_uses", "parent", "run")

    def __init__(self, run: bytes, end: int, parent: "Node | None") -> None:
        self.run = run
        """Its tokens, packed; empty only for the root."""
        self.end = end
        """Tokens from the beginning of the text to its own end."""
        self.parent = parent
        self.children: dict[bytes, Node] = {}
        """By their first token."""
        self.holders: set[int] = set()
        """Whose text has all of this run."""
        self.enders: set[int] = set()
        """Those of them whose text ends with it."""
        self.n_uses = 0
        """How often a text with all of this run was asked for."""

    @property
    def start(self) -> int:
        """Tokens before it."""
        return self.end - len(self.run) // TOKEN_BYTES

    def upwards(self) -> "Iterator[Node]":
        """This node and those before it, without the root."""
        node: Node | None = self
        while node is not None and node.parent is not None:
            yield node
            node = node.parent


class Radix:
    """Texts, each held by a number; several holders may have the same text."""

    def __init__(self) -> None:
        self.root = Node(b"", 0, None)
        self.leaves: dict[int, Node] = {}
        """Where each holder's text ends."""

    def find(self, key: bytes) -> tuple[Node, int]:
        """The last node that has a token in common with this text, and how many tokens of the text are known: more
        than those before that node, unless it is the root, and at most `end`."""
        node, at = self.root, 0
        while (child := node.children.get(key[at : at + TOKEN_BYTES])) is not None:
            if not key.startswith(child.run, at):
                return child, at // TOKEN_BYTES + n_common(child.run, key, at)
            node, at = child, at + len(child.run)
        return node, at // TOKEN_BYTES

    def hold(self, holder: int, key: bytes, n_uses: int = 0) -> None:
        """The holder has this text from now on, in place of the one it had; what both begin with keeps its uses.

        Args:
            n_uses: added to every node of the text.
        """
        before, leaf = self.leaves.get(holder), self._leaf(key)
        if leaf is self.root:
            raise ValueError("expected a text with at least one token, got none")
        for node in leaf.upwards():
            node.holders.add(holder)
            node.n_uses += n_uses
        if before is not None:
            before.enders.discard(holder)
        leaf.enders.add(holder)
        self.leaves[holder] = leaf
        if before is not None and before is not leaf:
            self._leave(holder, before, set(leaf.upwards()))

    def leave(self, holder: int) -> None:
        """The holder has no text any more; runs that nobody holds are forgotten."""
        leaf = self.leaves.pop(holder)
        leaf.enders.discard(holder)
        self._leave(holder, leaf, set())

    def _leaf(self, key: bytes) -> Node:
        """The node where the text ends, made where there is none."""
        node, n_known = self.find(key)
        if n_known < node.end:
            node = self._split(node, n_known)
        rest = key[n_known * TOKEN_BYTES :]
        if not rest:
            return node
        leaf = Node(rest, len(key) // TOKEN_BYTES, node)
        node.children[rest[:TOKEN_BYTES]] = leaf
        return leaf

    def _split(self, node: Node, end: int) -> Node:
        """A new node for the run's tokens up to `end`; the old one keeps the rest, and those who end there."""
        assert node.parent is not None
        at = (end - node.start) * TOKEN_BYTES
        upper = Node(node.run[:at], end, node.parent)
        upper.holders, upper.n_uses = set(node.holders), node.n_uses
        node.parent.children[upper.run[:TOKEN_BYTES]] = upper
        node.run, node.parent = node.run[at:], upper
        upper.children[node.run[:TOKEN_BYTES]] = node
        return upper

    def _leave(self, holder: int, leaf: Node, staying: set[Node]) -> None:
        for node in list(leaf.upwards()):
            if node not in staying:
                node.holders.discard(holder)
            assert node.parent is not None
            if not node.holders:
                del node.parent.children[node.run[:TOKEN_BYTES]]
            else:
                _merge(node)


def _merge(node: Node) -> None:
    """One node for this and its only child, where nothing tells them apart any more.

    Runs that were used about equally often count as one, with the smaller number: else every text that ever branched
    off would leave a split behind.
    """
    assert node.parent is not None
    if len(node.children) != 1 or node.enders:
        return
    (child,) = node.children.values()
    if child.n_uses.bit_length() == node.n_uses.bit_length():
        child.run, child.parent = node.run + child.run, node.parent
        node.parent.children[child.run[:TOKEN_BYTES]] = child
