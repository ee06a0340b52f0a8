"""From which utility on is an example worth showing? Several thresholds are tried on a share of the requests."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from echo_proxy.policy import SelectionPolicy
from echo_proxy.types import Lesson

_LEAST_WEIGHT = 30.0
"""Summed evidence weight that a threshold must have. # guess, not yet measured"""
_MARGIN = 1.0
"""Standard errors of the difference by which another one must be better. # guess, not yet measured"""


def threshold_for(decision_id: str, tuned: float | None, rules: SelectionPolicy) -> float:
    """The threshold of one decision: one on trial by the id's hash, else the best so far, else the policy's."""
    on_trial = _on_trial(decision_id, rules)
    if on_trial is not None:
        return on_trial
    return rules.min_utility if tuned is None else tuned


def _on_trial(decision_id: str, rules: SelectionPolicy) -> float | None:
    """The threshold that the decision tries; None when it tries none."""
    if not rules.thresholds:
        return None
    digest = hashlib.blake2b(decision_id.encode(), digest_size=16).digest()
    if int.from_bytes(digest[:8], "big") >= rules.threshold_share * 2**64:
        return None
    return rules.thresholds[int.from_bytes(digest[8:], "big") % len(rules.thresholds)]


@dataclass(frozen=True, slots=True)
class _Score:
    """What answers earned under one threshold."""

    weight: float
    mean: float
    variance: float
    """Of the mean."""


def tune_threshold(lessons: Sequence[Lesson], before: float | None, rules: SelectionPolicy) -> float | None:
    """The threshold that earned most in its trials; the one before unless another is clearly better.

    What counts is the reward, which knows what a dearer arm costs: by quality alone the best threshold would be the
    one under which the teacher answers everything. The policy's price on tokens is taken from it.
    """
    scores = _scores(lessons, rules)
    if not scores:
        return before if before in rules.thresholds else None
    held = rules.min_utility if before is None else before
    best = max(scores, key=lambda threshold: scores[threshold].mean)
    if held not in scores:
        # What is not on trial itself is left only for the best of all, once every one has been tried.
        return best if len(scores) == len(rules.thresholds) else before
    error = np.sqrt(scores[best].variance + scores[held].variance)
    is_better = scores[best].mean - scores[held].mean > _MARGIN * error
    return best if is_better else held


def _scores(lessons: Sequence[Lesson], rules: SelectionPolicy) -> dict[float, _Score]:
    """Of those with enough evidence. Only trials count: chance alone gave them their threshold."""
    seen: dict[float, list[tuple[float, float]]] = defaultdict(list)
    for lesson in lessons:
        threshold = _on_trial(lesson.decision_id, rules)
        if lesson.is_acted and threshold is not None and lesson.threshold == threshold:
            price = rules.token_cost * lesson.prompt_tokens / 1000
            seen[threshold].append((lesson.quality_weight, lesson.reward - price))
    scores = {threshold: _score(np.array(rows)) for threshold, rows in seen.items()}
    return {threshold: score for threshold, score in scores.items() if score.weight >= _LEAST_WEIGHT}


def _score(rows: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> _Score:
    """Of (weight, earned) per lesson, shape (n_lessons, 2)."""
    weights, earned = rows.T
    total = float(weights.sum())
    mean = float(weights @ earned) / total
    spread = float(weights @ (earned - mean) ** 2) / total + 1.0 / (4 * total)  # never quite certain
    return _Score(total, mean, spread * float(weights @ weights) / total**2)
