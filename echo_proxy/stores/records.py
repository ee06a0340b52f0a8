"""How does a record become fields that a store keeps, and back?"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from echo_proxy.errors import SchemaMismatch
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.keys import tag, untag
from echo_proxy.types import (
    ArmKey,
    DecisionRecord,
    Embedding,
    Evidence,
    Example,
    Observation,
    Replayed,
    Settlement,
)

_UNIT_TOLERANCE = 1e-3
"""Vectors quantized to 8 bit and normalized in float32 stay well within it."""
_TAGS = ("scope", "partition", "teacher", "writer", "reader", "origin")
_TEXTS = ("request", "response", "decision_id", "system", "answer_key", "person")
_NUMBERS = ("quality", "created_at", "expires_at", "uses", "gain", "offloads", "regret", "counted_at")
_WHOLE = ("n_tokens", "n_turns", "version")
FADING = ("offloads", "regret", "counted_at")
"""Fields of an example that are changed together: the first two are as of the third."""
MAX_OBSERVATIONS = 64
"""So many are kept of an example, the newest."""
EXAMPLE_FIELDS = (
    *(*_TAGS, *_TEXTS, *_NUMBERS, *_WHOLE),
    *("wants_json", "confirmed_by", "history", "observations", "vector", "n_bytes", "n_replays", "replayed_at"),
)
"""All that is stored of an example beside its id; the last three are there to be searched for."""
_SPARSE: Mapping[str, str | float] = {
    **{"system": "", "answer_key": "", "wants_json": 0, "n_turns": 1, "confirmed_by": "[]", "counted_at": 0.0},
    **{"history": "[]", "observations": "[]", "replayed_at": 0.0, "person": ""},
}
"""Left out where they have this value, which is where most examples have it. Measured in Redis: a field takes about
56 bytes even where it is empty."""
SINCE_SCHEMA_2: Mapping[str, str | float] = {
    "origin": "traffic",
    "version": 1,
    "offloads": 0.0,
    "regret": 0.0,
    "n_replays": 0,
}
"""What examples of schema 1 lack, beside `n_bytes` and `reader`; there was no quarantine, so they serve everybody."""
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
    """Fields of the example's HASH, without those that have the value of most. Raises SchemaMismatch, ValueError."""
    fields = _all_fields(example, dimensions)
    return {name: value for name, value in fields.items() if value != _SPARSE.get(name)}


def _all_fields(example: Example, dimensions: int) -> dict[str, str | float | bytes]:
    """As EXAMPLE_FIELDS."""
    out: dict[str, str | float | bytes] = {name: tag(getattr(example, name)) for name in _TAGS}
    out |= {name: writable(getattr(example, name)) for name in _TEXTS}
    out |= {name: float(getattr(example, name)) for name in _NUMBERS}
    out |= {name: int(getattr(example, name)) for name in (*_WHOLE, "wants_json")}
    out |= {"confirmed_by": json.dumps([writable(writer) for writer in example.confirmed_by])}
    out |= {name: json.dumps([asdict(one) for one in getattr(example, name)]) for name in ("history", "observations")}
    out |= {"vector": vector_bytes(example.vector, dimensions), "n_bytes": example.n_bytes}
    out |= {"n_replays": len(example.history), "replayed_at": example.history[-1].at if example.history else 0.0}
    return out


def example_from(example_id: str, found: Mapping[str, bytes]) -> Example:
    """The example whose fields these are; one that is absent takes its default.

    Only `reader` fails closed: an example that does not say whom it serves serves its writer.
    """
    values: dict[str, Any] = {name: read(found[name]) for name, read in _READ.items() if name in found}
    return Example(id=example_id, **({"reader": values.get("writer", "")} | values))


def changed_fields(before: Example, after: Example, dimensions: int) -> dict[str, str | float | bytes]:
    """Fields of the HASH that differ, without the version. Raises ValueError when they are not the same example."""
    if before.id != after.id:
        raise ValueError(f"a change must keep the id {before.id}, got {after.id}")
    old = _all_fields(before, dimensions)
    new = _all_fields(after, dimensions)
    return {name: new[name] for name in EXAMPLE_FIELDS if new[name] != old[name] and name != "version"}


def observation_text(seen: Observation) -> str:
    """As it stands in the list of an example's observations."""
    check_finite("an observation", (seen.distance, seen.at))
    return json.dumps(asdict(seen))


def _untag(raw: bytes) -> str:
    return untag(raw.decode())


def _replays(raw: bytes) -> tuple[Replayed, ...]:
    return tuple(Replayed(**known) for known in _known(Replayed, raw))


def _observations(raw: bytes) -> tuple[Observation, ...]:
    return tuple(Observation(**known) for known in _known(Observation, raw))


def _known(kind: type[Replayed] | type[Observation], raw: bytes) -> Iterable[dict[str, Any]]:
    """What a later version has more is left out."""
    names = {field.name for field in fields(kind)}
    return ({name: value for name, value in one.items() if name in names} for one in json.loads(raw))


_READ: Mapping[str, Callable[[bytes], Any]] = {
    **dict.fromkeys(_TAGS, _untag),
    **dict.fromkeys(_TEXTS, bytes.decode),
    **dict.fromkeys(_NUMBERS, float),
    **dict.fromkeys(_WHOLE, int),
    "wants_json": lambda raw: raw == b"1",
    "confirmed_by": lambda raw: tuple(json.loads(raw)),
    "history": _replays,
    "observations": _observations,
    "vector": vector_from,
}
"""How a field of the HASH becomes one of the example."""


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
        numbers = (change.uses, change.gain, change.offloads, change.regret)
        check_finite(f"increment of example {change.example_id}", numbers)


def check_finite(name: str, values: Iterable[float]) -> None:
    """Raises ValueError unless all values are finite."""
    for value in values:
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")
