"""Can the log answer the question at all?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from echo_proxy.offline.off_policy import Draws, Outcomes, effective_size
from echo_proxy.types import Vector

_LEAST_DECISIONS = 50
"""Below it no interval means what it says. Rule of thumb"""
_LEAST_EFFECTIVE = 50.0
"""The same for the effective sample size. Measured: bench/README.md"""
_MOST_UNSEEN = 0.02
"""Share of the policy's draws that may go to what the log never did: one new arm with the usual floor."""
_RARE = 10
"""Draws of an arm below which the log says next to nothing about it."""
_MOST_RARE = 0.05
"""Share of the policy's draws that may go to such arms."""
_MEAN_ERRORS = 4.0
"""Standard errors by which the mean weight may differ from one, which it is when the propensities are right."""
_ROUNDING = 1e-3
"""Probabilities are stored as they were; a change of float format moves them less."""


@dataclass(frozen=True, slots=True)
class Support:
    """How far a log carries the evaluation of one policy."""

    n: int
    """Decisions."""
    n_known: int
    """Of them with a known outcome."""
    effective_size: float
    """Decisions that the weighted ones with a known outcome are worth."""
    mean_weight: float
    """About 1 when all is well."""
    max_weight: float
    share_clipped: float
    """Of the decisions, because their weight was above the limit."""
    clipped_mass: float
    """What clipping takes from the mean weight: the most by which a measure in [0, 1] is underestimated."""
    unseen_share: float
    """Of the policy's draws, to arms that the log could not draw."""
    rare_share: float
    """Of the policy's draws, to arms that the log hardly drew."""
    problems: tuple[str, ...]
    """Why the log cannot answer, in words; empty when it can."""


def support_of(
    draws: Draws,
    outcomes: Outcomes,
    arms: Sequence[str],
    unseen: Mapping[str, float],
    clip: float | None = None,
) -> Support:
    """How far the log carries the evaluation of the policy whose draws these are.

    Args:
        draws: of the log; the target speaks of the arms that the log could draw.
        outcomes: of the measure that decides.
        arms: names of the arms, length n_arms.
        unseen: share of the policy's draws that would go to arms which the log could not draw, by name.
        clip: limit of the weights.
    """
    ratios, known = draws.ratios(), outcomes.counts > 0
    excess = ratios - draws.ratios(clip)
    counts = np.bincount(draws.drawn[known], minlength=len(arms))  # (n_arms,)
    shares = draws.target.mean(axis=0)  # (n_arms,)
    rare = {arm: float(share) for arm, count, share in zip(arms, counts, shares, strict=True) if count < _RARE}
    made = Support(
        n=len(ratios),
        n_known=int(known.sum()),
        effective_size=effective_size(draws.ratios(clip) * outcomes.counts),
        mean_weight=float(ratios.mean()),
        max_weight=float(ratios.max()),
        share_clipped=float((excess > 0).mean()),
        clipped_mass=float(excess.mean()),
        unseen_share=sum(unseen.values()),
        rare_share=sum(rare.values()),
        problems=(),
    )
    problems = (*_too_little(made), *_never_drawn(made, unseen), *_hardly_drawn(made, rare), *_odd_weights(ratios))
    return replace(made, problems=problems)


def _too_little(made: Support) -> Iterator[str]:
    if made.n_known < _LEAST_DECISIONS:
        yield f"expected at least {_LEAST_DECISIONS} decisions with a known outcome, got {made.n_known} of {made.n}"
    elif made.effective_size < _LEAST_EFFECTIVE:
        yield (
            f"the policy draws so differently from the log that {made.n_known} known outcomes are worth "
            f"{made.effective_size:.0f} (at least {_LEAST_EFFECTIVE:.0f} are needed)"
        )


def _never_drawn(made: Support, unseen: Mapping[str, float]) -> Iterator[str]:
    if made.unseen_share > _MOST_UNSEEN:
        yield f"{made.unseen_share:.0%} of its draws go to what the log could not draw: {_named(unseen)}"


def _hardly_drawn(made: Support, rare: Mapping[str, float]) -> Iterator[str]:
    if made.rare_share > _MOST_RARE:
        yield (
            f"{made.rare_share:.0%} of its draws go to arms of which the log knows fewer than {_RARE} outcomes: "
            f"{_named(rare)}"
        )


def _odd_weights(ratios: Vector) -> Iterator[str]:
    """Their mean is one by construction, unless what has a high weight could not be drawn or was not met."""
    mean, error = float(ratios.mean()), float(ratios.std()) / np.sqrt(len(ratios))
    if abs(mean - 1) > max(_MEAN_ERRORS * error, _ROUNDING):
        yield (
            f"the weights of the decisions should be 1 on average, got {mean:.2f}: the log left nothing to chance "
            "where the policy differs, or its propensities are wrong"
        )


def _named(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in sorted(shares.items(), key=lambda one: -one[1]))
