"""What must Redis do in one step?"""

from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.fading import fading_factor, hourly_factor
from echo_proxy.stores.keys import Keys
from echo_proxy.stores.lessons import kind_of, lesson_text
from echo_proxy.stores.records import decision_end, decision_fields
from echo_proxy.types import Settlement

Argument = str | int | float

SETTLE = """
-- Applies a settlement at once, or not at all when its revision is not the next one.
-- KEYS: decision, log, its scope's log, lessons, set of arms, then one per arm increment, one per example increment
-- ARGV: see settle_arguments; numbers come with all digits and leave with all digits
local position = 0
local function take()
  position = position + 1
  return ARGV[position]
end
local function digits(value)
  return string.format('%.17g', value)
end
local function factor(elapsed, half_life)
  if half_life <= 0 or elapsed <= 0 then return 1 end
  return 0.5 ^ (elapsed / half_life)
end

local before = tonumber(take())
if tonumber(redis.call('HGET', KEYS[1], 'revision') or '0') ~= before then return 0 end

local expires_at_ms, kept_until_ms, log_length, memory_length, lesson_ttl_ms = take(), take(), take(), take(), take()
local now, half_life, share = tonumber(take()), tonumber(take()), tonumber(take())
local decay, offload_share = tonumber(take()), tonumber(take())
local decision_id, scope, arm_name, reward = take(), take(), take(), take()
local lesson_kind, lesson_body = take(), take()
local n_fields, n_arms, n_examples = tonumber(take()), tonumber(take()), tonumber(take())

for _ = 1, n_fields do redis.call('HSET', KEYS[1], take(), take()) end
redis.call('PEXPIREAT', KEYS[1], expires_at_ms)
if before == 0 then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', log_length, '*',
    'decision', decision_id, 'scope', scope, 'arm', arm_name, 'reward', reward)
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', log_length, '*', 'decision', decision_id)
  redis.call('PEXPIREAT', KEYS[3], kept_until_ms)
end
if lesson_kind ~= '' then
  local entry = redis.call('XADD', KEYS[4], 'MAXLEN', '~', memory_length, '*',
    'decision', decision_id, 'kind', lesson_kind, 'body', lesson_body)
  if lesson_kind == 'amendment' then -- replaces the one before: feedback again and again must not crowd lessons out
    local replaced = redis.call('HGET', KEYS[1], 'amendment')
    if replaced then redis.call('XDEL', KEYS[4], replaced) end
    redis.call('HSET', KEYS[1], 'amendment', entry)
  end
  local time = redis.call('TIME') -- the server's own clock, by which entries are named
  local oldest_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - tonumber(lesson_ttl_ms)
  redis.call('XTRIM', KEYS[4], 'MINID', string.format('%.0f', math.max(0, oldest_ms)))
  redis.call('PEXPIREAT', KEYS[4], kept_until_ms)
end

for i = 1, n_arms do
  local key = KEYS[5 + i]
  redis.call('SADD', KEYS[5], key)
  redis.call('HSET', key, 'arm', take(), 'segment', take())
  local faded_at = tonumber(redis.call('HGET', key, 'faded_at') or digits(now))
  local left = factor(now - faded_at, half_life)
  for _, name in ipairs({'weight', 'reward_sum', 'reward_sq_sum'}) do
    local value = tonumber(redis.call('HGET', key, name) or '0') * left + tonumber(take()) * share
    redis.call('HSET', key, name, digits(math.max(0, value)))
  end
  redis.call('HSET', key, 'faded_at', digits(math.max(now, faded_at)))
end

for i = 1, n_examples do
  local key = KEYS[5 + n_arms + i]
  local added = {take(), take(), take(), take()}
  if redis.call('EXISTS', key) == 1 then
    local stored = redis.call('HMGET', key, 'uses', 'gain', 'offloads', 'regret', 'counted_at')
    for j = 1, 5 do stored[j] = tonumber(stored[j] or '0') end
    local left = decay ^ math.max(0, now - stored[5])
    redis.call('HSET', key, -- once, because the search engine takes the example anew at every write
      'uses', digits(stored[1] + tonumber(added[1])), 'gain', digits(stored[2] + tonumber(added[2])),
      'offloads', digits(math.max(0, stored[3] * left + tonumber(added[3]) * offload_share)),
      'regret', digits(math.max(0, stored[4] * left + tonumber(added[4]) * offload_share)),
      'counted_at', digits(math.max(now, stored[5])))
  end
end
return 1
"""
"""Lua. Returns 1 when applied, 0 when the stored revision was another one."""

REPORT = """
-- Replaces what a worker says of its deployments, and forgets the workers that have fallen silent.
-- KEYS: loads; ARGV: worker, what it says, now
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local now, latest = tonumber(ARGV[3]), 0
local said = redis.call('HGETALL', KEYS[1])
for i = 1, #said, 2 do
  local is_json, found = pcall(cjson.decode, said[i + 1])
  local ends = is_json and type(found) == 'table' and tonumber(found['until']) or 0
  if ends <= now then redis.call('HDEL', KEYS[1], said[i]) end
  latest = math.max(latest, ends)
end
redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', math.ceil(latest * 1000)))
"""

_FOREVER_S = 1e11
"""Later expiries are cut to the year 5138: Redis counts milliseconds in 64 bits."""


def expiry_ms(expires_at: float) -> int:
    """Absolute expiry in milliseconds since the epoch."""
    return int(min(expires_at, _FOREVER_S) * 1000)


def settle_keys(settlement: Settlement, keys: Keys) -> list[str]:
    """KEYS of the script: all that it touches, in one slot."""
    return [
        keys.decision(settlement.record.id),
        keys.log,
        keys.scope_log(settlement.record.scope),
        keys.lessons,
        keys.arms,
        *(keys.arm(increment.key) for increment in settlement.increments),
        *(keys.example(change.example_id) for change in settlement.example_increments),
    ]


def settle_arguments(settlement: Settlement, config: StoreConfig, now: float) -> list[Argument]:
    """ARGV of the script, in the order in which it takes them."""
    record = settlement.record
    fields = decision_fields(record)
    kept_until = max(now, record.created_at) + config.decision_ttl_s  # no decision or lesson of now is kept any longer
    arguments: list[Argument] = [record.revision - 1, expiry_ms(decision_end(record, config))]
    arguments += [expiry_ms(kept_until), config.log_length, config.memory_length, expiry_ms(config.decision_ttl_s)]
    arguments += [now, config.half_life_s, fading_factor(now - record.created_at, config.half_life_s)]
    decay_s = hourly_factor(1.0, config.offload_decay)
    arguments += [decay_s, hourly_factor(now - record.created_at, config.offload_decay)]
    arguments += [record.id, record.scope, record.arm if record.is_acted else "", record.reward]
    arguments += _lesson_arguments(settlement)
    arguments += [len(fields), len(settlement.increments), len(settlement.example_increments)]
    for name, value in fields.items():
        arguments += [name, value]
    for increment in settlement.increments:
        sums = increment.sums
        arguments += [increment.key.arm, increment.key.segment, sums.weight, sums.reward_sum, sums.reward_sq_sum]
    for change in settlement.example_increments:
        arguments += [change.uses, change.gain, change.offloads, change.regret]
    return arguments


def _lesson_arguments(settlement: Settlement) -> list[Argument]:
    lesson = settlement.lesson
    return ["", ""] if lesson is None else [kind_of(lesson), lesson_text(lesson)]
