"""What must Redis do with examples in one step?"""

from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.fading import hourly_factor
from echo_proxy.stores.holdings import COLUMNS
from echo_proxy.stores.keys import tag
from echo_proxy.stores.records import FADING, changed_fields
from echo_proxy.stores.redis_scripts import Argument, expiry_ms
from echo_proxy.stores.redis_vectors import as_written
from echo_proxy.types import EXAMPLE_OVERHEAD_BYTES, Example, Lease, Which

_SIZE = f"""
local function size(key)
  local texts = redis.call('HSTRLEN', key, 'request') + redis.call('HSTRLEN', key, 'response')
    + redis.call('HSTRLEN', key, 'system')
  return texts + 2 * redis.call('HSTRLEN', key, 'vector') + {EXAMPLE_OVERHEAD_BYTES} -- as Example.n_bytes
end
"""
_SCAN = """
-- Keys of some examples, and the next cursor. In Lua, so that a cluster asks the node that has them.
local function scan(cursor, pattern, limit)
  local keys, n_seen = {}, 0
  repeat
    local step = math.max(10, math.min(1000, limit - #keys))
    local reply = redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', step)
    for _, key in ipairs(reply[2]) do keys[#keys + 1] = key end
    cursor, n_seen = reply[1], n_seen + step
  until cursor == '0' or #keys >= limit or n_seen >= 10000 -- others wait meanwhile
  return cursor, keys
end
"""

CHANGE = """
-- Writes fields of an example, unless it has another version by now, or the lease has ended.
-- KEYS: example, then the lease or nothing
-- ARGV: what the lease must hold, version before, now, decay per second, new expiry or nothing,
--   offloads, regret or nothing each, when they were counted, field of the vector; then names and values of fields
if KEYS[2] and redis.call('GET', KEYS[2]) ~= ARGV[1] then return -1 end
local key = KEYS[1]
if redis.call('EXISTS', key) == 0 then return 0 end
local found = redis.call('HMGET', key, 'version', 'expires_at', 'offloads', 'regret', 'counted_at')
if tonumber(found[1] or '1') ~= tonumber(ARGV[2]) then return 0 end
if tonumber(found[2]) <= tonumber(ARGV[3]) then return 0 end

local decay = tonumber(ARGV[4])
local stored_at, given_at = tonumber(found[5] or '0'), tonumber(ARGV[8])
local counted_at = math.max(stored_at, given_at)
local function digits(value) return string.format('%.17g', value) end
local function counted(stored, given) -- what is not given goes on as it is stored; both as of the later time
  if given ~= '' then return digits(tonumber(given) * decay ^ (counted_at - given_at)) end
  return digits(tonumber(stored or '0') * decay ^ (counted_at - stored_at))
end
if ARGV[6] ~= '' or ARGV[7] ~= '' then
  redis.call('HSET', key, 'offloads', counted(found[3], ARGV[6]), 'regret', counted(found[4], ARGV[7]),
    'counted_at', digits(counted_at))
end
for i = 10, #ARGV, 2 do
  if ARGV[i] == 'request' or ARGV[i] == ARGV[9] then -- what other models made of it is of another text
    for _, name in ipairs(redis.call('HKEYS', key)) do
      if string.sub(name, 1, 6) == 'vector' and name ~= ARGV[9] then redis.call('HDEL', key, name) end
    end
  end
end
redis.call('HSET', key, 'version', tonumber(ARGV[2]) + 1, unpack(ARGV, 10))
if ARGV[5] ~= '' then redis.call('PEXPIREAT', key, ARGV[5]) end
return 1
"""
"""Lua. Returns 1 when applied, 0 when the version is another one, -1 when the lease has ended."""

OBSERVE = """
-- Appends to an example's observations and drops the oldest ones; as text, so that no digit is lost.
-- KEYS: example; ARGV: its version, the observation, how many are kept
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local found = redis.call('HMGET', KEYS[1], 'version', 'observations')
if tonumber(found[1] or '1') ~= tonumber(ARGV[1]) then return 0 end
local list = found[2] or '[]'
list = list == '[]' and '[' .. ARGV[2] .. ']' or string.sub(list, 1, -2) .. ', ' .. ARGV[2] .. ']'
local _, n = string.gsub(list, '{', '')
for _ = 1, n - tonumber(ARGV[3]) do list = '[' .. string.sub(list, string.find(list, '{', 3, true), -1) end
redis.call('HSET', KEYS[1], 'observations', list)
return 1
"""
"""Lua. Returns 1 when kept, 0 when the example is gone or has another version."""

REMOVE = """
-- Forgets examples, unless the lease has ended.
-- KEYS: lease, then the examples; ARGV: what the lease must hold
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local n = 0
for i = 2, #KEYS do n = n + redis.call('UNLINK', KEYS[i]) end
return n
"""
"""Lua. Returns how many were there, -1 when the lease has ended."""

