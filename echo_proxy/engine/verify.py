"""Which of the guessed tokens does the model take? Exactly those that it would have written itself, or nearly those.

Exact: at the newest token's row the sequence's own sampler draws the next token; while a draft has it, the walk goes on
at its row. Each written token is drawn once, by the same sampler from the same logits in the same order as without
drafts, so the text is the same, greedy or sampled. As far as the logits are: llama.cpp rounds a little differently when
it computes more rows at once, be they drafts or other requests, which can turn a choice between two equals.

Relaxed (Big Little Decoder, Kim et al. 2023, https://arxiv.org/abs/2302.07863): a drafted token stays while the model
finds it likely enough; the first one that is not gives way to the model's own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from echo_proxy.engine.runner import Draft, Logits, Sampler, Verdict
from echo_proxy.engine.tree import DraftTree


@dataclass(frozen=True, slots=True)
class Verified:
    """What the model made of a tree of drafts."""

    tokens: tuple[int, ...]
    """To be written, in order: the accepted ones and one more of the model's own, unless an accepted one ends the
    answer."""
    rows: tuple[int, ...]
    """Per token, the row of the decode whose logits it came from."""
    n_accepted: int
    """Drafted tokens among them, an end included; so many cells after the newest token's are right."""
    row: int
    """The tree's row of the last accepted token; 0 = none was."""
    looked_at: tuple[int, ...]
    """The tokens that were compared with the drafts, along the way: the drawn ones in exact acceptance, the drafted
    ones in relaxed acceptance."""
    agreed: tuple[bool, ...]
    """Per token looked at, whether draft and model were of one mind: the drawn token was drafted, or the drafted one is
    the model's likeliest."""


@dataclass(slots=True)
class _Walk:
    """A way down the tree."""

    tree: DraftTree
    row: int = 0
    tokens: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    looked_at: list[int] = field(default_factory=list)
    agreed: list[bool] = field(default_factory=list)
    n_accepted: int = 0

    def look(self, token: int, agreed: bool) -> None:
        """Note a comparison."""
        self.looked_at.append(token)
        self.agreed.append(agreed)

    def write(self, token: int, at: int) -> bool:
        """Add a token that was chosen at a row of the decode; returns whether it was drafted."""
        self.tokens.append(token)
        self.rows.append(at)
        child = self.tree.child(self.row, token)
        if child is None:
            return False
        self.row = child
        self.n_accepted += 1
        return True

    def end(self) -> Verified:
        """The result."""
        return Verified(
            tuple(self.tokens), tuple(self.rows), self.n_accepted, self.row, tuple(self.looked_at), tuple(self.agreed)
        )


def verify(tree: DraftTree, first_row: int, sampler: Sampler, is_end: Callable[[int], bool]) -> Verified:
    """The tokens that the model writes without the drafts, as far as they have been computed.

    Args:
        tree: as it was decoded.
        first_row: where the tree's rows begin in the decode.
        sampler: the sequence's own; it remembers all tokens that are returned.
        is_end: whether the answer ends with a token.
    """
    walk = _Walk(tree)
    while True:
        at = first_row + walk.row
        guesses = tree.children[walk.row]
        token = sampler.draw(at)
        if guesses:
            walk.look(token, token in guesses)
        if not walk.write(token, at) or is_end(token):
            return walk.end()


def verify_relaxed(
    tree: DraftTree,
    first_row: int,
    sampler: Sampler,
    logits: Callable[[int], Logits],
    rollback: float,
    is_end: Callable[[int], bool],
) -> Verified:
    """The drafted tokens until one has -log p > rollback, and then the model's own.

    It looks at the model's bare probabilities: for answers whose sampler forbids tokens use `verify`, see
    `co_decode.may_relax`.

    Args:
        tree: as it was decoded.
        first_row: where the tree's rows begin in the decode.
        sampler: the sequence's own; it remembers all tokens that are returned.
        logits: of a row of the decode.
        rollback: in nats, at least 0; with 0 the text is the model's own.
        is_end: whether the answer ends with a token.
    """
    walk = _Walk(tree)
    while True:
        at = first_row + walk.row
        token = _tolerated(walk, logits(at), rollback) if tree.children[walk.row] else None
        if token is None:
            # What the sampler draws may be the refused token after all; then the rows behind it are right.
            token = sampler.draw(at)
        else:
            sampler.accept(token)
        if not walk.write(token, at) or is_end(token):
            return walk.end()


def _tolerated(walk: _Walk, logits: Logits, rollback: float) -> int | None:
    """The likeliest drafted token at the walk's row, if it may stay."""
    guesses = walk.tree.children[walk.row]
    guess = max(guesses, key=lambda token: float(logits[token]))
    walk.look(guess, int(logits.argmax()) == guess)
    return guess if surprise(logits, guess) <= rollback else None


def surprise(logits: Logits, token: int) -> float:
    """-log p of a token, in nats, at least 0."""
    most = logits.max()
    return max(float(np.log(np.exp(logits - most).sum()) + most - logits[token]), 0.0)


def verdicts(key: int, drafts: Sequence[Draft], verified: Verified) -> tuple[Verdict, ...]:
    """What the drafters are told, for each draft of a tree in its order."""
    return tuple(_verdict(key, draft, verified) for draft in drafts)


def _verdict(key: int, draft: Draft, verified: Verified) -> Verdict:
    accepted = verified.tokens[: verified.n_accepted]
    n_same = 0
    for mine, theirs in zip(draft.tokens, accepted, strict=False):
        if mine != theirs:
            break
        n_same += 1
    agreed = verified.agreed[:n_same]
    # Its next token was looked at too, unless the walk ended before it.
    if n_same < len(draft.tokens) and n_same < len(verified.agreed):
        is_it = draft.tokens[n_same] == verified.looked_at[n_same]
        agreed = (*agreed, is_it and verified.agreed[n_same])
    return Verdict(key, draft, n_same, agreed)
