"""What do arms and examples learn from an outcome?"""

from collections.abc import Sequence
from dataclasses import replace

from echo_proxy.bandits.evidence import difference
from echo_proxy.policy import Policy
from echo_proxy.types import ArmKey, Attempt, Evidence, ExampleIncrement, Increment, Quality, Use


def evidence_from(attempts: Sequence[Attempt], quality: Quality, earned: float) -> tuple[Evidence, ...]:
    """Evidence per attempt: a blamed failure earned 0 with full weight, the arm that served what the answer earned."""
    learned: list[Evidence] = []
    for attempt in attempts:
        if attempt.decision is None:
            continue
        key = ArmKey(attempt.decision.arm.name, attempt.decision.segment)
        if attempt.error is None:
            learned.append(Evidence(key, quality.weight, earned))
        elif attempt.is_blamed:
            learned.append(Evidence(key, 1.0, 0.0, is_served=False))
    return tuple(learned)


def revised(evidence: Sequence[Evidence], weight: float, earned: float) -> tuple[Evidence, ...]:
    """The same evidence when the answer turns out to have earned something else."""
    return tuple(replace(one, weight=weight, reward=earned) if one.is_served else one for one in evidence)


def increments_between(before: Sequence[Evidence], after: Sequence[Evidence]) -> tuple[Increment, ...]:
    """What must be added so that the sums are as if only `after` had ever been learned.

    Nothing is faded here: the store fades every increment from the time of the decision on, early guess and correction
    alike.

    Args:
        before: empty, or the earlier view of the same attempts in the same order.
        after: the view that shall count.
    """
    nothing = [Evidence(evidence.key, 0.0, 0.0) for evidence in after]
    return tuple(
        Increment(new.key, difference((new.weight, new.reward), (old.weight, old.reward)))
        for new, old in zip(after, before or nothing, strict=True)
        if new != old
    )


def use_of(arm_name: str, is_acted: bool, cost_usd: float, policy: Policy) -> Use:
    """What an answer says of its examples beside its quality."""
    teachers = {arm.name for arm in policy.to_arms() if arm.is_teacher}
    free = policy.upkeep.replay.free_cost if policy.upkeep.replay else 0.0
    cost = min(cost_usd / policy.reward.cost_scale_usd, 1.0)
    return Use(is_acted and arm_name not in teachers, max(cost, free))


def example_increments(
    example_ids: Sequence[str], before: Quality | None, after: Quality, use: Use
) -> tuple[ExampleIncrement, ...]:
    """What the used examples' outcome counts change by.

    Each is credited with the whole answer in uses and gain, which say how good it is, and with its share in offloads
    and regret, which say how much there is to keep or to win.
    """
    old = before or Quality(0.0, 0.0, {})
    uses = after.weight - old.weight
    gain = after.weight * after.estimate - old.weight * old.estimate
    share = 1 / max(len(example_ids), 1)
    offloads = share * (after.estimate - old.estimate) if use.is_offload else 0.0
    lost, lost_before = after.weight * (1 - after.estimate), old.weight * (1 - old.estimate)
    regret = share * use.normalized_cost * (lost - lost_before)
    return tuple(ExampleIncrement(example_id, uses, gain, offloads, regret) for example_id in example_ids)
