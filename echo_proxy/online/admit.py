"""Does the answer become an example? What can be told at once; admission/gate.py shows all steps in their order."""

from echo_proxy.online.combine import has_failed
from echo_proxy.online.validators import is_refusal
from echo_proxy.policy import Policy
from echo_proxy.policy_keeping import AdmissionPolicy, ExcludePolicy
from echo_proxy.types import Attempt, Caller, Example, Outcome, Plan, Quality, Request

_SHORT = 60
"""Words of an answer that may be nothing but boilerplate. # guess, not yet measured"""


def reason_to_refuse(plan: Plan, outcome: Outcome, quality: Quality, policy: Policy) -> str | None:
    """Why the answer must not be kept; None when it may go on to the gate's later steps."""
    rules, request = policy.admission, plan.request
    obstacles = (
        # opt-out and policy: the operator's word on a key always counts, receive.py knows whether its holder's does
        (request.is_unkept or request.caller.is_unkept, "opt_out"),
        (not rules.enabled, "disabled"),
        (_is_excluded(request.caller, rules.exclude), "excluded"),
        (_is_by_excluded(outcome, rules.exclude), "excluded"),
        (outcome.error is not None, "error"),
        (plan.vector is None, "no_vector"),
        (not _is_from_teacher(outcome, policy), "not_a_teacher"),
        (not outcome.may_keep, "redacted"),
        (request.n_user_turns > rules.max_turns, "turns"),
        (n_tokens(plan, outcome) > rules.max_tokens, "tokens"),
        # whole answer
        (not outcome.is_whole, "not_whole"),
        # neither refusal nor boilerplate
        (not outcome.text.strip() or is_refusal(outcome.text, policy.judge), "empty_or_refusal"),
        (is_boilerplate(outcome.text, rules), "boilerplate"),
        # validators
        (has_failed(quality.signals), "validator"),
    )
    return next((reason for stands, reason in obstacles if stands), None)


def example_from(plan: Plan, outcome: Outcome, quality: Quality, policy: Policy) -> Example:
    """The example that the answer becomes. Only for plans with a vector."""
    assert plan.vector is not None  # reason_to_refuse has seen to it
    request = plan.request
    return Example(
        id=request.decision_id,
        scope=request.scope,
        partition=request.partition,
        request=request.text,
        response=outcome.text,
        vector=plan.vector,
        teacher=outcome.deployment_id,
        decision_id=request.decision_id,
        writer=request.caller.key,
        quality=quality.estimate,
        n_tokens=n_tokens(plan, outcome),
        created_at=request.received_at,
        expires_at=request.received_at + policy.admission.ttl_s,
        system=request.system,
        wants_json=request.wants_json,
        n_turns=request.n_user_turns,
        # examples shape an answer too, and are in no key: one that was given with them is never served by itself
        answer_key="" if plan.prompt.n_examples else request.answer_key,
        counted_at=request.received_at,
        person=user_behind(request.caller),
    )


def user_behind(caller: Caller) -> str:
    """As `person` in Example: empty where the key alone is known."""
    return caller.person if caller.user else ""


def is_boilerplate(text: str, rules: AdmissionPolicy) -> bool:
    """Whether a short answer holds a phrase that says nothing about the request."""
    plain = text.lower().replace("\u2019", "'")
    return len(plain.split()) <= _SHORT and any(phrase.lower() in plain for phrase in rules.boilerplate)


def n_tokens(plan: Plan, outcome: Outcome) -> int:
    """Tokens of the pair, estimated: the question by its length (about 4 characters a token), the answer as billed."""
    return max(1, len(plan.request.text) // 4) + outcome.completion_tokens


def is_kept_from(request: Request, rules: AdmissionPolicy) -> bool:
    """Whether nothing of a request may be kept, whatever is answered."""
    is_unwanted = request.is_unkept or request.caller.is_unkept
    return is_unwanted or not rules.enabled or _is_excluded(request.caller, rules.exclude)


def _is_excluded(caller: Caller, rules: ExcludePolicy) -> bool:
    # what a key says of itself counts here whether it is believed or not: it can only keep more out
    domains = {caller.domain, caller.key_domain}
    return caller.key in rules.keys or caller.team in rules.teams or not domains.isdisjoint(rules.domains)


def _is_by_excluded(outcome: Outcome, rules: ExcludePolicy) -> bool:
    served = _served(outcome)
    return served is not None and served.deployment in rules.models


def _is_from_teacher(outcome: Outcome, policy: Policy) -> bool:
    served = _served(outcome)
    return served is not None and any(
        arm.is_teacher and arm.deployment == served.deployment for arm in policy.to_arms()
    )


def _served(outcome: Outcome) -> Attempt | None:
    """The last attempt that answered: a teacher that failed before taught nothing."""
    return next((attempt for attempt in reversed(outcome.attempts) if attempt.error is None), None)
