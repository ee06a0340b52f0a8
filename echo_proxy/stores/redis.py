"""Examples, decisions and evidence of one policy in Redis, with vector search by RedisVL's schema and filters."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.exceptions import ResponseError

from echo_proxy.errors import StoreError, StoreUnavailable
from echo_proxy.protocols import Clock, Reembedding
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.mismatch import check_meta, meta_of
from echo_proxy.stores.records import example_fields, example_from, vector_bytes
from echo_proxy.stores.redis_connect import connect
from echo_proxy.stores.redis_engine import check_search, engine_name, wait_until_loaded
from echo_proxy.stores.redis_errors import is_missing_index, redis_errors
from echo_proxy.stores.redis_index import ExampleIndex, Found, SlotClient, distance_of
from echo_proxy.stores.redis_ledger import RedisLedger, as_texts
from echo_proxy.stores.redis_reembed import RedisReembedding
from echo_proxy.stores.redis_scripts import expiry_ms
from echo_proxy.types import Candidate, Example, Query, StoreStatus

_ROUNDING = 1e-6
"""float32 distances of equal vectors differ from 0 by less."""


class RedisStore(RedisLedger):
    """A Store in Redis 8 or later, or any Redis with the search module. Belongs to one event loop."""

    def __init__(
        self,
        config: StoreConfig,
        url: str,
        clock: Clock,
        *,
        connect_timeout_s: float = 0.5,
        read_timeout_s: float = 0.5,
        open_timeout_s: float = 5.0,
    ) -> None:
        super().__init__(config, clock)
        self._url = url
        self._timeouts = (connect_timeout_s, read_timeout_s)
        self._open_timeout_s = open_timeout_s
        self._index_in_use: ExampleIndex | None = None

    # ------------------------------------------------------------------ life

    async def open(self) -> None:
        """Connect, make or check the index, and wait until it is searchable; may be called again.

        Raises SchemaMismatch, StoreError when the server has no vector search, StoreUnavailable when it does not
        answer or is still building its index after open_timeout_s.
        """
        try:
            with redis_errors("opening"):
                await self._connect()
                await self._check_meta()
                index = ExampleIndex(self._config, self._search_client())
                await index.ensure()
                await index.wait(self._open_timeout_s)
                self._index_in_use = index
        except BaseException:
            await self._disconnect()
            raise

    @asynccontextmanager
    async def reembedding(self) -> AsyncIterator[Reembedding | None]:
        """Locks all others out; None when the vectors fit already. Raises as `open`."""
        try:
            with redis_errors("opening"):
                await self._connect()
                meta = await self._meta()
            index = ExampleIndex(self._config, self._search_client())
            work = RedisReembedding(self._config, self._client, index, self._clock, self._open_timeout_s)
            yield work if await work.begin(meta) else None
        finally:
            await self.close()

    async def _connect(self) -> None:
        """To a server that has loaded its data and can search."""
        await self._disconnect()
        self._connection = connect(self._url, *self._timeouts)
        await wait_until_loaded(self._client, self._keys.meta, self._open_timeout_s)
        await check_search(self._search_client())

    async def close(self) -> None:
        """Let go of connections; idempotent."""
        await self._disconnect()

    async def _disconnect(self) -> None:
        connection, self._connection, self._index_in_use = self._connection, None, None
        if connection is not None:
            with redis_errors("closing"):
                await connection.aclose()

    async def status(self) -> StoreStatus:
        """Whether it can serve; never raises."""
        try:
            with redis_errors("status"):
                engine, state = await engine_name(self._search_client()), await self._index.state()
        except StoreError as error:
            return StoreStatus(False, "Redis", 0, str(error))
        detail = "" if state.share_built >= 1.0 else f"the index is built to {state.share_built:.0%}"
        return StoreStatus(not detail, engine, state.n_examples, detail)

    @property
    def _index(self) -> ExampleIndex:
        if self._index_in_use is None:
            raise StoreUnavailable("the store must be open, got a call before open() or after close()")
        return self._index_in_use

    def _search_client(self) -> Any:
        is_cluster = "+cluster:" in self._url
        return SlotClient(self._client, self._keys.root) if is_cluster else self._client

    async def _check_meta(self) -> None:
        check_meta(await self._meta(), self._config)

    async def _meta(self) -> Mapping[str, str]:
        """What the vectors were made with; noted here when it is not there."""
        for name, value in meta_of(self._config).items():
            await self._client.hsetnx(self._keys.meta, name, value)
        return as_texts(await self._client.hgetall(self._keys.meta))

    # ------------------------------------------------------------------ examples

    async def nearest(self, query: Query) -> tuple[Candidate, ...]:
        """Unexpired examples of the query's scope and partition within its distance, nearest first, k at most."""
        if query.k <= 0:
            return ()
        vector = vector_bytes(query.vector, self._config.dimensions)
        with redis_errors("nearest"):
            found = await self._searched(self._index.nearest(query, vector))
        candidates = (Candidate(example_from(*one), distance_of(one)) for one in found)
        return tuple(c for c in candidates if c.distance <= query.max_distance + _ROUNDING)

    async def add(self, example: Example) -> None:
        """Keep it; an existing id is replaced. Raises SchemaMismatch on a wrong vector size, ValueError on no unit."""
        fields = example_fields(example, self._config.dimensions)
        key = self._keys.example(example.id)
        with redis_errors("add"):
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.hset(key, mapping=fields)
                pipe.pexpireat(
                    key, expiry_ms(example.expires_at)
                )  # absolute: use does not prolong a bad example's life
                await pipe.execute()

    async def get(self, example_id: str) -> Example | None:
        """The example, or None."""
        with redis_errors("get"):
            raw = await self._client.hgetall(self._keys.example(example_id))
        if not raw:
            return None
        example = example_from(example_id, {name.decode(): value for name, value in raw.items()})
        return example if example.expires_at > self._clock.now() else None

    async def page(self, scope: str | None, offset: int, limit: int) -> tuple[Example, ...]:
        """Examples of a scope (None = all), newest first."""
        with redis_errors("page"):
            found = await self._searched(self._index.page(scope, self._clock.now(), offset, limit))
        return tuple(example_from(*one) for one in found)

    async def remove(self, example_ids: Sequence[str]) -> int:
        """How many existed and are gone."""
        if not example_ids:
            return 0
        with redis_errors("remove"):
            return int(await self._client.unlink(*(self._keys.example(example_id) for example_id in example_ids)))

    async def _searched(self, search: Any) -> list[Found]:
        """What the search found. An index that vanished (a flush, a new node) is made again for the next one."""
        try:
            return list(await search)
        except ResponseError as error:
            if is_missing_index(error):
                await self._check_meta()
                await self._index.ensure()
            raise
