"""Can the privacy rules of these policies be applied at all?"""

from collections.abc import Sequence

from echo_proxy.errors import PolicyError
from echo_proxy.policy import Policy
from echo_proxy.privacy import presidio


def make_ready(policies: Sequence[Policy]) -> None:
    """Load what their rules need beside patterns; where they want Presidio, this takes seconds.

    Raises:
        PolicyError: Presidio, its model or an entity is wanted and not there; it names policy, field and what to do.
    """
    for policy in policies:
        rules = policy.admission.privacy.presidio
        if rules is None:
            continue
        try:
            presidio.load(rules)
        except PolicyError as error:
            raise PolicyError(f"policy {policy.name}: {error}") from error
