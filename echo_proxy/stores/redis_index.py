"""The search index of one policy's examples: its schema and its queries."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError
from redisvl.query.filter import FilterExpression, Num, Tag
from redisvl.schema import IndexSchema

from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.keys import Keys, tag
from echo_proxy.stores.redis_errors import is_missing_index
from echo_proxy.stores.redis_vectors import alias_of, own_fields
from echo_proxy.types import Held, Query

_TAG = {"case_sensitive": True}
"""TAGs fold case by default, which would mix scopes that differ in nothing else."""
_TAGS = ("scope", "partition", "teacher", "writer", "reader", "origin")
_NUMBERS = ("expires_at", "quality", "uses", "gain", "offloads", "regret", "n_tokens", "n_replays")
_SORTABLE = ("created_at", "n_bytes")
"""Numbers that the index holds a copy of: a sum over them is three times as fast, measured."""
_HNSW = {"m": 16, "ef_construction": 200, "ef_runtime": 100}
"""recall@10 of 1.0 at 100,000 examples in 0.4 ms, measured with 384 dimensions."""

Found = tuple[str, Mapping[str, bytes]]
"""An example's id and the fields of its HASH, with `distance` when it was found by distance."""


@dataclass(frozen=True, slots=True)
class IndexState:
    """How far an index is built."""

    n_examples: int
    share_built: float
    """[0, 1]; below 1, searches find only a part."""


@dataclass(frozen=True, slots=True)
class Cover:
    """What an index can search for."""

    kind: str
    """flat or hnsw."""
    dimensions: int
    names: frozenset[str]
    """Of the fields."""


def schema(config: StoreConfig, field: str) -> IndexSchema:
    """What an index over the vectors of one field covers. `request`, `response` and `decision_id` are kept beside it
    and not indexed. Its name tells all that it covers, so that two that differ never share one."""
    keys = Keys(config.policy)
    vector = {"algorithm": config.index, "dims": config.dimensions, "distance_metric": "cosine", "datatype": "float32"}
    fields: list[dict[str, Any]] = [
        *({"name": name, "type": "tag", "attrs": _TAG} for name in _TAGS),
        *({"name": name, "type": "numeric"} for name in _NUMBERS),
        *({"name": name, "type": "numeric", "attrs": {"sortable": True}} for name in _SORTABLE),
        {"name": field, "type": "vector", "attrs": vector | (_HNSW if config.index == "hnsw" else {})},
    ]
    digest = hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:8]
    name = f"{alias_of(keys, field)}@{config.index}.{config.dimensions}.{digest}"
    place = {"name": name, "prefix": keys.example_prefix, "key_separator": "", "storage_type": "hash"}
    return IndexSchema.from_dict({"index": place, "fields": fields})


