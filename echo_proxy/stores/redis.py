"""The store of one policy in Redis: its life from opening to closing, over its parts."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from echo_proxy.errors import StoreError, StoreUnavailable
from echo_proxy.protocols import Clock, Reembedding
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.mismatch import SCHEMA, UPGRADED, UPGRADING, check_schema, is_older
from echo_proxy.stores.records import SINCE_SCHEMA_2
from echo_proxy.stores.redis_connect import connect
from echo_proxy.stores.redis_engine import check_search, engine_name, wait_until_loaded
from echo_proxy.stores.redis_errors import redis_errors
from echo_proxy.stores.redis_example_scripts import BEGIN_UPGRADE, UPGRADE
from echo_proxy.stores.redis_examples import RedisExamples
from echo_proxy.stores.redis_index import ExampleIndex, SlotClient
from echo_proxy.stores.redis_leases import RedisLeases
from echo_proxy.stores.redis_ledger import RedisLedger
from echo_proxy.stores.redis_reembed import RedisReembedding
from echo_proxy.stores.redis_switch import IndexSwitch
from echo_proxy.stores.redis_vectors import field_in_use, field_to_fill
from echo_proxy.types import StoreStatus

_TEND_S = 0.2
"""Between two looks at an index that is being built: a fraction of what building a thousand examples takes."""
_RETRY_S = 5.0
"""After an error."""


class RedisStore(RedisExamples, RedisLedger, RedisLeases):
    """A Store in Redis 8 or later, or any Redis with the search module. Belongs to one event loop."""

    locks_out = False
    """Proxies go on while its examples are given vectors of another model."""

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
        self._has_wished = False
        self._tending: asyncio.Task[None] | None = None
        self._being_built = ""

    # ------------------------------------------------------------------ life

    async def open(self) -> None:
        """Connect, make or check the index, and wait until one is searchable; may be called again.

        When an index of another kind serves, the wished one is built beside it in the background. Raises
        SchemaMismatch, StoreError when the server has no vector search, StoreUnavailable when it does not answer or is
        still building its only index after open_timeout_s.
        """
        try:
            with redis_errors("opening"):
                await self._connect()
                meta = await self._meta()
                switch = self._switch_of(field_in_use(meta, self._config))
                await self._upgrade(meta)
                await switch.begin(self._open_timeout_s, is_wish=not self._has_wished)
            self._has_wished = True
            self._use(switch)
        except BaseException:
            await self._disconnect()
            raise

    @asynccontextmanager
    async def reembedding(self) -> AsyncIterator[Reembedding | None]:
        """Others may use the store meanwhile; None when all examples have vectors of the process's model already.

        Raises as `open`.
        """
        try:
            with redis_errors("opening"):
                await self._connect()
                meta = await self._meta()
                check_schema(meta, self._config)
                await self._upgrade(meta)
                switch = self._switch_of(field_to_fill(meta, self._config))
            work = self._reembedding_of(switch)
            yield work if await work.begin(meta) else None
        finally:
            await self.close()

    async def forget_others(self) -> int:
        """Drop the vectors and indexes of all other models; how many examples had some.

        No proxy may use them any more. Raises SchemaMismatch, StoreError while an example has no vector of the
        process's model.
        """
        try:
            with redis_errors("opening"):
                await self._connect()
                meta = await self._meta()
                switch = self._switch_of(field_in_use(meta, self._config))
            return await self._reembedding_of(switch).forget_others()
        finally:
            await self.close()

    def _reembedding_of(self, switch: IndexSwitch) -> RedisReembedding:
        return RedisReembedding(self._config, self._client, switch, self._clock, self._open_timeout_s)

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
        tending, self._tending = self._tending, None
        if tending is not None:
            tending.cancel()
            await asyncio.wait([tending])
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
        if state.share_built < 1.0:
            return StoreStatus(False, engine, state.n_examples, f"the index is built to {state.share_built:.0%}")
        return StoreStatus(True, engine, state.n_examples, self._being_built)

    # ------------------------------------------------------------------ index

    def _switch_of(self, field: str) -> IndexSwitch:
        return IndexSwitch(self._config, self._client, self._search_client(), field)

    def _use(self, switch: IndexSwitch) -> None:
        """Search by it from now on, and see in the background that what is wished for comes about."""
        self._index_in_use = ExampleIndex(self._config, self._search_client(), switch.field)
        self._being_built = ""
        if not switch.is_done:
            self._tending = asyncio.create_task(self._tend(switch))

    async def _tend(self, switch: IndexSwitch) -> None:
        """Until the wished index serves. Any worker that opened does it, so that it happens whoever dies."""
        while not switch.is_done:
            try:
                with redis_errors("exchanging the index"):
                    await switch.step()
                    self._being_built = f"{switch.name} is being built beside it, to {await switch.share_built():.0%}"
            except StoreError as error:
                self._being_built = str(error)
                await asyncio.sleep(_RETRY_S)
            if not switch.is_done:
                await asyncio.sleep(_TEND_S)
        self._being_built = ""

    async def _mend(self) -> bool:
        """See RedisExamples. After a flush the model may be the store's first one: its vectors go to another field."""
        switch = self._switch_of(field_in_use(await self._meta(), self._config))
        if switch.field != self._index.field:
            self._index_in_use = ExampleIndex(self._config, self._search_client(), switch.field)
        await switch.make()
        return await switch.serves()

    def _search_client(self) -> Any:
        is_cluster = "+cluster:" in self._url
        return SlotClient(self._client, self._keys.root) if is_cluster else self._client

    async def _upgrade(self, meta: Mapping[str, str]) -> None:
        """Give examples of an earlier schema the fields that they lack.

        Workers may do it at once, and be killed: what is done is not done again, and that it is done is noted last. The
        new schema is noted first: then no worker of an earlier version that opens makes its index anew. One that was
        running goes on; what it adds is completed when the next worker opens. Raises StoreUnavailable after
        open_timeout_s, so that no proxy waits for minutes to start; the next attempt does the rest.
        """
        if not is_older(meta):
            return
        await self._run("upgrading", BEGIN_UPGRADE, [self._keys.meta], [SCHEMA, UPGRADING, UPGRADED])
        lacking = [word for pair in SINCE_SCHEMA_2.items() for word in pair]
        cursor = b"0"
        deadline = asyncio.get_running_loop().time() + self._open_timeout_s
        while True:
            arguments = [cursor, self._keys.example_pattern, *lacking]
            cursor = await self._run("upgrading", UPGRADE, [self._keys.meta], arguments)
            if cursor == b"0":
                break
            if asyncio.get_running_loop().time() >= deadline:
                raise StoreUnavailable(
                    f"examples must have the fields of schema {SCHEMA}, got some that still lack them"
                )
        await self._client.hdel(self._keys.meta, UPGRADING)
