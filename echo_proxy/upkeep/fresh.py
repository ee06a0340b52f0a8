"""Which of the teacher's new answers may be kept, and how do they look once they are cleaned?"""

from collections.abc import Sequence
from dataclasses import dataclass

from echo_proxy.online.admit import is_boilerplate
from echo_proxy.online.combine import has_failed
from echo_proxy.online.measure import WHOLE_REASONS
from echo_proxy.online.sample import Reply
from echo_proxy.online.validators import validate
from echo_proxy.policy import Policy
from echo_proxy.privacy.clean import Cleaned, clean, without_personal_data
from echo_proxy.types import Example, Outcome


@dataclass(frozen=True, slots=True)
class Fresh:
    """An answer that may take the place of a stored one."""

    text: str
    teacher: str
    """Deployment that gave it."""
    n_tokens: int
    """Of request and answer together, estimated."""
    is_changed: bool
    """Something was taken out of it: it is never served as it stands."""


def fresh_from(reply: Reply, example: Example, policy: Policy) -> Fresh | None:
    """The reply as it may be kept; None when it may not: cut, refused, empty, failed, too long or private."""
    if _has_fault(reply, example.wants_json, policy):
        return None
    cleaned = _cleaned((example.request, reply.text), example, policy)
    text = cleaned.texts[-1]
    n_tokens = max(1, len(example.request) // 4) + reply.completion_tokens
    if cleaned.rejected or not text.strip() or n_tokens > policy.admission.max_tokens:
        return None
    return Fresh(text, reply.deployment_id, n_tokens, text != reply.text)


def _cleaned(texts: Sequence[str], example: Example, policy: Policy) -> Cleaned:
    """A copy in a wider scope holds no private data, whatever the policy says of the original."""
    wanted = without_personal_data if example.origin == "shared" else clean
    return wanted(texts, policy.admission.privacy)


def _has_fault(reply: Reply, wants_json: bool, policy: Policy) -> bool:
    if reply.finish_reason not in WHOLE_REASONS:
        return True
    has_failed_one = has_failed(validate(_as_outcome(reply), wants_json, policy.judge))
    return has_failed_one or is_boilerplate(reply.text, policy.admission)


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
