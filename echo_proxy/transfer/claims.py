"""What may a row of a file claim to be, in the store of this policy?

A file can say anything. What would let an example serve others, or be served as an answer by itself, is believed only
of a file that the operator trusts; the policy's rules about secrets and personal data hold for every file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from echo_proxy.policy import Policy
from echo_proxy.privacy.clean import clean, without_personal_data
from echo_proxy.transfer.foreign import Unfit
from echo_proxy.transfer.rows import Row, history_of, observations_of
from echo_proxy.types import Embedding, Example

NOBODY = "import"
"""Writer of what names none: no key's hash looks like it."""
_NO_VECTOR = np.zeros(0, dtype=np.float32)
_OF_ONE = frozenset({"key", "user"})
_ANEW = {"uses": 0.0, "gain": 0.0, "offloads": 0.0, "regret": 0.0}


@dataclass(frozen=True, slots=True)
class Claims:
    """What the command line says about a file."""

    scope: str | None = None
    """In place of what the rows say; so is the next."""
    writer: str | None = None
    is_trusted: bool = False
    """The file is our own: writers, scopes of one key or user, origin, release from quarantine, confirmations,
    observations, counts, expiry and answer keys are taken from it."""
    is_fresh: bool = False
    """Counts begin at 0."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An example that may be kept, perhaps without its vector."""

    example: Example
    text: str
    """What is embedded when it has no vector."""
    needs_vector: bool
    n_found: Mapping[str, int] = field(default_factory=dict)
    """Secrets and personal data in its texts, by kind."""


def draft_of(row: Row, text: str | None, vector: Embedding | None, claims: Claims, policy: Policy, now: float) -> Draft:
    """The example that a row becomes.

    Args:
        row: what the file says.
        text: what is embedded; None = the request.
        vector: None when it must be embedded.
        claims: what is believed of the file.
        policy: its rules about privacy, length and quarantine hold here too.
        now: seconds since the epoch.

    Raises:
        Unfit: the policy keeps no such example.
    """
    rules = policy.admission
    if row.n_turns > rules.max_turns:
        raise Unfit("turns")
    if row.n_tokens > rules.max_tokens:
        raise Unfit("tokens")
    scope, asked = claims.scope or row.scope, text if text is not None else row.request
    if not claims.is_trusted and claims.scope is None and row.scope.partition(":")[0] in _OF_ONE:
        raise Unfit("names the scope of one key or user, which takes --scope or --trusted")
    texts = (row.request, row.response, row.system, *((asked,) if asked != row.request else ()))
    cleaned = (without_personal_data if _is_wider(scope, policy) else clean)(texts, rules.privacy)
    if cleaned.rejected is not None:
        raise Unfit(f"holds {cleaned.rejected}")
    request, response, system = cleaned.texts[:3]
    left = cleaned.texts[3] if asked != row.request else request
    needs_vector = vector is None or left != asked
    changes: dict[str, Any] = {
        "request": request,
        "response": response,
        "system": system,
        "vector": _NO_VECTOR if needs_vector else vector,
        "scope": scope,
        "writer": claims.writer or (row.writer if claims.is_trusted else "") or NOBODY,
    }
    changes |= _believed(row) if claims.is_trusted else _doubted(row, changes["writer"], scope, policy, now)
    if cleaned.texts != texts:  # a changed answer is never served as it stands
        changes["answer_key"] = ""
    changes |= _ANEW | {"counted_at": now} if claims.is_fresh else {}
    return Draft(replace(_plain(row, policy, now), **changes), left, needs_vector, cleaned.n_found)


def _is_wider(scope: str, policy: Policy) -> bool:
    """A scope beside the policy's own: strangers to the writer may read there."""
    return scope.partition(":")[0] not in ("key", policy.scope)


def _plain(row: Row, policy: Policy, now: float) -> Example:
    """What any file is believed. Nothing is from the future: it would never be old enough to be evicted."""
    return Example(
        id=row.id,
        scope=row.scope,
        partition=row.partition,
        request=row.request,
        response=row.response,
        vector=_NO_VECTOR,
        teacher=row.teacher,
        decision_id=row.decision_id,
        writer=row.writer,
        quality=row.quality,
        n_tokens=row.n_tokens,
        created_at=min(row.created_at, now),
        expires_at=row.expires_at if row.expires_at > now else now + policy.admission.ttl_s,
        uses=row.uses,
        gain=row.gain,
        system=row.system,
        wants_json=row.wants_json,
        n_turns=row.n_turns,
        version=row.version,
        offloads=row.offloads,
        regret=row.regret,
        counted_at=min(row.counted_at, now),
        history=history_of(row),
    )


def _believed(row: Row) -> dict[str, Any]:
    """What only a trusted file may say."""
    return {
        "reader": row.reader,
        "confirmed_by": row.confirmed_by,
        "origin": row.origin,
        "observations": observations_of(row),
        "answer_key": row.answer_key,
        "person": row.person,
    }


def _doubted(row: Row, writer: str, scope: str, policy: Policy, now: float) -> dict[str, Any]:
    """In a scope of many it serves its writer alone until it is confirmed here, and it is no older or longer-lived than
    what is written here. What it was worth elsewhere is not known here: that decides what is evicted."""
    is_held = not scope.startswith("key:") and policy.admission.quarantine is not None
    ends_at = now + policy.admission.ttl_s
    return {
        "reader": writer if is_held else "",
        "origin": "import",
        "expires_at": min(row.expires_at, ends_at) if row.expires_at > now else ends_at,
        **_ANEW,
        "counted_at": now,
    }
