"""What does each way of routing expect of every model on prompts that it has not learned from?"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from bench.router.knn import knn_scores
from bench.router.replay import policy_for, situations_of
from bench.router.streams import Array, Stream, llmrouter, routellm, zeroeval
from echo_proxy.learning.fit import fit_outcomes
from echo_proxy.policy import Policy
from echo_proxy.protocols import OutcomeModel
from echo_proxy.types import ArmKey, Evidence, Lesson, Situation

N_FOLDS = 5
STREAMS: Mapping[str, Callable[[Path, Path], Stream]] = {
    "mmlu": lambda data, cache: routellm(data, cache, "mmlu"),
    "gsm8k": lambda data, cache: routellm(data, cache, "gsm8k"),
    "zeroeval": zeroeval,
    "llmrouter": llmrouter,
}


@dataclass(frozen=True)
class Job:
    """All methods on one data set with one division into folds."""

    stream: str
    seed: int
    data: Path
    cache: Path


@dataclass(frozen=True)
class Scores:
    """What the methods expect of every model, each prompt by fits to other folds."""

    stream: str
    seed: int
    by_method: Mapping[str, Array]
    """Shape (n, n_models)."""
    fold: np.ndarray
    """Of each prompt, shape (n,)."""
    seconds: Mapping[str, float]
    """Of one fit and its predictions, on average."""


# ------------------------------------------------------------------ methods


@dataclass(frozen=True)
class Split:
    """What a method may learn from, and what it is asked."""

    train: Stream
    test: Stream
    known: Sequence[Situation]
    asked: Sequence[Situation]


def lessons(quality: Array, known: Sequence[Situation], policy: Policy) -> list[Lesson]:
    """One per prompt, with the outcome of every arm."""
    names = tuple(arm.name for arm in policy.to_arms())
    return [
        Lesson(
            decision_id=f"{t:08d}",
            at=0.0,
            arms=names,
            pmf=(1 / len(names),) * len(names),
            arm=names[0],
            is_acted=True,
            means=(0.5,) * len(names),
            situation=situation,
            evidence=tuple(
                Evidence(ArmKey(name, situation.segment), 1.0, float(reward))
                for name, reward in zip(names, quality[t], strict=True)
            ),
            trials=(),
            quality=float(quality[t, 0]),
            quality_weight=1.0,
            reward=float(quality[t, 0]),
            cost_usd=0.0,
            latency_s=0.0,
            time_to_first_token_s=None,
            prompt_tokens=0,
            completion_tokens=0,
        )
        for t, situation in enumerate(known)
    ]


def fitted(split: Split, kind: str) -> tuple[Policy, OutcomeModel]:
    """The real estimator of that kind, fitted to the training prompts."""
    policy = policy_for(split.train, bandit={"kind": "epsilon_greedy", "estimate": {"kind": kind}})
    model = fit_outcomes(policy, lessons(split.train.quality, split.known, policy))
    if model is None:
        raise ValueError(f"expected an estimator of kind {kind}, got none")
    return policy, model


def by_estimator(kind: str) -> Callable[[Split], Array]:
    def score(split: Split) -> Array:
        policy, model = fitted(split, kind)
        arms = policy.to_arms()
        return np.array([model.estimates(arms, situation).means for situation in split.asked])

    return score


def by_neighbours(split: Split) -> Array:
    return knn_scores(split.train.texts, split.train.quality, split.test.texts)


def by_vectors(split: Split) -> Array:
    """scikit-learn's logistic regression on the vectors alone, one per model; a quality of 0.7 is 0.7 of a success."""
    x, n = split.train.vectors, len(split.train)
    twice, labels = np.concatenate([x, x]), np.repeat([1, 0], n)
    columns = []
    for quality in split.train.quality.T:
        model = LogisticRegression(max_iter=300).fit(twice, labels, np.concatenate([quality, 1 - quality]))
        columns.append(model.predict_proba(split.test.vectors)[:, 1])
    return np.stack(columns, axis=1)


METHODS: Mapping[str, Callable[[Split], Array]] = {
    "echo": by_estimator("regression"),
    "linear": by_estimator("linear"),
    "knn": by_neighbours,
    "logistic": by_vectors,
}


def folds(n: int, seed: int) -> np.ndarray:
    """Fold of each prompt, shape (n,)."""
    out = np.zeros(n, dtype=np.int64)
    out[np.random.default_rng(seed).permutation(n)] = np.arange(n) % N_FOLDS
    return out


def work(job: Job) -> Scores:
    """All methods' scores; one core."""
    with threadpool_limits(1):
        stream = STREAMS[job.stream](job.data, job.cache)
        seen = situations_of(stream, policy_for(stream))
        fold = folds(len(stream), job.seed)
        out = {name: np.zeros(stream.quality.shape) for name in METHODS}
        spent = dict.fromkeys(METHODS, 0.0)
        for k in range(N_FOLDS):
            train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            split = Split(stream.take(train), stream.take(test), [seen[i] for i in train], [seen[i] for i in test])
            for name, method in METHODS.items():
                started = time.process_time()
                out[name][test] = method(split)
                spent[name] += (time.process_time() - started) / N_FOLDS
    return Scores(job.stream, job.seed, out, fold, spent)
