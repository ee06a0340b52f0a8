"""When is something else tried, to learn what an example is worth?

Without it nobody would ever see what becomes of an answer when its example is left out, or when one is taken that looks
worse. Every chance is known, so that what is learned can be weighted by it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from echo_proxy.policy import SelectionPolicy
from echo_proxy.types import Candidate, Rejection, Selection

_STREAM = 1
"""The generator of the same seed without it draws the arm: the two must not go together."""


@dataclass(frozen=True, slots=True)
class Draw:
    """A selection after chance had its say."""

    selection: Selection
    left_out: tuple[Candidate, ...] = ()
    """Chosen ones that were left out by chance."""
    chances: Mapping[str, float] = field(default_factory=dict)
    """P(it is among the chosen) of every example that is chosen or was left out, (0, 1]."""
    none_chance: float = 1.0
    """P(none is chosen) when none is, else P(some is)."""


def vary(made: Selection, n_most: int, rules: SelectionPolicy, seed: int | None) -> Draw:
    """With probability `explore` one chosen example is left out, or a rejected candidate takes its place.

    Both happen equally often where both can; each chosen example and each candidate is equally likely.

    Args:
        made: what is chosen without chance.
        n_most: 0 = nothing can be shown.
        seed: None = nothing is left to chance.
    """
    others = _that_fit(made, n_most, rules)
    explore = rules.explore if seed is not None and (made.chosen or others) else 0.0
    p_take = 0.0 if not others else 0.5 if made.chosen else 1.0
    rng = np.random.default_rng((seed or 0, _STREAM))
    if rng.random() >= explore:
        return _draw(made, made, explore, p_take, len(others))
    gone = made.chosen[int(rng.integers(len(made.chosen)))] if made.chosen else None
    taken = others[int(rng.integers(len(others)))] if rng.random() < p_take else None
    return _draw(made, _exchanged(made, gone, taken), explore, p_take, len(others))


def _that_fit(made: Selection, n_most: int, rules: SelectionPolicy) -> Sequence[Candidate]:
    """Rejected candidates that fit into the token budget in the place of any chosen one."""
    if not n_most:
        return ()
    sizes = [one.example.n_tokens for one in made.chosen]
    room = rules.max_tokens - sum(sizes) + min(sizes, default=0)
    return [one.candidate for one in made.rejected if one.candidate.example.n_tokens <= room]


def _exchanged(made: Selection, gone: Candidate | None, taken: Candidate | None) -> Selection:
    """The selection with one example in the place of another; None = nothing."""
    chosen = [taken if one is gone else one for one in made.chosen] if gone else [taken]
    rejected = [one for one in made.rejected if one.candidate is not taken]
    if gone:
        rejected.append(Rejection(gone, "explore"))
    return replace(made, chosen=tuple(one for one in chosen if one is not None), rejected=tuple(rejected))


def _draw(before: Selection, after: Selection, explore: float, p_take: float, n_others: int) -> Draw:
    n_chosen = len(before.chosen)
    chances = {one.example.id: explore * p_take / max(n_others, 1) for one in after.chosen}
    chances |= {one.example.id: 1 - explore / n_chosen for one in before.chosen}
    p_none = {0: 1 - explore, 1: explore * (1 - p_take)}.get(n_chosen, 0.0)
    kept = {one.example.id for one in after.chosen}
    return Draw(
        after,
        tuple(one for one in before.chosen if one.example.id not in kept),
        chances,
        1 - p_none if after.chosen else p_none,
    )
