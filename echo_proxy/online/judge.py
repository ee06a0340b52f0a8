"""How good was the answer, and how sure are we?"""

from echo_proxy.online.agreement import agreement_with_examples
from echo_proxy.online.combine import AGREEMENT, combine
from echo_proxy.online.validators import validate
from echo_proxy.policy import Policy
from echo_proxy.types import Outcome, Plan, Quality


def appraise(plan: Plan, outcome: Outcome, policy: Policy) -> Quality:
    """Quality by what can be told at once: validators, and agreement with the chosen examples' answers.

    Validators can only show that an answer is bad: when all are content they weigh `reward.unjudged_weight`, a failed
    one weighs 1. More signals may come later; `combine` then computes the quality afresh.
    """
    signals = validate(outcome, plan.request.wants_json, policy.judge)
    agreed = agreement_with_examples(outcome.text, plan.selection.chosen) if outcome.error is None else None
    if agreed is not None:
        signals[AGREEMENT] = agreed
    return combine(signals, policy.judge, policy.reward.unjudged_weight)