class SlotClient:
    """A cluster's client whose searches go to the node that holds the policy's slot.

    A search command names no key, so the cluster's client would send it to any node, and only that one has the keys.
    """

    def __init__(self, cluster: Any, key: str) -> None:
        self._cluster = cluster
        self._key = key

    def ft(self, name: str) -> Any:
        """Search commands on an index."""
        commands = self._cluster.ft(name)
        commands.execute_command = self.execute_command
        return commands

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Any command without a key. The node is looked up each time, because slots move."""
        await self._cluster.initialize()
        node = self._cluster.get_node_from_key(self._key)
        return await self._cluster.execute_command(*args, target_nodes=node, **options)


class ExampleIndex:
    """Searches in the index of one policy over the vectors of one field. Raises what redis-py raises."""

    def __init__(self, config: StoreConfig, client: Any, field: str) -> None:
        self._keys = Keys(config.policy)
        self._name = alias_of(self._keys, field)
        self._client = client
        self.field = field

    async def state(self) -> IndexState:
        """How far it is. Raises when it is not there."""
        return state_of(await self._client.ft(self._name).info())

    async def nearest(self, query: Query, vector: bytes) -> list[Found]:
        """The k nearest of the query's scopes and partition that may be shown to its reader and have not expired,
        nearest first."""
        which = _alive(query.now) & _is("scope", query.scope, *query.wider) & _is("partition", query.partition)
        if query.reader is not None:
            which &= _is("reader", "", query.reader)
        return await self._search(
            f"{which}=>[KNN {query.k} @{self.field} $vector AS distance]",
            *("SORTBY", "distance", "LIMIT", 0, query.k, "PARAMS", 2, "vector", vector),
        )

    async def page(self, scope: str | None, now: float, offset: int, limit: int) -> list[Found]:
        """Examples that have not expired, newest first."""
        which = _alive(now) if scope is None else _alive(now) & _is("scope", scope)
        return await self._search(str(which), "SORTBY", "created_at", "DESC", "LIMIT", offset, limit)

    async def held_by(self, writer: str, now: float) -> Held:
        """How many examples a writer has, and their bytes."""
        which = str(_alive(now) & _is("writer", writer))
        sums = ("REDUCE", "COUNT", 0, "AS", "n_examples", "REDUCE", "SUM", 1, "@n_bytes", "AS", "n_bytes")
        command = ("FT.AGGREGATE", self._name, which, "GROUPBY", 0, *sums, "DIALECT", 2)
        reply = await self._client.execute_command(*command)
        found = fields_of(reply[1]) if len(reply) > 1 else {}
        return Held(int(found.get("n_examples", 0)), int(float(found.get("n_bytes", 0))))

    async def _search(self, query: str, *options: str | int | bytes) -> list[Found]:
        """One raw FT.SEARCH: RedisVL's own would decode every field, the vector too, as text."""
        command = ("FT.SEARCH", self._name, query, *options, "DIALECT", 2)
        reply = await self._client.execute_command(*command)
        pairs = ((key, own_fields(fields, self.field)) for key, fields in self._found(reply))
        return [(key, fields) for key, fields in pairs if fields is not None]

    def _found(self, reply: Sequence[Any]) -> list[Found]:
        """Parse [count, key, [name, value, ...], key, ...]. A key that expired meanwhile comes without fields."""
        n = len(self._keys.example_prefix.encode())
        pairs = zip(reply[1::2], reply[2::2], strict=True)
        return [(key[n:].decode(), fields_of(flat)) for key, flat in pairs if flat]


async def described(client: Any, name: str) -> Mapping[str, Any] | None:
    """What FT.INFO tells of an index, or of the one that an alias stands for; None when there is none."""
    try:
        found: Mapping[str, Any] = await client.ft(name).info()
    except ResponseError as error:
        if is_missing_index(error):
            return None
        raise
    return found


def state_of(info: Mapping[str, Any] | None) -> IndexState:
    """From what FT.INFO tells."""
    if info is None:
        return IndexState(0, 0.0)
    share = float(info["percent_indexed"])
    return IndexState(int(info["num_docs"]), min(share, 0.99) if int(info["indexing"]) else share)


def _is(field: str, *values: str) -> FilterExpression:
    """One of these."""
    return Tag(field) == list(dict.fromkeys(tag(value) for value in values))


def _alive(now: float) -> FilterExpression:
    """Not expired, said as a negation: of the expired few are left, so their list is short. A third faster."""
    return FilterExpression(f"(-{Num('expires_at') <= now})")


def fields_of(flat: Sequence[bytes]) -> dict[str, bytes]:
    """The fields of a HASH from [name, value, ...]."""
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def distance_of(found: Found) -> float:
    """Clamped: the distance to itself may be -1e-7. Infinite for NaN, which nothing is near to."""
    distance = float(found[1]["distance"])
    return math.inf if math.isnan(distance) else min(2.0, max(0.0, distance))


def cover_of(info: Mapping[str, Any]) -> Cover:
    """From the flat lists in which FT.INFO describes the fields."""
    kind, dimensions, names = "", 0, set()
    for attribute in info["attributes"]:
        words = [word.decode() if isinstance(word, bytes) else str(word) for word in attribute]
        names.add(words[words.index("attribute") + 1])
        if "algorithm" in words:
            kind, dimensions = words[words.index("algorithm") + 1].lower(), int(words[words.index("dim") + 1])
    return Cover(kind, dimensions, frozenset(names))
