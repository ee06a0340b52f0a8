"""What becomes of a stream that fails before its first word?

LiteLLM retries calls that are not streamed, and asks Echo again which deployment shall answer. A stream that fails
before its first word is only given to a fallback, though the caller has got nothing yet. So its own model group is made
the first fallback of a streamed chat call: Echo then chooses another arm as after any failed attempt.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

_ANY = "*"
"""Key of LiteLLM's fallbacks for all groups."""
_CALL_TYPES = frozenset({"acompletion", "completion"})
"""Streams of the other endpoints are retried by LiteLLM itself."""


def give_second_chance(data: MutableMapping[str, Any], call_type: str, configured: object) -> bool:
    """Add the fallback to a call; False, and nothing changed, where it is not needed or the caller has other wishes.

    Args:
        data: LiteLLM's request, changed in place.
        call_type: LiteLLM's name of the endpoint.
        configured: the router's `fallbacks`; those of the group come after ours.
    """
    if call_type not in _CALL_TYPES or data.get("stream") is not True:
        return False
    if data.get("fallbacks") is not None or data.get("disable_fallbacks"):
        return False
    group = str(data.get("model"))
    data["fallbacks"] = [{group: [_again(group), *_configured_for(group, configured)]}]
    return True


def _again(group: str) -> Mapping[str, Any]:
    """The bare name of the group that failed would be skipped; so LiteLLM itself asks for the same group once more."""
    return {"model": group, "_excluded_deployment_ids": []}


def _configured_for(group: str, configured: object) -> Sequence[Any]:
    """As LiteLLM looks them up: those of the group, else those of all."""
    items = configured if isinstance(configured, Sequence) and not isinstance(configured, str) else ()
    by_key = {key: value for item in items if isinstance(item, Mapping) for key, value in item.items()}
    found = by_key.get(group, by_key.get(_ANY))
    return found if isinstance(found, Sequence) and not isinstance(found, str) else ()
