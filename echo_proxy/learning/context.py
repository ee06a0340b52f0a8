"""What does the bandit see of a request and of the examples chosen for it?"""

from functools import cache
from importlib.resources import files
from math import log1p

import numpy as np

from echo_proxy.learning.text_features import text_features
from echo_proxy.learning.text_measures import NAMES as TEXT_NAMES
from echo_proxy.learning.text_measures import measures
from echo_proxy.types import Candidate, Conditions, Context, Embedding, Names, Request, Selection, Vector

VERSION = 2
"""Raised whenever a feature changes its meaning; evidence of older versions is left alone."""
N_TOPICS = 24
"""Dimensions to which the embedding is reduced. Measured on the dev halves of ZeroEval and LLMRouter: 16, 24 and 32 are
alike, 64 and more are worse."""
OF_SELECTION = (
    "nearest",
    "best_utility",
    "mean_utility",
    "n_chosen",
    "teacher_quality",
    "agreement",
    "names_held",
    "names_missing",
    "names_numbers",
)
FEATURES = (
    "one",
    *TEXT_NAMES,
    "turns",
    "system",
    *OF_SELECTION,
    "own_load",
    "hurry",
    *(f"topic_{i}" for i in range(N_TOPICS)),
)
"""Names of the features, in their order."""
OWN_LOAD = FEATURES.index("own_load")
"""Filled in per arm."""

_TEXT_CENTRES = np.array([4.8, 0.013, 0.033, 0.008, 0.063, 0.209, 0.579, 0.003, 0.026, 5.96, 0.263, 0.885])
_TEXT_SPREADS = np.array([1.16, 0.038, 0.18, 0.025, 0.242, 0.407, 1.086, 0.054, 0.046, 1.57, 0.44, 0.14])
"""Of `measures` on 2,777 prompts of nq_open, self_instruct, nl2bash, banking77 and arena_hard."""
_SEED = 2501_12689
"""Of the random projection: the same in every worker and version."""
_TOPIC_NORM = 0.6
"""Length of a projected unit vector: about what the principal components leave of one."""
_NEAR = 0.5
"""Cosine distance from which on an example says nothing."""
_LONG_DEADLINE_S = 30.0
_COMPARED = 500
"""Characters of an answer that are compared with others."""


def schema_of(dimensions: int) -> str:
    """What a context was made with: version, number of features, dimensions of the embedding."""
    return f"context-{VERSION}:{len(FEATURES)}:{dimensions}"


def context_of(
    request: Request, vector: Embedding, selection: Selection, conditions: Conditions, *, with_text: bool = True
) -> Context:
    """The features of a request with its selection, each about [-1, 1].

    Args:
        with_text: whether the finer features of its words are wanted; they take as long as all others together.
    """
    values = (
        1.0,
        *_of_text(request.text),
        log1p(request.n_user_turns - 1) / 3,
        log1p(len(request.system)) / 10,
        *_of_selection(selection.chosen),
        0.0,  # own load
        _hurry(conditions.deadline_s),
        *topics(vector).tolist(),
    )
    return Context(schema_of(vector.size), values, text_features(request.text) if with_text else ())


def topics(vector: Embedding) -> Vector:
    """What a request is about, shape (N_TOPICS,): its vector along a few directions."""
    basis, offset = projection(vector.size)
    return np.asarray(basis @ vector.astype(np.float64) - offset)


@cache
def projection(dimensions: int) -> tuple[Vector, Vector]:
    """Directions, shape (N_TOPICS, dimensions), and what is taken from the vector along each, shape (N_TOPICS,).

    For the bundled embedder the principal components of general prompts (see `assets/topics`), which keep more of the
    differences between requests than any other directions; random ones for all other vectors.
    """
    path = files("echo_proxy") / f"assets/topics/minilm-{dimensions}.npz"
    if path.is_file():
        with path.open("rb") as file, np.load(file) as asset:
            basis = asset["basis"].astype(np.float64)
            return basis, basis @ asset["mean"].astype(np.float64)
    rows = np.random.default_rng(_SEED).standard_normal((min(N_TOPICS, dimensions), dimensions))
    basis = np.zeros((N_TOPICS, dimensions))
    basis[: len(rows)] = np.linalg.qr(rows.T)[0].T  # orthonormal rows
    return basis * (_TOPIC_NORM * np.sqrt(dimensions / len(rows))), np.zeros(N_TOPICS)


def own_load(in_flight: float) -> float:
    """Requests of a deployment as a feature in [0, 1)."""
    return float(in_flight / (in_flight + 4.0))


def _of_text(text: str) -> list[float]:
    """In [-1, 1]: a third of the deviations from general prompts, cut at three."""
    steps = (np.array(measures(text)) - _TEXT_CENTRES) / (3 * _TEXT_SPREADS)
    found: list[float] = np.minimum(np.maximum(steps, -1.0), 1.0).tolist()
    return found


def _of_selection(chosen: tuple[Candidate, ...]) -> tuple[float, ...]:
    if not chosen:
        return (0.0,) * len(OF_SELECTION)
    best, n = chosen[0], len(chosen)
    return (
        max(1 - min(one.distance for one in chosen) / _NEAR, 0.0),
        best.utility,
        sum(one.utility for one in chosen) / n,
        min(n / 8, 1.0),
        sum(one.example.quality for one in chosen) / n,
        agreement(chosen),
        float(best.names is Names.HELD),
        float(best.names is Names.MISSING),
        float(best.names is Names.NUMBERS),
    )


def agreement(candidates: tuple[Candidate, ...]) -> float:
    """Share of the other candidates that answer as the first one does, word for word; 0 when it stands alone."""
    if len(candidates) < 2:
        return 0.0
    first, *others = (" ".join(one.example.response[:_COMPARED].lower().split()) for one in candidates)
    return sum(other == first for other in others) / len(others)


def _hurry(deadline_s: float | None) -> float:
    """1 = no time is left, 0 = no deadline or a long one."""
    return 0.0 if deadline_s is None else 1 - min(max(deadline_s, 0.0) / _LONG_DEADLINE_S, 1.0)
