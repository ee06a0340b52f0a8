"""Where does a situation lie among past ones? Its vector, its words' and its selection's features as one point.

A point has a linear part and, once there are enough situations to compare with, a part that says how near it lies to
each of some landmarks among them: linear regression on it is then regression by similarity (Nystroem's approximation
of a Gaussian kernel).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from echo_proxy.learning.context import FEATURES, OF_SELECTION
from echo_proxy.types import Situation

Floats = NDArray[np.float32]

LEAST_LINEAR = 40
"""Situations below which points are empty: all lie at the same place. guess, not yet measured"""
LEAST_KERNEL = 400
"""Situations below which there are no landmarks. guess: up to 1,000 they changed nothing on the router benchmarks"""
MOST_LANDMARKS = 512
"""More do not pay for their time, see bench/README.md."""
_WIDTH = 0.7
"""The kernel is exp(-width * squared distance); measured on RouteLLM, ZeroEval and LLMRouter, flat around it."""
_LINEAR_BESIDE = 0.5
"""Scale of the linear part beside landmarks; 1 without them. Measured as above."""
_FEATURES_BESIDE = 0.7
"""Length of each block of features beside the vector's 1. Measured as above."""
_OUTLIER = 3.0
"""Standard deviations to which features are cut."""
_LEAST_SPREAD = 1e-2
"""Added to standard deviations, so that a feature that hardly varies stays small."""
_SEED = 0

SELECTION = tuple(FEATURES.index(name) for name in ("turns", "system", "hurry", *OF_SELECTION))
"""Features of the context that are used: what else it says of the words, vector and text features say better."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Which situations can be compared."""

    schema: str
    """Of the context."""
    n_text: int
    dimensions: int


@dataclass(frozen=True, slots=True, eq=False)
class Landmarks:
    """Situations that others are compared with."""

    points: Floats
    """Shape (n_landmarks, n_inputs)."""
    squares: Floats
    """Their squared lengths, shape (n_landmarks,)."""
    turn: Floats
    """From nearness to the landmarks to independent coordinates, shape (n_landmarks, n_kernel)."""

    def nearness(self, inputs: Floats) -> Floats:
        """1 at the landmark, about 0 far away; shape (n, n_landmarks)."""
        scaled = inputs * np.float32(_WIDTH**0.5)
        squares = np.einsum("ij,ij->i", scaled, scaled)[:, None] + self.squares
        near: Floats = np.exp(np.minimum(2 * (scaled @ self.points.T) - squares, 0.0))
        return near


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """How situations of one kind become points."""

    kind: Kind | None
    """None: all situations lie at the same place, and points have no coordinates."""
    centre: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    """Mean of the features, shape (n_features,)."""
    scale: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    """1 / standard deviation, shape (n_features,); 0 for those that never varied."""
    share: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    """What gives each block of features a length beside the vector's 1, shape (n_features,)."""
    landmarks: Landmarks | None = None
    middle: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    """Mean of all points before it is taken from them, shape (n_coordinates,)."""

    @property
    def linear_scale(self) -> float:
        """Of the linear part."""
        return 1.0 if self.landmarks is None else _LINEAR_BESIDE

    def inputs(self, vectors: Floats, features: Floats) -> Floats:
        """Vector and features side by side, each of length about 1; shape (n, n_inputs)."""
        cut = np.clip((features - self.centre) * self.scale, -_OUTLIER, _OUTLIER) * self.share
        return np.concatenate([vectors, cut], axis=1)

    def raw(self, inputs: Floats) -> Floats:
        """Nearness to the landmarks and the linear part, shape (n, n_landmarks + n_inputs)."""
        linear = inputs * np.float32(self.linear_scale)
        return linear if self.landmarks is None else np.concatenate([self.landmarks.nearness(inputs), linear], axis=1)

    def collapsed(self, matrix: Floats) -> Floats:
        """What gives for `raw` what the matrix gives for points that are not centred.

        Args:
            matrix: shape (n_coordinates, k).

        Returns:
            Shape (n_landmarks + n_inputs, k).
        """
        if self.landmarks is None:
            return matrix
        n_kernel = self.landmarks.turn.shape[1]
        return np.concatenate([self.landmarks.turn @ matrix[:n_kernel], matrix[n_kernel:]])

    def points(self, inputs: Floats) -> Floats:
        """Centred points, shape (n, n_coordinates)."""
        raw = self.raw(inputs)
        if self.landmarks is None:
            return raw - self.middle
        n_landmarks = self.landmarks.turn.shape[0]
        turned = raw[:, :n_landmarks] @ self.landmarks.turn
        return np.concatenate([turned, raw[:, n_landmarks:]], axis=1) - self.middle


def kind_of(situation: Situation) -> Kind | None:
    """None when a situation has no vector or no features, and so cannot be compared."""
    if situation.vector is None or len(situation.context.values) != len(FEATURES):
        return None
    return Kind(situation.context.schema, len(situation.context.text), situation.vector.size)


def vectors_of(situations: Sequence[Situation]) -> Floats:
    """Shape (n, dimensions)."""
    return np.array([situation.vector for situation in situations], dtype=np.float32)


def features_of(situations: Sequence[Situation]) -> Floats:
    """Features of text and selection, shape (n, n_text + len(SELECTION))."""
    rows = [(*one.context.text, *[one.context.values[i] for i in SELECTION]) for one in situations]
    return np.array(rows, dtype=np.float32)


def fit_space(situations: Sequence[Situation]) -> Space:
    """A space for situations like these, which are all of one kind; without coordinates when they are few."""
    kind = kind_of(situations[0]) if situations else None
    if kind is None or len(situations) < LEAST_LINEAR:
        return Space(None)
    vectors, features = vectors_of(situations), features_of(situations)
    spread = features.std(axis=0)  # (n_features,)
    varies = spread > 0
    scale = np.where(varies, 1 / (spread + _LEAST_SPREAD), 0.0).astype(np.float32)
    space = Space(kind, features.mean(axis=0), scale, _shares(varies, kind.n_text))
    inputs = space.inputs(vectors, features)
    landmarks = _landmarks(inputs) if len(situations) >= LEAST_KERNEL else None
    space = Space(kind, space.centre, scale, space.share, landmarks, np.zeros(1, np.float32))
    return Space(kind, space.centre, scale, space.share, landmarks, space.points(inputs).mean(axis=0))


def _shares(varies: NDArray[np.bool_], n_text: int) -> Floats:
    """Share of each feature in the length of its block, shape (n_features,)."""
    n_selection = varies.size - n_text
    counts = np.repeat([varies[:n_text].sum(), varies[n_text:].sum()], [n_text, n_selection])
    shares: Floats = (_FEATURES_BESIDE / np.sqrt(np.maximum(counts, 1))).astype(np.float32)
    return shares


def _landmarks(inputs: Floats) -> Landmarks:
    """Some of the points, drawn by chance with a fixed seed."""
    n = inputs.shape[0]
    drawn = np.random.default_rng(_SEED).permutation(n)[: min(MOST_LANDMARKS, n // 2)]
    points = inputs[drawn] * np.float32(_WIDTH**0.5)
    bare = Landmarks(points, np.einsum("ij,ij->i", points, points), np.zeros((0, 0), np.float32))
    values, basis = np.linalg.eigh(bare.nearness(inputs[drawn]).astype(np.float64))
    kept = values > 1e-5 * values[-1]  # what is smaller is rounding of single precision
    turn = (basis[:, kept] / np.sqrt(values[kept])).astype(np.float32)
    return Landmarks(points, bare.squares, turn)
