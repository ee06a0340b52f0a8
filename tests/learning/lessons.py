"""Lessons with sensible defaults: a test names only what it is about."""

from dataclasses import replace
from typing import Any

from echo_proxy.types import Context, Lesson, Situation
from tests.builders import NOW


def lesson(decision_id: str = "d1", **changes: Any) -> Lesson:
    """A judged answer of the arm small+2 of `tests.builders.policy`."""
    made = Lesson(
        decision_id=decision_id,
        at=NOW,
        arms=("small+2",),
        pmf=(1.0,),
        arm="small+2",
        is_acted=True,
        means=(0.5,),
        situation=Situation("all", Context("none", ()), None, 0.0, 0),
        evidence=(),
        trials=(),
        quality=1.0,
        quality_weight=1.0,
        reward=1.0,
        cost_usd=0.0,
        latency_s=0.1,
        time_to_first_token_s=None,
        prompt_tokens=20,
        completion_tokens=5,
    )
    return replace(made, **changes)
