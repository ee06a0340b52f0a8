"""Which arms of a policy could have answered a logged request, and which of them did the log know?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from echo_proxy.types import Arm, Lesson

_DRAWABLE = 1e-4
"""Probability below which the log could practically not draw an arm; a policy's floor is 0.01 by default."""


@dataclass(frozen=True, slots=True)
class Option:
    """An arm of the policy in one logged decision."""

    arm: Arm
    logged: str | None
    """The log's name of the arm that asks the same; None when the log could not draw any such."""


@dataclass(frozen=True, slots=True)
class _Ask:
    """What reaches a model: two arms that agree in it are the same choice for this request."""

    deployment: str
    n_examples: int


def options(arms: Sequence[Arm], lesson: Lesson, known: Mapping[str, Arm]) -> tuple[Option, ...]:
    """The arms that `route` would have let the policy draw, in the policy's order.

    Args:
        arms: of the policy.
        lesson: the decision.
        known: the arms of the policy that made it, by name; a name that it lacks is another arm to us.
    """
    n_chosen = lesson.situation.n_chosen
    drawable = {name for name, p in zip(lesson.arms, lesson.pmf, strict=True) if p >= _DRAWABLE}
    asks = {_ask(known[name], n_chosen): name for name in lesson.arms if name in known}
    most = max((arm.n_examples for arm in known.values()), default=0)
    possible = {_ask(arm, n_chosen) for arm in known.values()}
    served = {ask.deployment for ask in asks}
    deployments = {ask.deployment for ask in possible}
    found: dict[_Ask, Option] = {}
    for arm in sorted(arms, key=lambda arm: arm.n_examples):
        ask = _ask(arm, n_chosen)
        if arm.n_examples > most and n_chosen == most and most:
            ask = _Ask(arm.deployment, arm.n_examples)  # more examples may have been at hand than the log asked for
        is_away = arm.deployment in deployments and arm.deployment not in served
        is_too_long = ask in possible and ask not in asks
        if not (is_away or is_too_long or ask in found):
            name = asks.get(ask)
            found[ask] = Option(arm, name if name in drawable else None)
    chosen = {option.arm.name: option for option in found.values()}
    return tuple(chosen[arm.name] for arm in arms if arm.name in chosen)


def _ask(arm: Arm, n_chosen: int) -> _Ask:
    return _Ask(arm.deployment, min(arm.n_examples, n_chosen))
