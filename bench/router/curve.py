"""How much of the gap between two models does a ranking of prompts recover, as more of them go to the large one?"""

from dataclasses import dataclass

import numpy as np

from bench.router.streams import Array


@dataclass(frozen=True)
class Pair:
    """What a small and a large model make of the same prompts."""

    small: Array
    """Quality per prompt, shape (n,), [0, 1]."""
    large: Array
    """Shape (n,)."""

    def take(self, rows: np.ndarray) -> "Pair":
        return Pair(self.small[rows], self.large[rows])


def ranked(scores: Array, seed: int) -> np.ndarray:
    """Prompts by falling score; ties in an order of chance."""
    shuffled = np.random.default_rng(seed).permutation(scores.size)
    return shuffled[np.argsort(-scores[shuffled], kind="stable")]


def recovered(pair: Pair, order: np.ndarray) -> Array:
    """Share of the gap in quality that is recovered with the first 0, 1, ..., n prompts at the large model."""
    gains = np.concatenate([[0.0], np.cumsum((pair.large - pair.small)[order])])
    return np.asarray(gains / gains[-1])


def apgr(pair: Pair, scores: Array, seed: int) -> float:
    """Area under `recovered` over the share of calls to the large model; 0.5 is chance.

    Source: RouteLLM, section 3.2, https://arxiv.org/abs/2406.18665
    """
    heights = recovered(pair, ranked(scores, seed))
    return float((heights[1:] + heights[:-1]).mean() / 2)


def resampled_apgr(pair: Pair, scores: Array, seed: int, counts: Array) -> Array:
    """APGR of each of many samples of the prompts.

    Args:
        pair: outcomes.
        scores: of the ranking, shape (n,).
        seed: of the order among ties.
        counts: how often each prompt is in each sample, shape (n_samples, n).

    Returns:
        Shape (n_samples,).
    """
    order = ranked(scores, seed)
    gains = np.cumsum(counts[:, order] * (pair.large - pair.small)[order], axis=1)  # (n_samples, n)
    steps = counts[:, order] / counts.sum(axis=1, keepdims=True)
    before = np.concatenate([np.zeros((counts.shape[0], 1)), gains[:, :-1]], axis=1)
    return np.asarray(((gains + before) / 2 * steps).sum(axis=1) / gains[:, -1])
