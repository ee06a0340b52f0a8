"""How is one search index exchanged for another while everybody goes on searching?

Everybody searches an alias. The new index is built beside the one in use, under a name that tells what it covers; when
it is complete the alias is moved to it and the old one is dropped. The policy's meta notes which one is wished for, the
newest wish wins, and every worker that has it does each step again as long as it is not done. So any may be killed.
"""

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any

from redis.exceptions import ResponseError
from redisvl.exceptions import RedisSearchError
from redisvl.index import AsyncSearchIndex

from echo_proxy.errors import StoreUnavailable
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.keys import Keys
from echo_proxy.stores.redis_errors import is_missing_index
from echo_proxy.stores.redis_index import Cover, cover_of, described, schema, state_of
from echo_proxy.stores.redis_vectors import FIRST, alias_of

_POLL_S = 0.02
_MOVE_MS = 10_000
"""For moving the alias and dropping what is stale: less than a hundred commands."""
_UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


def wish_of(field: str) -> str:
    """Name of the field of the meta that says which index over the vectors of a field is wished for."""
    return "index" + field.removeprefix(FIRST)


class IndexSwitch:
    """Brings one policy's index over the vectors of one field to what is wished for. Raises what redis-py and RedisVL
    raise.

    Args:
        config: what is wished for.
        client: for commands with keys.
        searcher: for commands on indexes; another one than the client in a cluster.
        field: where the vectors are.
    """

    def __init__(self, config: StoreConfig, client: Any, searcher: Any, field: str) -> None:
        self._keys = Keys(config.policy)
        self._client = client
        self._searcher = searcher
        self._schema = schema(config, field)
        self._cover = Cover(config.index, config.dimensions, frozenset(self._schema.field_names))
        self._alias = alias_of(self._keys, field)
        self._wish = wish_of(field)
        self.field = field
        self.name: str = self._schema.index.name
        """Of the index that is wished for."""
        self.is_done = False
        """Whether it serves and no other is left, or somebody wished for another one since."""

    async def begin(self, timeout_s: float, *, is_wish: bool = True) -> None:
        """Until an index serves that is complete; the wished one may be under way then, see is_done.

        Without a wish, what others wished for goes on. Raises StoreUnavailable after timeout_s.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        if is_wish:
            await self._client.hset(self._keys.meta, self._wish, self.name)
        else:
            await self._client.hsetnx(self._keys.meta, self._wish, self.name)
        await self.make()
        serving = await described(self._searcher, self._alias)
        if serving is not None and not self._is_usable(serving):  # of an earlier version: it lacks a filter
            await self._wait(self.name, deadline)
            while not await self.step():
                self._check(deadline, self._alias, 0.0)
                await asyncio.sleep(_POLL_S)
        await self._wait(self._alias, deadline)
        await self.step()

    async def make(self) -> None:
        """See that an index serves, and that the wished one is there or on its way."""
        serving = await described(self._searcher, self._alias)
        if serving is not None and (self._fits(serving) or not await self._is_wished()):
            return
        try:
            await AsyncSearchIndex(self._schema, redis_client=self._searcher).create()
        except RedisSearchError as error:
            if "already exists" not in str(error).lower():  # another worker was faster
                raise
        if serving is None:
            await self._put_alias()

    async def step(self) -> bool:
        """Move the alias when the wished index is complete, and drop others; whether nothing is left to do."""
        self.is_done = self.is_done or not await self._is_wished() or await self._moved()
        return self.is_done

    async def serves(self) -> bool:
        """Whether a search finds a complete index now."""
        return state_of(await described(self._searcher, self._alias)).share_built >= 1.0

    async def share_built(self) -> float:
        """Of the wished index, [0, 1]."""
        return state_of(await described(self._searcher, self.name)).share_built

    async def drop(self, name: str) -> None:
        """Forget an index when it is there; the examples stay. Of an alias, the index behind it goes."""
        try:
            await self._searcher.ft(name).dropindex(delete_documents=False)
        except ResponseError as error:
            if not is_missing_index(error):  # another worker was faster
                raise

    async def names(self) -> list[str]:
        """All indexes in the database, also other policies'; no aliases."""
        return [name.decode() for name in await self._searcher.execute_command("FT._LIST")]

    def _fits(self, serving: Mapping[str, Any]) -> bool:
        """One that an earlier version made bears the alias as its own name."""
        name = _name_of(serving)
        return name == self.name or (name == self._alias and cover_of(serving) == self._cover)

    def _is_usable(self, serving: Mapping[str, Any]) -> bool:
        got = cover_of(serving)
        return got.dimensions == self._cover.dimensions and got.names >= self._cover.names

    async def _is_wished(self) -> bool:
        noted = await self._client.hget(self._keys.meta, self._wish)
        return noted is not None and noted.decode() == self.name

    async def _moved(self) -> bool:
        """Whether the wished index serves alone. Others that move it at the same time are given time to."""
        serving = await described(self._searcher, self._alias)
        fits = serving is not None and self._fits(serving)
        if fits and not await self._stale(_name_of(serving or {})):
            return True
        if not fits and await self.share_built() < 1.0:
            await self.make()  # it vanishes when Redis is flushed
            return False
        lock, token = self._keys.lease("index"), uuid.uuid4().hex
        if not await self._client.set(lock, token, nx=True, px=_MOVE_MS):
            return False
        try:
            await self._move(fits)
        finally:
            await self._client.register_script(_UNLOCK)(keys=[lock], args=[token])
        return True

    async def _move(self, fits: bool) -> None:
        """Under the lock: dropping goes through aliases, so of two at once one would drop the new index."""
        if not fits:
            await self._put_alias()
        serving = _name_of(await described(self._searcher, self._alias) or {})
        for name in await self._stale(serving):
            if not await self._is_wished():  # asked after listing: whoever wishes notes it before it makes an index
                return
            await self.drop(name)

    async def _put_alias(self) -> None:
        if self._alias in await self.names():  # a real index, of an earlier version; it hides an alias of its name
            await self._add_alias()
            await self.drop(self._alias)
        await self._searcher.execute_command("FT.ALIASUPDATE", self._alias, self.name)

    async def _add_alias(self) -> None:
        """Behind the real index of that name, so that searches meet the new one as soon as that is dropped."""
        try:
            await self._searcher.execute_command("FT.ALIASADD", self._alias, self.name)
        except ResponseError as error:
            # it is there from an interrupted move, or the server refuses: then a search may fall between
            if "exists" not in str(error).lower():
                raise

    async def _stale(self, serving: str) -> list[str]:
        """Indexes over the same vectors that nobody wishes for."""
        return [name for name in await self.names() if name.startswith(f"{self._alias}@") and name != serving]

    async def _wait(self, name: str, deadline: float) -> None:
        while (share := state_of(await described(self._searcher, name)).share_built) < 1.0:
            self._check(deadline, name, share)
            await asyncio.sleep(_POLL_S)

    @staticmethod
    def _check(deadline: float, name: str, share: float) -> None:
        if asyncio.get_running_loop().time() >= deadline:
            raise StoreUnavailable(f"index {name} must be complete, got {share:.0%} of it")


def _name_of(info: Mapping[str, Any]) -> str:
    name = info.get("index_name", b"")
    return name.decode() if isinstance(name, bytes) else str(name)
