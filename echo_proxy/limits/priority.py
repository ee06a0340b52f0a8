"""How urgent is a request?"""

from echo_proxy.policy import PriorityPolicy
from echo_proxy.types import Request


def priority_of(request: Request, rules: PriorityPolicy) -> int:
    """Rank in the queue of a local model, [-100, 100]: the caller's where the policy hears it, else the policy's."""
    return request.priority if request.priority is not None and rules.allow_client else rules.default
