"""Examples of one policy in Redis, with vector search by RedisVL's schema and filters."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from redis.exceptions import ResponseError

from echo_proxy.errors import LeaseLost, StoreUnavailable
from echo_proxy.protocols import Clock
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.holdings import COLUMNS, holdings_of
from echo_proxy.stores.mismatch import meta_of
from echo_proxy.stores.records import MAX_OBSERVATIONS, example_fields, example_from, observation_text, vector_bytes
from echo_proxy.stores.redis_errors import is_missing_index, redis_errors
from echo_proxy.stores.redis_example_scripts import (
    CHANGE,
    FIND,
    HOLDINGS,
    OBSERVE,
    REMOVE,
    change_arguments,
    lease_value,
    which_arguments,
)
from echo_proxy.stores.redis_index import ExampleIndex, distance_of, fields_of
from echo_proxy.stores.redis_ledger import as_texts
from echo_proxy.stores.redis_part import RedisPart
from echo_proxy.stores.redis_scripts import expiry_ms
from echo_proxy.stores.redis_vectors import as_written, own_fields
from echo_proxy.types import Candidate, Example, ExamplePage, Held, HoldingsPage, Lease, Observation, Query, Which

T = TypeVar("T")

_ROUNDING = 1e-6
"""float32 distances of equal vectors differ from 0 by less."""
_AT_ONCE = 50
"""Examples written or forgotten in one step. Others wait meanwhile, and the reply must come before the timeout:
measured in an HNSW index on a busy machine, each takes up to 3 ms."""


class RedisExamples(RedisPart):
    """Examples in Redis. Whoever connects it sets its index, too."""

    def __init__(self, config: StoreConfig, clock: Clock) -> None:
        super().__init__(config, clock)
        self._index_in_use: ExampleIndex | None = None

    async def nearest(self, query: Query) -> tuple[Candidate, ...]:
        """Unexpired examples of the query's scopes and partition within its distance that may be shown to its reader,
        nearest first, k at most."""
        if query.k <= 0:
            return ()
        vector = vector_bytes(query.vector, self._config.dimensions)
        with redis_errors("nearest"):
            found = await self._searched(lambda index: index.nearest(query, vector))
        candidates = (Candidate(example_from(*one), distance_of(one)) for one in found)
        return tuple(c for c in candidates if c.distance <= query.max_distance + _ROUNDING)

    async def add(self, example: Example) -> None:
        """Keep it; an existing id is replaced. Raises SchemaMismatch on a wrong vector size, ValueError on no unit."""
        await self.add_many([example])

    async def add_many(self, examples: Sequence[Example]) -> None:
        """As `add`, fifty at a time."""
        field = self._index.field
        written = [(one, as_written(example_fields(one, self._config.dimensions), field)) for one in examples]
        for first in range(0, len(written), _AT_ONCE):
            with redis_errors("add"):
                async with self._client.pipeline(transaction=True) as pipe:
                    for example, fields in written[first : first + _AT_ONCE]:
                        key = self._keys.example(example.id)
                        pipe.unlink(key)  # what one of the same id had more must not remain
                        pipe.hset(key, mapping=fields)
                        # absolute: use does not prolong a bad example's life
                        pipe.pexpireat(key, expiry_ms(example.expires_at))
                    await pipe.execute()

    async def change(self, before: Example, after: Example, lease: Lease | None = None) -> bool:
        """Write the fields in which `after` differs, with the next version; False when the stored one is another.

        Raises LeaseLost, ValueError when the ids differ.
        """
        keys = [self._keys.example(before.id), *([self._keys.lease(lease.name)] if lease else [])]
        arguments = change_arguments(before, after, lease, self._config, self._index.field, self._clock.now())
        return bool(_unless_lost(lease, await self._run("change", CHANGE, keys, arguments)))

    async def observe(self, example_id: str, version: int, seen: Observation) -> bool:
        """Append what was seen of its answer; the newest 64 are kept. False when the example has another version."""
        arguments = [version, observation_text(seen), MAX_OBSERVATIONS]
        return bool(await self._run("observe", OBSERVE, [self._keys.example(example_id)], arguments))

    async def held_by(self, writer: str) -> Held:
        """What a writer has in the store."""
        with redis_errors("held_by"):
            return await self._searched(lambda index: index.held_by(writer, self._clock.now()))

    async def find(self, which: Which, cursor: str, limit: int) -> ExamplePage:
        """Walk through unexpired examples; "" begins. A page may hold a few more than limit, and none without being
        last; one that is written meanwhile may be missed, and any may come twice, as with SCAN."""
        arguments = [*self._walk(cursor, limit), self._clock.now(), *which_arguments(which)]
        reply = await self._run("find", FIND, [self._keys.meta], arguments)
        pairs = zip(reply[1::2], reply[2::2], strict=True)
        found = ((self._id_of(key), own_fields(fields_of(flat), self._index.field)) for key, flat in pairs)
        examples = (example_from(example_id, fields) for example_id, fields in found if fields is not None)
        return ExamplePage(tuple(examples), _next(reply[0]))

    async def holdings(self, cursor: str, limit: int) -> HoldingsPage:
        """Walk through all examples, expired ones too where they are still there; as `find`."""
        reply = await self._run("holdings", HOLDINGS, [self._keys.meta], self._walk(cursor, limit))
        after, keys, tags, packed = reply
        numbers = np.frombuffer(packed, dtype="<f8").reshape(len(keys), len(COLUMNS))
        ids, writers = [self._id_of(key) for key in keys], [one.decode() for one in tags]
        now = self._clock.now()
        return HoldingsPage(holdings_of(ids, writers, numbers, now, self._config.offload_decay), _next(after))

    async def get(self, example_id: str) -> Example | None:
        """The example, or None."""
        with redis_errors("get"):
            raw = await self._client.hgetall(self._keys.example(example_id))
        fields = own_fields({name.decode(): value for name, value in raw.items()}, self._index.field)
        if fields is None:
            return None
        example = example_from(example_id, fields)
        return example if example.expires_at > self._clock.now() else None

    async def page(self, scope: str | None, offset: int, limit: int) -> tuple[Example, ...]:
        """Examples of a scope (None = all), newest first."""
        with redis_errors("page"):
            found = await self._searched(lambda index: index.page(scope, self._clock.now(), offset, limit))
        return tuple(example_from(*one) for one in found)

    async def remove(self, example_ids: Sequence[str], lease: Lease | None = None) -> int:
        """How many existed and are gone. Raises LeaseLost; of more than fifty, some may be gone then."""
        keys = [self._keys.example(example_id) for example_id in example_ids]
        n_gone = 0
        for first in range(0, len(keys), _AT_ONCE):
            n_gone += await self._unlinked(keys[first : first + _AT_ONCE], lease)
        return n_gone

    async def _unlinked(self, keys: Sequence[str], lease: Lease | None) -> int:
        if lease is None:
            with redis_errors("remove"):
                return int(await self._client.unlink(*keys))
        reply = await self._run("remove", REMOVE, [self._keys.lease(lease.name), *keys], [lease_value(lease)])
        return _unless_lost(lease, reply)

    # ------------------------------------------------------------------ index

    @property
    def _index(self) -> ExampleIndex:
        if self._index_in_use is None:
            raise StoreUnavailable("the store must be open, got a call before open() or after close()")
        return self._index_in_use

    async def _searched(self, search: Callable[[ExampleIndex], Awaitable[T]]) -> T:
        """What the search found. An index that vanished (a flush, a new node) is made again for the next one."""
        try:
            return await search(self._index)
        except ResponseError as error:
            if not is_missing_index(error) or not await self._mend():
                raise
        return await search(self._index)

    async def _mend(self) -> bool:
        """Make an index that vanished again; whether a complete one serves, as when it was just being exchanged.

        Raises SchemaMismatch when there are no vectors of the process's model any more.
        """
        raise NotImplementedError

    async def _meta(self) -> Mapping[str, str]:
        """What the vectors were made with; noted here when it is not there."""
        for name, value in meta_of(self._config).items():
            await self._client.hsetnx(self._keys.meta, name, value)
        return as_texts(await self._client.hgetall(self._keys.meta))

    # ------------------------------------------------------------------ replies

    def _walk(self, cursor: str, limit: int) -> list[str | float]:
        return [cursor or "0", self._keys.example_pattern, max(1, limit)]

    def _id_of(self, key: bytes) -> str:
        return key.decode().removeprefix(self._keys.example_prefix)


def _next(cursor: bytes) -> str:
    """SCAN begins and ends with 0."""
    return "" if cursor == b"0" else cursor.decode()


def _unless_lost(lease: Lease | None, reply: int) -> int:
    if lease is not None and reply < 0:
        raise LeaseLost(f"lease {lease.name} must be held with fence {lease.fence}, got one that has ended")
    return int(reply)
