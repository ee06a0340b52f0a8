"""How does a record become fields that a store keeps, and back?"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from echo_proxy.errors import SchemaMismatch
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.keys import tag, untag
from echo_proxy.types import ArmKey, DecisionRecord, Embedding, Evidence, Example, Settlement

_UNIT_TOLERANCE = 1e-3
"""Vectors quantized to 8 bit and normalized in float32 stay well within it."""
_TAGS = ("scope", "partition", "teacher", "writer")
_TEXTS = ("request", "response", "decision_id")
_NUMBERS = ("quality", "created_at", "expires_at", "uses", "gain")
_PLAIN = frozenset({"id", "policy", "scope", "arm", "segment", "served_by", "admitted_id"})
"""Fields of a decision that are text; all others are kept as JSON."""


def vector_bytes(vector: Embedding, dimensions: int) -> bytes:
    """Little-endian float32, 4 bytes per dimension.

    Raises SchemaMismatch on a wrong size, which the search engine would silently not index, and ValueError on a
    vector that is not a unit vector, whose distances would mean nothing.
    """
    if vector.shape != (dimensions,):
        raise SchemaMismatch(f"a vector must have shape ({dimensions},), got {vector.shape}")
    norm = float(np.linalg.norm(vector))
    if not abs(norm - 1.0) <= _UNIT_TOLERANCE:  # also catches NaN
        raise ValueError(f"a vector must have length 1, got {norm}")
    return np.ascontiguousarray(vector, dtype="<f4").tobytes()


def vector_from(raw: bytes) -> Embedding:
    """The vector, shape (len(raw) / 4,), read-only."""
    return np.frombuffer(raw, dtype="<f4")


def writable(text: str) -> str:
    """The text with half surrogate pairs, which no UTF-8 can hold, replaced by question marks."""
    return text.encode("utf-8", "replace").decode()


def example_fields(example: Example, dimensions: int) -> dict[str, str | float | bytes]:
    """Fields of the example's HASH. Raises SchemaMismatch, ValueError."""
    out: dict[str, str | float | bytes] = {name: tag(getattr(example, name)) for name in _TAGS}
    out |= {name: writable(getattr(example, name)) for name in _TEXTS}
    out |= {name: float(getattr(example, name)) for name in _NUMBERS}
    out |= {"n_tokens": example.n_tokens, "vector": vector_bytes(example.vector, dimensions)}
    return out


def example_from(example_id: str, found: Mapping[str, bytes]) -> Example:
    """The example whose fields these are."""
    tags: dict[str, Any] = {name: untag(found[name].decode()) for name in _TAGS}
    texts: dict[str, Any] = {name: found[name].decode() for name in _TEXTS}
    numbers: dict[str, Any] = {name: float(found[name]) for name in _NUMBERS}
    return Example(
        id=example_id,
        vector=vector_from(found["vector"]),
        n_tokens=int(found["n_tokens"]),
        **tags,
        **texts,
        **numbers,
    )


def decision_fields(record: DecisionRecord) -> dict[str, str]:
    """Fields of the decision's HASH: plain text where it is text, JSON elsewhere."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    values["evidence"] = [
        {"arm": e.key.arm, "segment": e.key.segment, "weight": e.weight, "reward": e.reward, "is_served": e.is_served}
        for e in record.evidence
    ]
    values |= {"explanation": dict(record.explanation), "signals": dict(record.signals)}
    return {name: value if name in _PLAIN else json.dumps(value) for name, value in values.items()}


def decision_from(found: Mapping[str, str]) -> DecisionRecord:
    """The decision whose fields these are; one that was added since it was stored takes its default."""
    values: dict[str, Any] = {
        field.name: found[field.name] if field.name in _PLAIN else json.loads(found[field.name])
        for field in fields(DecisionRecord)
        if field.name in found
    }
    values["evidence"] = tuple(
        Evidence(ArmKey(e["arm"], e["segment"]), e["weight"], e["reward"], e["is_served"]) for e in values["evidence"]
    )
    values["example_ids"] = tuple(values["example_ids"])
    return DecisionRecord(**values)


def decision_end(record: DecisionRecord, config: StoreConfig) -> float:
    """When the decision is forgotten, seconds since the epoch."""
    return min(record.expires_at, record.created_at + config.decision_ttl_s)


def check_settlement(settlement: Settlement) -> None:
    """Raises ValueError on a number that could never be taken out of the sums again."""
    for increment in settlement.increments:
        sums = increment.sums
        check_finite(f"increment of {increment.key.arm}", (sums.weight, sums.reward_sum, sums.reward_sq_sum))
    for change in settlement.example_increments:
        check_finite(f"increment of example {change.example_id}", (change.uses, change.gain))


def check_finite(name: str, values: Iterable[float]) -> None:
    """Raises ValueError unless all values are finite."""
    for value in values:
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")
