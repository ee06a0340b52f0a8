"""What do arms and examples learn from an outcome?"""

from collections.abc import Sequence
from dataclasses import replace

from echo_proxy.bandits.evidence import difference
from echo_proxy.types import ArmKey, Attempt, Evidence, ExampleIncrement, Increment, Quality


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


def example_increments(
    example_ids: Sequence[str], before: Quality | None, after: Quality
) -> tuple[ExampleIncrement, ...]:
    """What the used examples' outcome counts change by; each is credited with the whole answer."""
    old_weight = before.weight if before else 0.0
    old_gain = before.weight * before.estimate if before else 0.0
    uses = after.weight - old_weight
    gain = after.weight * after.estimate - old_gain
    return tuple(ExampleIncrement(example_id, uses, gain) for example_id in example_ids)
