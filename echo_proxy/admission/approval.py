"""When is a judge asked about an example in quarantine?"""

from echo_proxy.online.sample import Approval, Ask, JudgeCall, is_sampled
from echo_proxy.online.verdict import as_text
from echo_proxy.policy import Policy
from echo_proxy.types import Example, Message, Prompt


def approval_call(doubted: Example, decision_id: str, witness: str, policy: Policy) -> JudgeCall | None:
    """What to ask the judge about an example that waits; None when it is not sampled, or no judge's word counts.

    It is asked when another writer has sent the same request and was answered in other words. The judge compares the
    waiting answer with one that the teacher gives afresh, to a call of our own: what the witness was answered may hang
    on odd parameters of his call.

    Args:
        doubted: the example in quarantine; its request is the witness's, word by word.
        decision_id: of the witness's request, which decides whether it is sampled.
        witness: hash of his key.
        policy: its sampled judge has a budget and a rate.
    """
    rules, quarantine = policy.judge.sampled, policy.admission.quarantine
    teachers = [arm.deployment for arm in policy.to_arms() if arm.is_teacher]
    if rules is None or quarantine is None or not quarantine.judge or not (teachers or rules.reference_group):
        return None
    if doubted.n_turns > 1 or not is_sampled(decision_id, "approve", rules.rate):
        return None
    group, deployment = (
        (rules.reference_group, "") if rules.reference_group else (policy.match.model_groups[0], teachers[0])
    )
    dialogue = (Message("user", doubted.request),)
    system = (Message("system", doubted.system),) if doubted.system else ()
    return JudgeCall(
        decision_id=decision_id,
        scope=doubted.scope,
        dialogue=as_text(doubted.system, dialogue),
        answer=doubted.response,
        reference="",
        ask_reference=Ask(group, deployment, (*system, *dialogue), Prompt(), wants_json=doubted.wants_json),
        rules=rules,
        approves=Approval(doubted.id, doubted.version, witness),
    )


def is_approved(first: float, second: float) -> bool:
    """Whether a judge found an answer at least equal, shown first and shown second."""
    return min(first, second) >= 0.5
