"""What stands in a file of examples? Its header, its rows, and their JSON Schema.

A file is JSON Lines in UTF-8: the header first, then one example a line. The names are those of `types.Example`.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from echo_proxy.transfer.vectors import VectorType, vector_text
from echo_proxy.types import Example, Observation, Origin, Replayed

SCHEMA_VERSION: Literal[1] = 1
"""Goes up when an older reader would misread a newer file."""

_Share = Annotated[float, Field(ge=0, le=1)]
_Amount = Annotated[float, Field(ge=0)]
_Moment = Annotated[float, Field(ge=0, le=1e11)]
"""Seconds since the epoch; milliseconds are refused."""
_Tag = Annotated[str, Field(max_length=2000)]
"""A store keeps a tag of 2,000 bytes at most, in which a character may take up to twelve."""
_WHOLE = 2**53
"""Larger whole numbers are not the same in every program that reads JSON."""
_Text = Annotated[str, Field(max_length=8_000_000)]


class _Strict(BaseModel):
    """Unknown fields, wrong types and out-of-range values are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, strict=True, allow_inf_nan=False
    )


class Header(_Strict):
    """The first line."""

    echo_proxy_examples: Literal[1] = SCHEMA_VERSION
    """Version of this schema."""
    model: str
    """Embedding model that made the vectors."""
    dimensions: int = Field(ge=1, le=65_536)
    """Length of a vector."""
    vectors: VectorType | None
    """How the numbers of a vector are kept; null = the rows carry none."""
    policy: str
    """Name of the policy whose examples these are."""
    exported_at: _Moment
    """Seconds since the epoch, as are all times here."""
    exported_by: str = ""
    """Program and version."""


class ReplayedRow(_Strict):
    """A replay of the example: its request was answered again, and the best answer was kept."""

    at: _Moment
    teacher: str
    """Deployment that was asked."""
    n_answers: int = Field(ge=0, le=_WHOLE)
    is_replaced: bool
    """One of its answers was better than the stored one."""
    verdict: _Share
    """Of the best one against the stored one; 0.5 = equal."""
    replaced: str = ""
    """First 16 hex digits of the SHA-256 of the answer that was given up."""


class ObservationRow(_Strict):
    """Whether the stored answer was right for another request."""

    distance: float = Field(ge=0, le=2)
    """Cosine distance of that request to the example's."""
    is_correct: bool
    at: _Moment
    witness: _Tag = ""
    """Hash of the person whose request it was."""


class Row(_Strict):
    """One example."""

    id: str = Field(pattern=r"^[!-~]{1,200}$")
    """Printable ASCII without blanks. One id is one example: importing it again adds nothing."""
    scope: _Tag = Field(min_length=1)
    """Who may use it, as `<kind>:<identity>`, e.g. `team:red`."""
    partition: _Tag
    """Hash of system prompt and response format: only requests that agree in it use it."""
    request: _Text = Field(min_length=1)
    response: _Text = Field(min_length=1)
    teacher: _Tag
    """Deployment that gave the response."""
    writer: _Tag
    """Hash of the key under which it was written."""
    decision_id: str = Field(max_length=2000)
    """Decision in which the response was given."""
    quality: _Share
    """Estimated quality of the response."""
    n_tokens: int = Field(ge=0, le=_WHOLE)
    """Tokens of request and response together, estimated."""
    created_at: _Moment
    expires_at: _Moment
    system: _Text = ""
    """System prompt under which it was asked."""
    wants_json: bool = False
    """Its answer had to be a JSON object."""
    n_turns: int = Field(default=1, ge=1, le=_WHOLE)
    """User turns of its dialogue; the request is the last one."""
    answer_key: _Tag = ""
    """Hash of all that shapes the answer beside the last turn; empty = the answer is never served by itself."""
    reader: _Tag = ""
    """The only key that it serves while it is in quarantine; empty = everybody in its scope."""
    confirmed_by: tuple[_Tag, ...] = Field(default=(), max_length=1000)
    """Others whose teachers gave the same answer: hashes of key, user and team, with blanks between."""
    origin: Origin = "traffic"
    """How it came to be."""
    version: int = Field(default=1, ge=1, le=_WHOLE)
    """How often it was changed, plus one."""
    uses: _Amount = 0.0
    """Summed evidence weight of the answers that were given with it."""
    gain: _Amount = 0.0
    """Summed weight * quality of those answers, at most `uses`."""
    offloads: _Amount = 0.0
    """Successful offloads with it, faded as of `counted_at`."""
    regret: _Amount = 0.0
    """What a better answer could bring, faded likewise."""
    counted_at: _Moment = 0.0
    history: tuple[ReplayedRow, ...] = Field(default=(), max_length=1000)
    """Its replays, oldest first."""
    observations: tuple[ObservationRow, ...] = Field(default=(), max_length=1000)
    """What is known of its answer as an answer to other requests, oldest first."""
    person: _Tag = ""
    """Hash of the user behind the writer's key; empty = none is known."""
    vector: str | None = None
    """Base64 of the unit vector's numbers, little-endian; null or absent = embedded from the request."""


_FIELDS = tuple(name for name in Row.model_fields if name not in ("vector", "history", "observations", "confirmed_by"))
_HISTORY = tuple(ReplayedRow.model_fields)
_OBSERVATION = tuple(ObservationRow.model_fields)


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one line of a file: a header or an example."""
    schema = TypeAdapter[Any](Header | Row).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Echo Proxy examples", **schema}


def row_of(example: Example, vectors: VectorType | None) -> dict[str, Any]:
    """The example as JSON's own types, in the order of the schema; the vector only where one is asked for."""
    row: dict[str, Any] = {name: getattr(example, name) for name in _FIELDS}
    row["confirmed_by"] = list(example.confirmed_by)
    row["history"] = [{name: getattr(one, name) for name in _HISTORY} for one in example.history]
    row["observations"] = [{name: getattr(one, name) for name in _OBSERVATION} for one in example.observations]
    if vectors is not None:
        row["vector"] = vector_text(example.vector, vectors)
    return {name: value for name, value in row.items() if not isinstance(value, float) or math.isfinite(value)}


def history_of(row: Row) -> tuple[Replayed, ...]:
    """Its replays."""
    return tuple(Replayed(**{name: getattr(one, name) for name in _HISTORY}) for one in row.history)


def observations_of(row: Row) -> tuple[Observation, ...]:
    """What was seen of its answer."""
    return tuple(Observation(one.distance, one.is_correct, one.at, one.witness) for one in row.observations)
