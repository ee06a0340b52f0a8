"""How far does one get without vectors, lessons or training? The plain nearest-neighbour router that is to be beaten.

Word and bigram TF-IDF, cosine, and the mean uplift of the nearest training prompts.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from bench.router.streams import Array

N_NEIGHBOURS = 50
_BLOCK = 400
"""Prompts whose similarities are in memory at once."""


def neighbours(train: Sequence[str], test: Sequence[str]) -> np.ndarray:
    """Indices of the nearest training texts, shape (n_test, N_NEIGHBOURS), in no order."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32)
    known = vectorizer.fit_transform(train).T.tocsr()
    asked = vectorizer.transform(test)
    blocks = [(asked[start : start + _BLOCK] @ known).toarray() for start in range(0, len(test), _BLOCK)]
    return np.concatenate([np.argpartition(-block, N_NEIGHBOURS, axis=1)[:, :N_NEIGHBOURS] for block in blocks])


def knn_scores(train: Sequence[str], quality: Array, test: Sequence[str]) -> Array:
    """Mean quality of every model on the nearest training prompts, shape (n_test, n_models)."""
    return np.asarray(quality[neighbours(train, test)].mean(axis=1))
