"""What of an example is shared with wider scopes?"""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from echo_proxy.admission.cleanse import cleansed
from echo_proxy.policy_keeping import Breadth, PrivacyPolicy
from echo_proxy.privacy.clean import without_personal_data
from echo_proxy.protocols import Embedder
from echo_proxy.types import Example

_BREADTHS: tuple[str, ...] = get_args(Breadth)


async def copy_for(example: Example, asked: str, scope: str, rules: PrivacyPolicy, embedder: Embedder) -> Example:
    """The example as others may have it: without personal data, whatever the policy says of the original.

    Its id follows from the original's, so that it is made once and can be found by it. Raises Refused where a secret
    stands in it.
    """
    copy, _ = await cleansed(example, asked, rules, without_personal_data, embedder)
    breadth = scope.partition(":")[0]
    alone = replace(copy, uses=0.0, gain=0.0, offloads=0.0, regret=0.0, observations=())
    return replace(alone, id=f"{example.id}-{breadth}", scope=scope, origin="shared", reader="", confirmed_by=())


def with_copies(example_ids: Sequence[str]) -> list[str]:
    """Ids of examples and of all copies that there may be of them."""
    return [one for example_id in example_ids for one in (example_id, *(f"{example_id}-{name}" for name in _BREADTHS))]
