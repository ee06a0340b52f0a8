"""How are all examples in Redis given vectors of another model, while proxies work on them?

The vectors of each model stand in a field of their own, so nothing is taken from those who use the others. An example
without that field is what is left to do: whoever is killed has lost nothing but the batch in hand. When the index over
the field is complete, the policy's meta says so, and proxies with the model can open.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from echo_proxy.errors import StoreError
from echo_proxy.protocols import Clock
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.keys import Keys
from echo_proxy.stores.mismatch import REEMBEDDING, meta_of, target_of
from echo_proxy.stores.records import example_from, vector_bytes
from echo_proxy.stores.redis_errors import redis_errors
from echo_proxy.stores.redis_switch import IndexSwitch, wish_of
from echo_proxy.stores.redis_vectors import FIELD, FIRST, alias_of, filling_of, is_complete
from echo_proxy.types import EXAMPLE_OVERHEAD_BYTES, Backlog, Example

LOOK = """
-- One step of a scan for examples without a vector. In Lua, so that a cluster asks the node that has them.
-- KEYS: any of the policy; ARGV: cursor, pattern, field. Returns the next cursor and the keys.
local reply = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', 1000)
local lacking = {}
for _, key in ipairs(reply[2]) do
  if redis.call('HEXISTS', key, ARGV[3]) == 0 then lacking[#lacking + 1] = key end
end
return {reply[1], lacking}
"""
FILL = """
-- Keeps vectors. An example that is gone is not brought back, and one whose text is another by now is left as it is.
-- KEYS: examples; ARGV: field, then for each its vector, its size, and the text that was embedded
for i = 1, #KEYS do
  if redis.call('HGET', KEYS[i], 'request') == ARGV[3 * i + 1] then
    redis.call('HSET', KEYS[i], ARGV[1], ARGV[3 * i - 1], 'n_bytes', ARGV[3 * i])
  end
end
"""
FORGET = f"""
-- One step of a scan that drops the vectors of other models. In Lua, so that a cluster asks the node that has them.
-- KEYS: any of the policy; ARGV: cursor, pattern, field that stays. Returns the next cursor and how many had some.
local reply, n = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', 50), 0
for _, key in ipairs(reply[2]) do
  local others = {{}}
  for _, name in ipairs(redis.call('HKEYS', key)) do
    if string.sub(name, 1, 6) == 'vector' and name ~= ARGV[3] then others[#others + 1] = name end
  end
  if #others > 0 then
    redis.call('HDEL', key, unpack(others))
    local size = redis.call('HSTRLEN', key, 'request') + redis.call('HSTRLEN', key, 'response')
      + redis.call('HSTRLEN', key, 'system') + 2 * redis.call('HSTRLEN', key, ARGV[3])
    redis.call('HSET', key, 'n_bytes', size + {EXAMPLE_OVERHEAD_BYTES}) -- as Example.n_bytes
    n = n + 1
  end
end
return {{reply[1], n}}
"""
TAKE_OVER = """
-- Notes that the store is one model's: what others had of the meta goes.
-- KEYS: meta; ARGV: the model's wish for an index, a field that goes; then names and values of the new meta
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  local is_models, is_wish = string.sub(name, 1, 7) == 'vector_', string.sub(name, 1, 5) == 'index'
  if is_models or name == ARGV[2] or (is_wish and name ~= ARGV[1]) then redis.call('HDEL', KEYS[1], name) end
end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
"""


class RedisReembedding:
    """A Reembedding of one policy in Redis."""

    def __init__(
        self, config: StoreConfig, client: Any, switch: IndexSwitch, clock: Clock, index_timeout_s: float
    ) -> None:
        self._config = config
        self._client = client
        self._switch = switch
        self._field = switch.field
        self._clock = clock
        self._index_timeout_s = index_timeout_s
        self._keys = Keys(config.policy)
        self._left: dict[bytes, None] = {}
        """Keys of examples without a vector, in the order in which the last scan found them."""
        self._is_exhausted = False
        """Whether the last scan found none."""

    async def begin(self, meta: Mapping[str, str]) -> bool:
        """Note what is under way; False when all examples have a vector, and it is known."""
        with redis_errors("reembedding"):
            self._left = await self._look()
            if is_complete(meta, self._config):
                return bool(self._left)
            await self._client.hset(self._keys.meta, filling_of(self._field), target_of(self._config))
        return True

    async def stale(self, limit: int) -> Backlog:
        """Examples without a vector, limit at most; the same ones until they are rewritten."""
        found: list[Example] = []
        n_expired = 0
        with redis_errors("reembedding"):
            while not found:
                self._left = self._left or await self._look()
                self._is_exhausted = not self._left
                if self._is_exhausted:
                    break
                read = await self._read(list(islice(self._left, limit)))
                now = self._clock.now()
                expired = [self._keys.example(one.id).encode() for one in read if one.expires_at <= now]
                found = [one for one in read if one.expires_at > now]
                await self._drop(expired)
                n_expired += len(expired)
        return Backlog(tuple(found), len(self._left), n_expired)

    async def rewrite(self, examples: Sequence[Example]) -> None:
        """Keep the vectors; not where the text has changed since `stale`. Raises SchemaMismatch, ValueError."""
        keys = [self._keys.example(example.id).encode() for example in examples]
        arguments: list[str | bytes] = [self._field]
        for one in examples:
            arguments += [vector_bytes(one.vector, self._config.dimensions), str(one.n_bytes), one.request]
        with redis_errors("reembedding"):
            await self._client.register_script(FILL)(keys=keys, args=arguments)
        for key in keys:
            self._left.pop(key, None)

    async def finish(self) -> None:
        """Build the index and let proxies with the model in. Examples that others added since `stale` found none are
        left for the next run. Raises StoreError while it has not found none, StoreUnavailable."""
        with redis_errors("reembedding"):
            if not self._is_exhausted:
                await self._check_all()
            await self._switch.begin(self._index_timeout_s)
            if self._field != FIRST:
                await self._client.hsetnx(self._keys.meta, self._field, target_of(self._config))
            await self._client.hdel(self._keys.meta, filling_of(self._field))

    async def forget_others(self) -> int:
        """See RedisStore. What others have of the meta goes first: then none of them opens."""
        with redis_errors("forgetting other models"):
            await self._check_all()
            meta = meta_of(self._config) | {FIELD: self._field}
            arguments = [wish_of(self._field), REEMBEDDING, *(word for pair in meta.items() for word in pair)]
            await self._client.register_script(TAKE_OVER)(keys=[self._keys.meta], args=arguments)
            await self._client.unlink(self._keys.reembedded)
            for name in await self._switch.names():
                if self._is_others_index(name):
                    await self._switch.drop(name)
            return await self._forget()

    def _is_others_index(self, name: str) -> bool:
        match = re.fullmatch(re.escape(self._keys.index) + r"((?:_[0-9a-f]{8})?)(?:@.*)?", name)
        return match is not None and self._keys.index + match[1] != alias_of(self._keys, self._field)

    async def _forget(self) -> int:
        script = self._client.register_script(FORGET)
        n = 0
        cursor = b"0"
        while True:
            arguments = [cursor, self._keys.example_pattern, self._field]
            cursor, n_step = await script(keys=[self._keys.meta], args=arguments)
            n += int(n_step)
            if cursor == b"0":
                return n

    async def _check_all(self) -> None:
        n_left = len(await self._look())
        if n_left:
            policy = self._config.policy
            raise StoreError(f"all examples of policy {policy} must be embedded anew, {n_left} are not")

    async def _look(self) -> dict[bytes, None]:
        """Keys of all examples without a vector."""
        script = self._client.register_script(LOOK)
        found: dict[bytes, None] = {}
        cursor = b"0"
        while True:
            arguments = [cursor, self._keys.example_pattern, self._field]
            cursor, keys = await script(keys=[self._keys.meta], args=arguments)
            found |= dict.fromkeys(keys)
            if cursor == b"0":
                return found

    async def _read(self, keys: Sequence[bytes]) -> list[Example]:
        """The examples of these keys, with any model's vector; what is gone is not looked for again."""
        async with self._client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            rows = await pipe.execute()
        found = []
        for key, row in zip(keys, rows, strict=True):
            if row:
                fields = {name.decode(): value for name, value in row.items()}
                vectors = [value for name, value in fields.items() if name.startswith(FIRST)]
                example_id = key.decode().removeprefix(self._keys.example_prefix)
                found.append(example_from(example_id, fields | {FIRST: vectors[0] if vectors else b"\0" * 4}))
            else:
                self._left.pop(key)
        return found

    async def _drop(self, keys: Sequence[bytes]) -> None:
        if keys:
            await self._client.unlink(*keys)
        for key in keys:
            self._left.pop(key)
