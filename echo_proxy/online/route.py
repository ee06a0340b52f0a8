"""Which arm answers?"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from echo_proxy.bandits.evidence import Estimates, combine
from echo_proxy.bandits.floor import with_floor
from echo_proxy.bandits.make import make_bandit
from echo_proxy.online.knowledge import Knowledge
from echo_proxy.online.segment import segment_of
from echo_proxy.policy import Policy, Prior
from echo_proxy.types import Arm, ArmKey, Decision, Request, Selection, Vector

_BYTES_PER_TOKEN = 3.0
"""Few, so that a prompt is rather taken for too long: English has about 4. # guess, not yet measured"""
_TOKENS_PER_TURN = 8
"""What a chat template adds. # guess, not yet measured"""
_ANSWER_SHARE = 0.25
"""Share of the context that stays for the answer. # guess, not yet measured"""


@dataclass(frozen=True, slots=True)
class _Feasible:
    arms: tuple[Arm, ...]
    adjustments: tuple[str, ...]


def route(
    request: Request,
    selection: Selection,
    available: Collection[str],
    policy: Policy,
    knowledge: Knowledge,
    seed: int,
) -> Decision | None:
    """One arm, drawn by the bandit's probabilities, or None when no arm's deployment is available.

    Args:
        available: deployments that can serve now, by the names that arms use.
        seed: of the generator that draws; kept in the decision so that the draw can be repeated.
    """
    feasible = _feasible(policy.to_arms(), request, selection, available)
    if not feasible.arms:
        return None
    segment = segment_of(request, selection, policy.bandit.segments)
    evidence = _evidence(feasible.arms, segment, selection, policy, knowledge)
    names = tuple(arm.name for arm in feasible.arms)
    bandit = make_bandit(policy.bandit, names)
    pmf = with_floor(bandit.pmf(evidence.weights, evidence.means), policy.bandit.floor)
    index = draw(pmf, seed)
    return Decision(
        arm=feasible.arms[index],
        propensity=float(pmf[index]),
        segment=segment,
        arms=names,
        pmf=tuple(map(float, pmf)),
        means=tuple(map(float, evidence.means)),
        weights=tuple(map(float, evidence.weights)),
        adjustments=(*feasible.adjustments, f"floor {policy.bandit.floor:g}"),
        seed=seed,
    )


def draw(pmf: Vector, seed: int) -> int:
    """Index drawn from the probabilities; the same seed draws the same index."""
    return int(np.random.default_rng(seed).choice(len(pmf), p=pmf / pmf.sum()))


def _feasible(arms: Sequence[Arm], request: Request, selection: Selection, available: Collection[str]) -> _Feasible:
    """Arms that can be drawn: their deployment can serve, their examples fit, their prompt differs from the others'."""
    serving = [arm for arm in arms if arm.deployment in available]
    absent = sorted({arm.deployment for arm in arms} - set(available))
    notes = [f"unavailable {name}" for name in absent]
    kept: dict[tuple[str, int], Arm] = {}
    for arm in sorted(serving, key=lambda arm: arm.n_examples):
        if not _fits(arm, request, selection):
            notes.append(f"{arm.name} would not fit into {request.rooms[arm.deployment]} tokens")
            continue
        prompt = (arm.deployment, min(arm.n_examples, len(selection.chosen)))
        if prompt in kept:
            notes.append(f"{arm.name} would ask as {kept[prompt].name} does")
        else:
            kept[prompt] = arm
    drawable = set(kept.values())
    return _Feasible(tuple(arm for arm in serving if arm in drawable), tuple(notes))


def _fits(arm: Arm, request: Request, selection: Selection) -> bool:
    """Whether a deployment can hold the prompt with the arm's examples; without examples LiteLLM is to say so."""
    shown = selection.first(arm.n_examples)
    room = request.rooms.get(arm.deployment)
    if room is None or not shown:
        return True
    texts = [request.system, *(turn.content for turn in request.dialogue)]
    texts += [text for one in shown for text in (one.example.request, one.example.response)]
    n_tokens = sum(len(text.encode()) / _BYTES_PER_TOKEN + _TOKENS_PER_TURN for text in texts)
    return n_tokens <= room * (1 - _ANSWER_SHARE)


def _evidence(
    arms: Sequence[Arm], segment: str, selection: Selection, policy: Policy, knowledge: Knowledge
) -> Estimates:
    priors = [_prior(arm, selection, policy.bandit.prior) for arm in arms]
    return combine(
        [knowledge.sums(ArmKey(arm.name, segment)) for arm in arms],
        np.array([prior.reward for prior in priors]),  # (n_arms,)
        np.array([prior.weight for prior in priors]),  # (n_arms,)
    )


@dataclass(frozen=True, slots=True)
class _Prior:
    reward: float
    weight: float


def _prior(arm: Arm, selection: Selection, prior: Prior) -> _Prior:
    """What is known of the examples is known of the arm that takes them."""
    if arm.prior_reward is not None:
        return _Prior(arm.prior_reward, prior.weight)
    if prior.utility_weight and arm.n_examples and selection.chosen:
        return _Prior(selection.chosen[0].utility, prior.utility_weight)
    return _Prior(prior.reward, prior.weight)
