"""Decisions of one policy in Redis, what was learned from them, and what its workers tell each other."""

from collections.abc import Mapping, Sequence

from echo_proxy.stores.fading import faded, fading_factor
from echo_proxy.stores.lessons import read_page
from echo_proxy.stores.notes import loads_from, loads_text, turn_from, turn_text
from echo_proxy.stores.records import check_finite, check_settlement, decision_end, decision_from
from echo_proxy.stores.redis_errors import redis_errors
from echo_proxy.stores.redis_part import RedisPart
from echo_proxy.stores.redis_scripts import REPORT, SETTLE, expiry_ms, settle_arguments, settle_keys
from echo_proxy.types import ArmKey, ArmSums, DecisionRecord, LessonPage, Load, Settlement

_LOG_CHUNK = 100
"""Log entries read at once when expired ones stand among them."""


class RedisLedger(RedisPart):
    """A Ledger in Redis. Whoever connects it sets its connection."""

    async def settle(self, settlement: Settlement) -> bool:
        """Apply record, increments and example increments at once; False when the revision is not the next one.

        Increments fade as if they had been known when the decision was taken, so late feedback replaces exactly what
        is left of the early guess. Raises ValueError on a number that is not finite.
        """
        check_settlement(settlement)
        keys = settle_keys(settlement, self._keys)
        arguments = settle_arguments(settlement, self._config, self._clock.now())
        return bool(await self._run("settle", SETTLE, keys, arguments))

    async def decision(self, decision_id: str) -> DecisionRecord | None:
        """The record, or None when unknown or expired."""
        with redis_errors("decision"):
            raw = await self._client.hgetall(self._keys.decision(decision_id))
        return self._decision_from(raw)

    async def decisions(self, scope: str | None, limit: int) -> tuple[DecisionRecord, ...]:
        """The newest settled decisions of a scope (None = all), newest first.

        A scope lists what was settled since there are logs by scope.
        """
        log = self._keys.log if scope is None else self._keys.scope_log(scope)
        found: list[DecisionRecord] = []
        newest, n = "+", limit
        while len(found) < limit:
            with redis_errors("decisions"):
                entries = await self._client.xrevrange(log, max=newest, count=n)
                found += await self._decisions([fields[b"decision"] for _, fields in entries])
            if len(entries) < n:
                break
            newest, n = "(" + entries[-1][0].decode(), _LOG_CHUNK  # those that have expired left room
        return tuple(found[:limit])

    async def sums(self) -> Mapping[ArmKey, ArmSums]:
        """Merged evidence of all workers, faded to now."""
        with redis_errors("sums"):
            keys = await self._client.smembers(self._keys.arms)
            rows = await self._hashes(keys)
        return dict(self._faded(as_texts(row)) for row in rows if row)

    async def lessons(self, cursor: str, limit: int) -> LessonPage:
        """What was settled since the cursor, oldest first, limit at most; "" begins with the oldest that is kept."""
        return await read_page(self._lesson_entries, cursor, limit)

    async def count(self, counters: Mapping[tuple[str, str], float]) -> None:
        """Add to the counts by (scope, name). Raises ValueError on an amount that is not finite."""
        if not counters:
            return
        check_finite("a count", counters.values())
        with redis_errors("count"):
            async with self._client.pipeline(transaction=True) as pipe:
                for (scope, name), amount in counters.items():
                    pipe.hincrbyfloat(self._keys.count(scope), name, amount)
                    pipe.hincrbyfloat(self._keys.total, name, amount)
                await pipe.execute()

    async def counters(self, scope: str | None) -> Mapping[str, float]:
        """Counts of a scope (None = the sum over all), by name."""
        with redis_errors("counters"):
            raw = await self._client.hgetall(self._keys.total if scope is None else self._keys.count(scope))
        return {as_text(name): float(value) for name, value in raw.items()}

    # ------------------------------------------------------------------ for a while

    async def report_loads(self, worker: str, loads: Mapping[str, Load], ttl_s: float) -> None:
        """Replace what a worker says of its deployments. Raises ValueError on a number that is not finite."""
        now = self._clock.now()
        arguments = [worker, loads_text(loads, now + ttl_s), now]
        await self._run("report_loads", REPORT, [self._keys.loads], arguments)

    async def loads(self) -> Mapping[str, Mapping[str, Load]]:
        """What the live workers say of their deployments, by worker."""
        with redis_errors("loads"):
            said = as_texts(await self._client.hgetall(self._keys.loads))
        now = self._clock.now()
        return {worker: loads for worker, text in said.items() if (loads := loads_from(text, now)) is not None}

    async def remember_turn(self, conversation: str, deployment: str, ttl_s: float) -> None:
        """Note which deployment answered a conversation's last turn."""
        until = self._clock.now() + ttl_s
        with redis_errors("remember_turn"):
            key = self._keys.conversation(conversation)
            await self._client.set(key, turn_text(deployment, until), pxat=expiry_ms(until))

    async def last_turn(self, conversation: str) -> str:
        """Deployment that answered a conversation's last turn; empty when unknown or forgotten."""
        with redis_errors("last_turn"):
            raw = await self._client.get(self._keys.conversation(conversation))
        return turn_from(raw or "", self._clock.now())

    # ------------------------------------------------------------------ replies

    async def _lesson_entries(self, cursor: str, limit: int) -> list[tuple[str, bytes]]:
        with redis_errors("lessons"):
            oldest = f"({cursor}" if cursor else "-"
            entries = await self._client.xrange(self._keys.lessons, min=oldest, count=limit)
        return [(entry_id.decode(), fields.get(b"body", b"")) for entry_id, fields in entries]

    async def _decisions(self, decision_ids: Sequence[bytes]) -> list[DecisionRecord]:
        rows = await self._hashes([self._keys.decision(as_text(decision_id)) for decision_id in decision_ids])
        return [record for row in rows if (record := self._decision_from(row)) is not None]

    def _decision_from(self, raw: Mapping[bytes, bytes]) -> DecisionRecord | None:
        record = decision_from(as_texts(raw)) if raw else None
        return record if record and decision_end(record, self._config) > self._clock.now() else None

    async def _hashes(self, keys: Sequence[str | bytes]) -> list[Mapping[bytes, bytes]]:
        async with self._client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            return list(await pipe.execute()) if keys else []

    def _faded(self, row: Mapping[str, str]) -> tuple[ArmKey, ArmSums]:
        sums = ArmSums(float(row["weight"]), float(row["reward_sum"]), float(row["reward_sq_sum"]))
        elapsed_s = self._clock.now() - float(row["faded_at"])
        return ArmKey(row["arm"], row["segment"]), faded(sums, fading_factor(elapsed_s, self._config.half_life_s))


def as_text(raw: bytes) -> str:
    """As it was written, half surrogate pairs too."""
    return raw.decode("utf-8", "surrogatepass")


def as_texts(raw: Mapping[bytes, bytes]) -> dict[str, str]:
    """A HASH whose fields are all text."""
    return {as_text(name): as_text(value) for name, value in raw.items()}
