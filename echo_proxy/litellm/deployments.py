"""What does a deployment of LiteLLM say of itself?"""

from collections.abc import Mapping, Sequence
from typing import Any

import litellm

Deployment = Mapping[str, Any]
"""One of LiteLLM's deployments."""


def id_of(deployment: Deployment) -> str:
    """Its `model_info.id`."""
    return str((deployment.get("model_info") or {}).get("id") or "")


def names_of(deployments: Sequence[Deployment]) -> frozenset[str]:
    """All names by which arms may know them."""
    return frozenset(name for one in deployments for name in (id_of(one), _model(one)) if name)


def named(name: str | None, deployments: Sequence[Deployment]) -> Sequence[Deployment]:
    """Those that go by the name; all when none does, because an empty list would be an error to the caller."""
    return [one for one in deployments if name in (id_of(one), _model(one))] or deployments


def rooms_of(deployments: Sequence[Deployment]) -> dict[str, int]:
    """Context in tokens by name, the smallest where replicas share one; deployments of unknown size are left out."""
    rooms: dict[str, int] = {}
    for one in deployments:
        room = _room(one)
        for name in (id_of(one), _model(one)) if room else ():
            rooms[name] = min(room, rooms.get(name, room))
    return rooms


def _model(deployment: Deployment) -> str:
    return str((deployment.get("litellm_params") or {}).get("model") or "")


def _room(deployment: Deployment) -> int:
    info = deployment.get("model_info") or {}
    local = info.get("llama_cpp") or {}
    listed = litellm.model_cost.get(_model(deployment).partition("/")[2], {})
    return int(info.get("max_input_tokens") or local.get("n_ctx") or listed.get("max_input_tokens") or 0)
