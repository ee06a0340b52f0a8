"""Who may do what alone, and what was done: leases and the journal of one policy in Redis."""

from echo_proxy.stores.notes import run_from, run_text
from echo_proxy.stores.records import writable
from echo_proxy.stores.redis_errors import redis_errors
from echo_proxy.stores.redis_example_scripts import lease_value
from echo_proxy.stores.redis_part import RedisPart
from echo_proxy.types import Lease, UpkeepRun

_RUNS_KEPT = 1000

TAKE = """
-- KEYS: lease, highest fence; ARGV: holder, milliseconds. Returns the new fence, or nil while somebody else has it
local held = redis.call('GET', KEYS[1])
if held and string.match(held, '^%d+ (.*)$') ~= ARGV[1] then return nil end
local fence = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], string.format('%.0f', fence) .. ' ' .. ARGV[1], 'PX', ARGV[2])
return fence
"""
KEEP = """
-- KEYS: lease; ARGV: what it must hold, milliseconds
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
DROP = """
-- KEYS: lease; ARGV: what it must hold
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('UNLINK', KEYS[1]) end
"""


class RedisLeases(RedisPart):
    """Leases and a Journal in Redis; leases end by the server's clock."""

    async def take_lease(self, name: str, holder: str, ttl_s: float) -> Lease | None:
        """The lease, with a higher fence than all before; None while somebody else has it. Who has it gets it anew."""
        keys = [self._keys.lease(name), self._keys.fence]
        fence = await self._run("take_lease", TAKE, keys, [holder, _milliseconds(ttl_s)])
        return None if fence is None else Lease(name, holder, int(fence))

    async def keep_lease(self, lease: Lease, ttl_s: float) -> bool:
        """Prolong it to ttl_s from now; False when it has ended."""
        arguments = [lease_value(lease), _milliseconds(ttl_s)]
        return bool(await self._run("keep_lease", KEEP, [self._keys.lease(lease.name)], arguments))

    async def drop_lease(self, lease: Lease) -> None:
        """Let others have it; nothing happens when it has ended."""
        await self._run("drop_lease", DROP, [self._keys.lease(lease.name)], [lease_value(lease)])

    async def note_run(self, run: UpkeepRun) -> None:
        """Keep it; about the newest 1,000 are kept."""
        fields = {"id": run.id, "ending": run.ending, "body": run_text(run)}
        with redis_errors("note_run"):
            await self._client.xadd(self._keys.runs, fields, maxlen=_RUNS_KEPT, approximate=True)

    async def runs(self, limit: int) -> tuple[UpkeepRun, ...]:
        """The newest, newest first."""
        if limit <= 0:
            return ()
        with redis_errors("runs"):
            entries = await self._client.xrevrange(self._keys.runs, count=limit)
        found = (run_from(fields.get(b"body", b"")) for _, fields in entries)
        return tuple(run for run in found if run is not None)

    async def put_note(self, name: str, text: str) -> None:
        """Keep a text under a name, in place of the one before."""
        with redis_errors("put_note"):
            await self._client.hset(self._keys.notes, name, writable(text))

    async def note(self, name: str) -> str:
        """The text; empty when there is none."""
        with redis_errors("note"):
            raw = await self._client.hget(self._keys.notes, name)
        return "" if raw is None else raw.decode()


def _milliseconds(ttl_s: float) -> int:
    """At least one: Redis takes no less."""
    return max(1, int(ttl_s * 1000))