FIND = (
    _SCAN
    + """
-- Some examples that are meant and have not expired.
-- KEYS: any of the policy; ARGV: cursor, pattern, limit, now, then see which_arguments
local names = {'expires_at', 'created_at', 'reader', 'scope', 'writer', 'teacher', 'origin'}
local now, after, before, quarantine = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local function is_meant(key)
  local found = redis.call('HMGET', key, unpack(names))
  if (tonumber(found[1]) or 0) <= now then return false end
  local created_at = tonumber(found[2]) or 0
  if after and created_at <= after or before and created_at >= before then return false end
  if quarantine ~= '' and quarantine ~= (found[3] == '%' and '0' or '1') then return false end
  for i = 4, 7 do
    if ARGV[4 + i] ~= '' and ARGV[4 + i] ~= found[i] then return false end
  end
  return true
end
local cursor, keys = scan(ARGV[1], ARGV[2], tonumber(ARGV[3]))
local reply = {cursor}
for _, key in ipairs(keys) do
  if is_meant(key) then
    reply[#reply + 1] = key
    reply[#reply + 1] = redis.call('HGETALL', key)
  end
end
return reply
"""
)
"""Lua. Returns the next cursor, then keys and fields in turn."""

_NAMES = ", ".join(f"'{name}'" for name in COLUMNS)
HOLDINGS = (
    _SIZE
    + _SCAN
    + f"""
-- Writers and numbers of some examples: of the latter for each the columns as 8 bytes each, little-endian.
-- KEYS: any of the policy; ARGV: cursor, pattern, limit
local cursor, keys = scan(ARGV[1], ARGV[2], tonumber(ARGV[3]))
local rows, writers = {{}}, {{}}
for i, key in ipairs(keys) do
  local row = redis.call('HMGET', key, {_NAMES}, 'writer')
  writers[i] = table.remove(row) or '%'
  for j = 1, #row do row[j] = tonumber(row[j] or '0') or 0 end
  if row[1] == 0 then row[1] = 1 end -- written by an earlier version of the program
  if row[2] == 0 then row[2] = size(key) end
  rows[i] = struct.pack('<{"d" * len(COLUMNS)}', unpack(row))
end
return {{cursor, keys, writers, table.concat(rows)}}
"""
)
"""Lua. Returns the next cursor, keys, their writers, and their numbers."""

UPGRADE = (
    _SIZE
    + _SCAN
    + """
-- Gives some examples the fields that they lack. KEYS: any of the policy; ARGV: cursor, pattern, then names and values
local cursor, keys = scan(ARGV[1], ARGV[2], 50) -- the index in use takes each in anew, an HNSW one in up to 3 ms
for _, key in ipairs(keys) do
  if redis.call('HEXISTS', key, 'reader') == 0 and redis.call('HEXISTS', key, 'vector') == 1 then
    local added = {'reader', '%', 'n_bytes', size(key)}
    for i = 3, #ARGV, 2 do
      if redis.call('HEXISTS', key, ARGV[i]) == 0 then
        added[#added + 1] = ARGV[i]
        added[#added + 1] = ARGV[i + 1]
      end
    end
    redis.call('HSET', key, unpack(added))
  end
end
return cursor
"""
)
"""Lua. Returns the next cursor."""

BEGIN_UPGRADE = """
-- Notes the new schema, and that it is not reached.
-- KEYS: meta; ARGV: schema, names of the fields that hold the old one: until it is reached, and for good
local before = redis.call('HGET', KEYS[1], 'schema')
if before ~= ARGV[1] then redis.call('HSET', KEYS[1], 'schema', ARGV[1], ARGV[2], before, ARGV[3], before) end
"""


def lease_value(lease: Lease) -> str:
    """What the lease's key holds as long as it is held."""
    return f"{lease.fence} {lease.holder}"


def change_arguments(
    before: Example, after: Example, lease: Lease | None, config: StoreConfig, field: str, now: float
) -> list[Argument | bytes]:
    """ARGV of CHANGE, in the order in which it takes them; the vector is kept in `field`.

    Raises SchemaMismatch, ValueError.
    """
    fields = as_written(changed_fields(before, after, config.dimensions), field)
    expires_at = fields.get("expires_at")
    arguments: list[Argument | bytes] = [lease_value(lease) if lease else "", before.version, now]
    arguments += [hourly_factor(1.0, config.offload_decay), "" if expires_at is None else expiry_ms(float(expires_at))]
    arguments += [fields.get("offloads", ""), fields.get("regret", ""), after.counted_at, field]
    for name, value in fields.items():
        if name not in FADING:
            arguments += [name, value]
    return arguments


def which_arguments(which: Which) -> list[Argument]:
    """Which examples are meant, as FIND takes it; empty = any."""
    quarantine = "" if which.in_quarantine is None else str(int(which.in_quarantine))
    bounds = ("" if at is None else at for at in (which.created_after, which.created_before))
    names = (which.scope, which.writer, which.teacher, which.origin)
    return [*bounds, quarantine, *("" if name is None else tag(name) for name in names)]
