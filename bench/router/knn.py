"""How far does one get without vectors, lessons or training? The plain nearest-neighbour router that is to be beaten.

Word and bigram TF-IDF, cosine, and the mean uplift of the nearest training prompts, weighted by similarity. Words that
occur once are left out. Of a dozen such variants it was the best on four of the five rows of ZeroEval and LLMRouter
(folds of seed 0).
"""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from bench.router.streams import Array

N_NEIGHBOURS = 50
_BLOCK = 400
"""Prompts whose similarities are in memory at once."""
_LEAST = 1e-6
"""Weight of a neighbour that has no word in common."""


def knn_scores(train: Sequence[str], quality: Array, test: Sequence[str]) -> Array:
    """Mean quality of every model on the nearest training prompts, shape (n_test, n_models)."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, dtype=np.float32)
    known = vectorizer.fit_transform(train).T.tocsr()
    asked = vectorizer.transform(test)
    blocks = [(asked[start : start + _BLOCK] @ known).toarray() for start in range(0, len(test), _BLOCK)]
    return np.concatenate([_means(block, quality) for block in blocks])


def _means(similarities: Array, quality: Array) -> Array:
    nearest = np.argpartition(-similarities, N_NEIGHBOURS, axis=1)[:, :N_NEIGHBOURS]
    weights = np.take_along_axis(similarities, nearest, axis=1) + _LEAST  # (n, N_NEIGHBOURS)
    return np.asarray(np.einsum("ij,ijk->ik", weights / weights.sum(axis=1, keepdims=True), quality[nearest]))
