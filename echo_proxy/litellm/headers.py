"""What is the caller told about its answer, by response headers?"""

from echo_proxy.litellm.flights import Serving
from echo_proxy.types import Plan


def plan_headers(plan: Plan) -> dict[str, str]:
    """Of an answer that a model gives."""
    is_welcome = plan.decision.invites_feedback and not plan.is_shadow
    return {
        **({"x-echo-feedback": "welcome"} if is_welcome else {}),
        "x-echo-decision-id": plan.request.decision_id,
        "x-echo-policy": plan.policy,
        "x-echo-would-be-arm" if plan.is_shadow else "x-echo-arm": plan.decision.arm.name,
        "x-echo-examples": str(plan.prompt.n_examples),
    }


def serving_headers(plan: Plan, serving: Serving) -> dict[str, str]:
    """Of one that is given without a model."""
    known = {"x-echo-example-id": serving.example_id} if serving.example_id else {}
    return {
        "x-echo-decision-id": plan.request.decision_id,
        "x-echo-policy": plan.policy,
        "x-echo-arm": "none",
        "x-echo-examples": "0",
        "x-echo-answer": serving.kind,
        "x-echo-answer-age-s": f"{serving.age_s:.0f}",
        **known,
    }
