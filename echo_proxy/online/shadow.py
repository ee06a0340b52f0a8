"""What does a second arm's answer tell of both arms?"""

from echo_proxy.online.agreement import agreement, agreement_with_examples
from echo_proxy.online.combine import AGREEMENT, SHADOW_AGREEMENT, combine
from echo_proxy.online.measure import WHOLE_REASONS
from echo_proxy.online.reward import reward
from echo_proxy.online.sample import Heard, Reply, ShadowCall
from echo_proxy.online.validators import validate
from echo_proxy.types import Evidence, Outcome, Quality

SHADOW_EMPTY = "shadow_empty"
"""Signal for the reader alone: the second arm said nothing."""


def compare(call: ShadowCall, reply: Reply) -> Heard:
    """What is learned from a second answer.

    Both answers get the same signal of agreement. The second arm earns what it would have earned by the same
    validators and guesses, its own cost and its own time. One that was cut at the limit we set teaches nothing: the
    limit was ours, not the caller's.
    """
    if not reply.text.strip():
        return Heard(call.decision_id, {SHADOW_EMPTY: 1.0}, (_evidence(call, reply, Quality(0.0, 1.0, {})),))
    if reply.finish_reason not in WHOLE_REASONS:
        return Heard(call.decision_id, {})
    agreed = agreement(call.outcome.text, reply.text)
    signals = validate(_as_outcome(reply), call.plan.request.wants_json, call.policy.judge)
    signals[SHADOW_AGREEMENT] = agreed
    known = agreement_with_examples(reply.text, call.plan.selection.chosen)
    if known is not None:
        signals[AGREEMENT] = known
    quality = combine(signals, call.policy.judge, call.policy.reward.unjudged_weight)
    return Heard(call.decision_id, {SHADOW_AGREEMENT: agreed}, (_evidence(call, reply, quality),))


def _evidence(call: ShadowCall, reply: Reply, quality: Quality) -> Evidence:
    """Not served: feedback is about the other answer and leaves it alone. Lateness is left out, as in `settle`."""
    earned = reward(quality.estimate, reply.cost_usd, reply.latency_s, call.policy.reward)
    return Evidence(call.key, quality.weight, earned, is_served=False)


def _as_outcome(reply: Reply) -> Outcome:
    return Outcome(
        deployment_id=reply.deployment_id,
        text=reply.text,
        finish_reason=reply.finish_reason,
        is_whole=True,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        cost_usd=reply.cost_usd,
        time_to_first_token_s=None,
        latency_s=reply.latency_s,
        attempts=(),
    )
