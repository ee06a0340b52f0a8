"""What does the utility model see of a request and an example?"""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from echo_proxy.learning.utility import pooled_outcomes
from echo_proxy.types import Candidate, Names, Request, Vector

PAIR_FEATURES = (
    "prior",
    "distance",
    "gap",
    "margin",
    "request_length",
    "example_length",
    "length_ratio",
    "teacher_quality",
    "age",
    "uses",
    "failure",
    "overlap",
    "overlap_gap",
    "coverage",
    "coverage_gap",
    "names_none",
    "names_numbers",
    "names_missing",
    "agreement",
)
"""Names of the features of a pair, in their order."""
ALONE_FEATURES = ("length", "names_none", "names_numbers", "names_missing", "distance", "overlap")
"""Names of the features of a request that is shown nothing, in their order."""
VERSION = 1
"""Raised whenever a feature changes its meaning; trials of older versions are left alone."""
PAIR_SCHEMA = f"pair-{VERSION}:{len(PAIR_FEATURES)}"
"""Of trials of an example."""
ALONE_SCHEMA = f"alone-{VERSION}:{len(ALONE_FEATURES)}"
"""Of the trial of no example."""

_NAMES = (Names.NONE, Names.NUMBERS, Names.MISSING)
_OF_ALONE = tuple(
    PAIR_FEATURES.index(name) for name in ("names_none", "names_numbers", "names_missing", "distance", "overlap")
)
_WORD = re.compile(r"\w+")
_READ = 2_000
"""Characters of a text whose words are compared: this runs on the event loop."""
_SMALLEST = 1e-3
"""Probabilities are kept so far away from 0 and 1 before their logarithms are taken."""


def pair_features(request: Request, candidates: Sequence[Candidate], prior: Vector) -> Vector:
    """Features of each pair, about [-4, 4], shape (n_candidates, len(PAIR_FEATURES)).

    Args:
        request: what is asked.
        candidates: at least one.
        prior: utility of each before anything was learned, shape (n_candidates,), in [0, 1].
    """
    distance = np.array([one.distance for one in candidates], dtype=np.float64)
    answers = _answers(candidates)
    is_same = answers[:, None] == answers[None, :]  # (n_candidates, n_candidates)
    asked = _words(request.text[:_READ])
    shares = np.array([_shared(asked, one) for one in candidates])  # (n_candidates, 2)
    overlap, coverage = shares[:, 0], shares[:, 1]
    outcomes = pooled_outcomes(candidates)  # (n_candidates, 2)
    uses = np.maximum(outcomes[:, 0], 0.0)
    lengths = np.log1p([len(one.example.request) for one in candidates])
    length = np.log1p(len(request.text))
    others = _best_others(np.array([-distance, overlap, coverage]), is_same)  # (3, n_candidates)
    ages = [max(request.received_at - one.example.created_at, 0.0) for one in candidates]
    columns = (
        logit(prior),
        2 * distance,
        5 * (distance - distance.min()),
        5 * (np.maximum(others[0], -1.0) + distance),
        np.full(distance.size, length / 10),
        lengths / 10,
        length - lengths,
        np.array([one.example.quality for one in candidates]),
        np.log1p(ages) / 15,
        np.log1p(uses) / 4,
        np.maximum(uses - outcomes[:, 1], 0.0) / (uses + 2.0),
        overlap,
        overlap - np.maximum(others[1], 0.0),
        coverage,
        coverage - np.maximum(others[2], 0.0),
        *_names(candidates),
        (is_same.sum(axis=1) - 1) / max(distance.size - 1, 1),
    )
    return np.array(columns).T


def alone_features(request: Request, features: Vector) -> tuple[float, ...]:
    """Features of the request when it is shown nothing, shape (len(ALONE_FEATURES),).

    Args:
        request: what is asked.
        features: of its pairs with all candidates, nearest first, shape (n_candidates, len(PAIR_FEATURES)).
    """
    none, numbers, missing, distance, overlap = features[:, _OF_ALONE].T.tolist()
    return (
        float(np.log1p(len(request.text)) / 10),
        max(none),
        max(numbers),
        min(missing),
        min(distance),
        max(overlap),
    )


def logit(probabilities: Vector) -> Vector:
    """Log odds, shape unchanged, within about +-7."""
    kept = np.minimum(np.maximum(probabilities, _SMALLEST), 1 - _SMALLEST)
    odds: Vector = np.log(kept / (1 - kept))
    return odds


def _answers(candidates: Sequence[Candidate]) -> Vector:
    """A number per answer, the same for those that say the same, shape (n_candidates,)."""
    numbers: dict[str, int] = {}
    return np.array([float(numbers.setdefault(one.example.response, len(numbers))) for one in candidates])


def _best_others(values: Vector, is_same: Vector) -> Vector:
    """The highest of each row of values among candidates with another answer, -inf where none has; shape as values."""
    best: Vector = np.where(is_same, -np.inf, values[:, None, :]).max(axis=2)
    return best


def _names(candidates: Sequence[Candidate]) -> Vector:
    """One row per state but HELD, shape (3, n_candidates)."""
    states = [one.names for one in candidates]
    return np.array([[state is wanted for state in states] for wanted in _NAMES], dtype=np.float64)


@lru_cache(maxsize=4096)
def _words(text: str) -> frozenset[str]:
    """Its words in lower case. Remembered, because popular examples come again and again."""
    return frozenset(_WORD.findall(text.lower()))


def _shared(asked: frozenset[str], candidate: Candidate) -> tuple[float, float]:
    """Words that request and example's question share, of all that either has (Jaccard); and the share of the
    request's words that stand in the example's question or answer."""
    question = _words(candidate.example.request[:_READ])
    missing = asked - question
    shared = len(asked) - len(missing)
    held = len(asked) - len(missing - _words(candidate.example.response[:_READ]))
    return shared / max(len(asked) + len(question) - shared, 1), held / max(len(asked), 1)
