"""Which arm answers?"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from echo_proxy.bandits.floor import with_floor
from echo_proxy.bandits.make import make_bandit, otherwise
from echo_proxy.bandits.newcomer import newcomers, with_newcomers
from echo_proxy.learning.best_effort import worth
from echo_proxy.learning.estimate import drift, estimate
from echo_proxy.learning.forecast import Forecaster
from echo_proxy.learning.knowledge import Knowledge
from echo_proxy.limits.adjust import adjustments
from echo_proxy.online.solicit import invites_feedback
from echo_proxy.policy import BestEffortPolicy, Newcomer, Policy
from echo_proxy.types import Adjustment, Arm, Decision, Estimates, Request, Selection, Situation, Vector

_BYTES_PER_TOKEN = 3.0
"""Few, so that a prompt is rather taken for too long: English has about 4. # guess, not yet measured"""
_TOKENS_PER_TURN = 8
"""What a chat template adds. # guess, not yet measured"""
_ANSWER_SHARE = 0.25
"""Share of the context that stays for the answer. # guess, not yet measured"""


@dataclass(frozen=True, slots=True)
class Choice:
    """How likely each arm is, and why."""

    seen: Estimates
    """What is expected of the arms, before anything is taken."""
    taken: tuple[Adjustment, ...]
    pmf: Vector
    """Shape (n_arms,), each at least the floor."""
    notes: tuple[str, ...] = ()
    """What else was done, in words."""


@dataclass(frozen=True, slots=True)
class _Feasible:
    arms: tuple[Arm, ...]
    adjustments: tuple[str, ...]


def route(
    request: Request,
    selection: Selection,
    situation: Situation,
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
    choice = choose(feasible.arms, situation, policy, knowledge, request.received_at)
    index = draw(choice.pmf, seed)
    return Decision(
        arm=feasible.arms[index],
        propensity=float(choice.pmf[index]),
        segment=situation.segment,
        arms=tuple(arm.name for arm in feasible.arms),
        pmf=tuple(choice.pmf.tolist()),
        means=tuple(choice.seen.means.tolist()),
        weights=tuple(choice.seen.weights.tolist()),
        adjustments=(*feasible.adjustments, *choice.notes, f"floor {policy.bandit.floor:g}"),
        seed=seed,
        deviations=tuple(choice.seen.deviations.tolist()),
        taken=choice.taken,
        situation=situation,
        invites_feedback=policy.solicit is not None
        and invites_feedback(choice.pmf, policy.bandit.floor, policy.solicit),
    )


def choose(arms: Sequence[Arm], situation: Situation, policy: Policy, knowledge: Knowledge, now: float) -> Choice:
    """How likely each arm should be in a situation; nothing is drawn."""
    seen = estimate(arms, situation, policy, knowledge)
    changed = drift(arms, policy, knowledge, now)
    rules, conditions = policy.bandit, situation.conditions
    weighed = worth(arms, seen.means, conditions, knowledge.values) if isinstance(rules, BestEffortPolicy) else None
    notes: tuple[str, ...] = ()
    if isinstance(rules, BestEffortPolicy) and isinstance(weighed, str):
        notes = (f"{rules.otherwise} instead of best_effort: {weighed}",)
        rules, weighed = otherwise(rules), None
    others = adjustments(arms, seen.means, conditions, policy, is_load_weighed=weighed is not None)
    taken = tuple(one for one in (changed, weighed, *others) if isinstance(one, Adjustment))
    means = seen.means - np.array([one.penalties for one in taken]).sum(axis=0) if taken else seen.means  # (n_arms,)
    bandit, left = make_bandit(rules, tuple(arm.name for arm in arms)), replace(seen, means=means)
    pushed = _pushed(arms, left, knowledge.forecaster, policy.bandit.newcomer)
    pmf = with_newcomers(bandit.pmf(left), pushed.indices, pushed.share)
    return Choice(seen, taken, with_floor(pmf, policy.bandit.floor), (*notes, *pushed.notes))


@dataclass(frozen=True, slots=True)
class _Pushed:
    """Arms that have a share in advance."""

    indices: Sequence[int] = ()
    share: float = 0.0
    notes: tuple[str, ...] = ()


def _pushed(arms: Sequence[Arm], left: Estimates, known: Forecaster, rules: Newcomer | None) -> _Pushed:
    if rules is None or len(arms) < 2:
        return _Pushed()
    names = [arm.name for arm in arms]
    indices = newcomers(
        left,
        [known.n_answers(name) for name in names],
        [known.n_offered(name) for name in names],
        [known.n_before(name) for name in names],
        rules,
    )
    notes = (f"newcomer {arms[i].name}: {rules.share:g} until it has answered {rules.until} times" for i in indices)
    return _Pushed(indices, rules.share, tuple(notes))


def draw(pmf: Vector, seed: int) -> int:
    """Index drawn from the probabilities; the same seed draws the same index."""
    cumulated = (pmf / pmf.sum()).cumsum()  # (n_arms,); as Generator.choice does, without its checks
    return int(np.searchsorted(cumulated / cumulated[-1], np.random.default_rng(seed).random(), side="right"))


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
