"""Which routers compete, and how is each of them played on a stream?

Whatever algorithm we have runs through our own real path, so that the path is the same for all. LiteLLM's adaptive
router and mabwiser's LinUCB run as the code that their authors ship.
"""

import os
import random
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from bench.router.replay import Run, play, policy_for
from bench.router.streams import Array, Stream
from echo_proxy.online.reward import reward
from echo_proxy.policy import Policy
from echo_proxy.types import Situation

OURS = "ours: linear Thompson, pooled"
Play = Callable[[Stream, float, int, Sequence[Situation]], Run]
"""A stream, the weight of cost, a seed, and what is seen of each request."""

_BARE: dict[str, Any] = {"segments": None, "drift": None, "floor": 1e-6, "half_life_s": 1e12}
"""As in the textbook: no segments, no drift, no floor, no fading."""
_NO_PRIOR = {"reward": 0.5, "weight": 1e-3, "utility_weight": 0}
_DISJOINT = {"kind": "linear", "sharing": "disjoint"}

BANDITS: Mapping[str, Mapping[str, Any]] = {
    OURS: {"kind": "linear_thompson"},
    "ours: Beta Thompson, segments": {"kind": "beta_thompson", "floor": 0.001},
    "random": {"kind": "uniform"},
    "epsilon-greedy 0.05": _BARE | {"kind": "epsilon_greedy", "epsilon": 0.05, "prior": _NO_PRIOR},
    "epsilon-greedy 1 / (1 + t / 50)": _BARE
    | {"kind": "epsilon_greedy", "epsilon": 1.0, "decay": 50.0, "prior": _NO_PRIOR},
    "UCB1, width 1": _BARE | {"kind": "ucb1", "width": 1.0, "prior": _NO_PRIOR},
    "UCB1, width 0.2": _BARE | {"kind": "ucb1", "width": 0.2, "prior": _NO_PRIOR},
    "Beta Thompson": _BARE | {"kind": "beta_thompson", "prior": _NO_PRIOR | {"weight": 2.0}},
    "LinUCB disjoint, alpha 0.5": _BARE | {"kind": "linucb", "alpha": 0.5, "estimate": _DISJOINT},
    "LinUCB disjoint, alpha 1": _BARE | {"kind": "linucb", "alpha": 1.0, "estimate": _DISJOINT},
    "linear Thompson disjoint": _BARE
    | {"kind": "linear_thompson", "width": 1.0, "calm_after": 0.0, "estimate": _DISJOINT},
}


def policy_of(stream: Stream, bandit: Mapping[str, Any], cost_weight: float) -> Policy:
    """Reward = quality * (1 - cost_weight * cost / mean cost of the dearest model)."""
    scale = float(stream.cost_usd.mean(axis=0).max())
    weights = {"quality_weight": 1.0 - cost_weight, "cost_weight": cost_weight, "latency_weight": 0.0}
    return policy_for(stream, bandit=bandit, reward=weights | {"cost_scale_usd": scale})


def rewards_of(stream: Stream, policy: Policy) -> Array:
    """What each model would earn on each request, shape (n, n_models)."""
    rows = zip(stream.quality.ravel(), stream.cost_usd.ravel(), strict=True)
    return np.array([reward(q, cost, 0.0, policy.reward) for q, cost in rows]).reshape(stream.quality.shape)


def competitors() -> Mapping[str, Play]:
    """All that are installed, ours first."""
    found: dict[str, Play] = {name: _through_our_path(bandit) for name, bandit in BANDITS.items()}
    for name, module, made in (
        ("LiteLLM adaptive router", "litellm.router_strategy.adaptive_router.bandit", litellm_adaptive),
        ("mabwiser LinUCB, alpha 0.3", "mabwiser.mab", mabwiser_linucb),
    ):
        if _is_there(module):
            found[name] = made
    return found


def _is_there(module: str) -> bool:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # otherwise LiteLLM asks the network at import
    try:
        import_module(module)
    except ImportError:
        return False
    return True


def _through_our_path(bandit: Mapping[str, Any]) -> Play:
    def run(stream: Stream, cost_weight: float, seed: int, situations: Sequence[Situation]) -> Run:
        return play(stream, policy_of(stream, bandit, cost_weight), seed, situations=situations)

    return run


def litellm_adaptive(stream: Stream, cost_weight: float, seed: int, situations: Sequence[Situation]) -> Run:
    """LiteLLM's classifier, cells, update rule and choice as installed; told each answer's quality instead of its guess
    from the dialogue. All models in the middle tier, as nothing is known of them before."""
    bandit = import_module("litellm.router_strategy.adaptive_router.bandit")
    classify = import_module("litellm.router_strategy.adaptive_router.classifier").classify_prompt
    preferences = import_module("litellm.types.router").AdaptiveRouterPreferences(quality_tier=2, strengths=[])
    mean_costs = stream.cost_usd.mean(axis=0)
    costs = {model: float(cost) for model, cost in zip(stream.models, mean_costs, strict=True)}
    # its score adds weight * cheapness in [0, 1]: the same trade-off as in our reward
    cells: dict[tuple[Any, str], Any] = {}
    rng = random.Random(seed)
    rewards = rewards_of(stream, policy_of(stream, {"kind": "uniform"}, cost_weight))

    def choose(t: int) -> int:
        kind = classify(stream.texts[t])
        own = {m: cells.setdefault((kind, m), bandit.initial_cell(preferences, kind)) for m in stream.models}
        model = bandit.pick_best(own, costs, 1.0, cost_weight, rng=rng)
        index = stream.models.index(model)
        quality = float(stream.quality[t, index])
        cells[kind, model] = bandit.apply_delta(own[model], quality, 1.0 - quality)
        return index

    return _run_of(stream, rewards, choose)


def mabwiser_linucb(stream: Stream, cost_weight: float, seed: int, situations: Sequence[Situation]) -> Run:
    """mabwiser's LinUCB on the same contexts."""
    mab = import_module("mabwiser.mab")
    rewards = rewards_of(stream, policy_of(stream, {"kind": "uniform"}, cost_weight))
    contexts = np.array([one.context.values for one in situations])  # (n, n_features)
    contexts = contexts[:, contexts.std(axis=0) + (np.arange(contexts.shape[1]) == 0) > 0]
    learner = mab.MAB(list(range(len(stream.models))), mab.LearningPolicy.LinUCB(alpha=0.3), seed=seed)

    def choose(t: int) -> int:
        index = int(learner.predict([contexts[t]])) if t else seed % len(stream.models)
        learn = learner.partial_fit if t else learner.fit
        learn([index], [rewards[t, index]], [contexts[t]])
        return index

    return _run_of(stream, rewards, choose)


def _run_of(stream: Stream, rewards: Array, choose: Callable[[int], int]) -> Run:
    chosen = np.array([choose(t) for t in range(len(stream))])
    rows = np.arange(len(stream))
    return Run(
        chosen,
        np.eye(len(stream.models))[chosen],
        stream.quality[rows, chosen],
        stream.cost_usd[rows, chosen],
        rewards[rows, chosen],
    )
