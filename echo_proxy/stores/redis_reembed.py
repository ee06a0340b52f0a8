"""How are the vectors in Redis exchanged for another model's, so that it may be killed at any point?

The policy's meta names the target, which locks all others out, and a SET names the examples whose vectors are new. The
index, made for vectors of the old size, goes first and comes back last; the examples themselves stay where they are.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from echo_proxy.errors import StoreError
from echo_proxy.protocols import Clock
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.keys import Keys
from echo_proxy.stores.mismatch import REEMBEDDING, check_turn, fits, meta_of, target_of
from echo_proxy.stores.records import example_from, vector_bytes
from echo_proxy.stores.redis_errors import redis_errors
from echo_proxy.stores.redis_index import ExampleIndex
from echo_proxy.types import Backlog, Example

BEGIN = """
-- Notes the target. Another target before means that none of the vectors is new.
-- KEYS: meta, set of new ones; ARGV: name of the meta's field, target
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then return end
redis.call('UNLINK', KEYS[2])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
"""
LOOK = """
-- One step of a scan for examples without a new vector. In Lua, so that a cluster asks the node that has them.
-- KEYS: set of new ones; ARGV: cursor, pattern. Returns the next cursor and the keys.
local reply = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', 1000)
local stale = {}
for _, key in ipairs(reply[2]) do
  if redis.call('SISMEMBER', KEYS[1], key) == 0 then stale[#stale + 1] = key end
end
return {reply[1], stale}
"""
REWRITE = """
-- Exchanges vectors, unless the target is another one. An example that is gone is not brought back.
-- KEYS: meta, set of new ones, then the examples; ARGV: name of the meta's field, target, then the vectors
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('HSET', KEYS[i], 'vector', ARGV[i])
    redis.call('SADD', KEYS[2], KEYS[i])
  end
end
return 1
"""
FINISH = """
-- Lets others in again, unless the target is another one.
-- KEYS: meta, set of new ones; ARGV: name of the meta's field, target, then names and values of the new meta
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('UNLINK', KEYS[2])
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('HDEL', KEYS[1], ARGV[1])
return 1
"""


class RedisReembedding:
    """A Reembedding of one policy in Redis."""

    def __init__(
        self, config: StoreConfig, client: Any, index: ExampleIndex, clock: Clock, index_timeout_s: float
    ) -> None:
        self._config = config
        self._client = client
        self._index = index
        self._clock = clock
        self._index_timeout_s = index_timeout_s
        self._keys = Keys(config.policy)
        self._left: dict[bytes, None] = {}
        """Keys of stale examples, in the order in which the last scan found them."""

    async def begin(self, meta: Mapping[str, str]) -> bool:
        """Lock all others out; False, and nothing changed, when the vectors fit already. Raises SchemaMismatch."""
        if fits(meta, self._config):
            return False
        with redis_errors("reembedding"):
            await self._run(BEGIN)
            await self._index.drop()
        return True

    async def stale(self, limit: int) -> Backlog:
        """Examples not embedded anew yet, limit at most; the same ones until they are rewritten."""
        found: list[Example] = []
        n_expired = 0
        with redis_errors("reembedding"):
            while not found:
                self._left = self._left or await self._look()
                if not self._left:
                    break
                read = await self._read(list(islice(self._left, limit)))
                now = self._clock.now()
                expired = [self._keys.example(one.id).encode() for one in read if one.expires_at <= now]
                found = [one for one in read if one.expires_at > now]
                await self._drop(expired)
                n_expired += len(expired)
        return Backlog(tuple(found), len(self._left), n_expired)

    async def rewrite(self, examples: Sequence[Example]) -> None:
        """Keep the new vectors. Raises SchemaMismatch, ValueError."""
        vectors = [vector_bytes(example.vector, self._config.dimensions) for example in examples]
        keys = [self._keys.example(example.id).encode() for example in examples]
        with redis_errors("reembedding"):
            await self._in_turn(REWRITE, keys, vectors)
        for key in keys:
            self._left.pop(key, None)

    async def finish(self) -> None:
        """Build the index and let others in. Raises StoreError while an example is stale, StoreUnavailable."""
        meta = [word for pair in meta_of(self._config).items() for word in pair]
        with redis_errors("reembedding"):
            n_left = len(await self._look())
            if n_left:
                policy = self._config.policy
                raise StoreError(f"all examples of policy {policy} must be embedded anew, {n_left} are not")
            await self._index.drop()  # a proxy that was just starting may have made the old one again
            await self._index.ensure()
            await self._index.wait(self._index_timeout_s)
            await self._in_turn(FINISH, (), meta)

    async def _look(self) -> dict[bytes, None]:
        """Keys of all examples without a new vector. Raises SchemaMismatch when the target is another one."""
        await self._check_turn()
        script = self._client.register_script(LOOK)
        pattern = re.sub(r"([\\*?\[\]])", r"\\\1", self._keys.example_prefix) + "*"
        found: dict[bytes, None] = {}
        cursor = b"0"
        while True:
            cursor, keys = await script(keys=[self._keys.reembedded], args=[cursor, pattern])
            found |= dict.fromkeys(keys)
            if cursor == b"0":
                return found

    async def _read(self, keys: Sequence[bytes]) -> list[Example]:
        """The examples of these keys; what is gone is not looked for again."""
        async with self._client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            rows = await pipe.execute()
        found = []
        for key, row in zip(keys, rows, strict=True):
            if row:
                example_id = key.decode().removeprefix(self._keys.example_prefix)
                found.append(example_from(example_id, {name.decode(): value for name, value in row.items()}))
            else:
                self._left.pop(key)
        return found

    async def _drop(self, keys: Sequence[bytes]) -> None:
        if keys:
            await self._client.unlink(*keys)
        for key in keys:
            self._left.pop(key)

    async def _in_turn(self, script: str, keys: Sequence[bytes], arguments: Sequence[str | bytes]) -> None:
        """Run a script that checks the target. Raises SchemaMismatch when it is another one."""
        if not await self._run(script, keys, arguments):
            await self._check_turn()

    async def _check_turn(self) -> None:
        stored = await self._client.hgetall(self._keys.meta)
        check_turn({name.decode(): value.decode() for name, value in stored.items()}, self._config)

    async def _run(self, script: str, keys: Sequence[bytes] = (), arguments: Sequence[str | bytes] = ()) -> Any:
        return await self._client.register_script(script)(
            keys=[self._keys.meta, self._keys.reembedded, *keys],
            args=[REEMBEDDING, target_of(self._config), *arguments],
        )
