"""How long does it take to plan an eviction of a real store and to carry it out, and what does it take in memory?

    python -m bench.keeping.eviction_store [--n 100000] [--store redis|sqlite] [--share 0.25] [--seed 7]

A fresh store (the embedded Redis with a FLAT index, or SQLite) is filled with made-up examples in clusters of about
20 near ones, answers of log-normal lengths (median 400 bytes) and offloads from Gamma(0.3). Then everything that upkeep
does: columns and vectors are read, the plan is made, and what is planned is removed under a lease. Memory is the
largest resident size of this process, which fills the store batch by batch and holds none of it.
"""

import argparse
import asyncio
import resource
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from bench.table import show
from echo_proxy.clock import SystemClock
from echo_proxy.policy_keeping import UpkeepPolicy
from echo_proxy.protocols import Store
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.embedded import EmbeddedRedis
from echo_proxy.stores.redis import RedisStore
from echo_proxy.stores.sqlite import SqliteStore
from echo_proxy.types import Example
from echo_proxy.upkeep.evict import act, plan_eviction

_BATCH = 100
_DIMENSIONS = 384
_CONFIG = StoreConfig("bench", "none", _DIMENSIONS, "flat", 0.0, 3600.0, 1000)


@asynccontextmanager
async def opened(kind: str, folder: Path) -> AsyncIterator[Store]:
    """An empty store."""
    server = EmbeddedRedis(folder) if kind == "redis" else None
    made = RedisStore(_CONFIG, server.start(), SystemClock()) if server else None
    store: Store = made or SqliteStore(_CONFIG, folder / "store.db", SystemClock())
    try:
        await store.open()
        yield store
        await store.close()
    finally:
        if server:
            server.stop()


class Maker:
    """Makes examples."""

    def __init__(self, n: int, seed: int, now: float) -> None:
        self._rng = np.random.default_rng(seed)
        self._centres = self._rng.normal(size=(max(n // 20, 1), _DIMENSIONS)).astype(np.float32)
        self._now = now

    def example(self, place: int) -> Example:
        """One that is at least a day old."""
        rng = self._rng
        around = self._centres[rng.integers(len(self._centres))]
        vector = around + 0.4 * rng.normal(size=_DIMENSIONS).astype(np.float32)
        return Example(
            id=f"{place:032x}",
            scope="key:a",
            partition="p",
            request=f"How do I do thing {place} in Paris?",
            response="x" * int(rng.lognormal(6, 1)),
            vector=vector / np.linalg.norm(vector),
            teacher="large",
            decision_id=f"{place:032x}",
            writer="a",
            quality=1.0,
            n_tokens=100,
            created_at=self._now - 86_400 - place * 0.1,
            expires_at=self._now + 86_400 * 30,
            uses=1.0,
            gain=1.0,
            offloads=float(rng.gamma(0.3)),
            counted_at=self._now,
        )


async def measure(kind: str, n: int, share: float, seed: int) -> dict[str, object]:
    """Seconds of each step."""
    now = time.time()
    with tempfile.TemporaryDirectory() as folder:
        async with opened(kind, Path(folder)) as store:
            maker = Maker(n, seed, now)
            n_bytes = 0
            for first in range(0, n, _BATCH):
                made = [maker.example(place) for place in range(first, min(first + _BATCH, n))]
                n_bytes += sum(one.n_bytes for one in made)
                await store.add_many(made)
            rules = UpkeepPolicy(max_bytes=int(share * n_bytes))
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            started, worked = time.perf_counter(), time.process_time()
            plan = await plan_eviction(store, rules, now, None)
            planned, thought = time.perf_counter(), time.process_time()
            lease = await store.take_lease("upkeep", "bench", 3600.0)
            assert lease is not None  # nobody else is here
            n_gone = sum([gone async for gone in act(store, plan, lease)])
            acted = time.perf_counter()
            again = await plan_eviction(store, rules, now, None)
    return {
        "examples": n,
        "store": kind,
        "seconds to plan": planned - started,
        "of processor time": thought - worked,
        "seconds to remove": acted - planned,
        "removed": n_gone,
        "planned anew after that": len(again.ids),
        "bytes left / budget": again.bytes_before / again.budget_bytes,
        "share of the value lost": plan.lost_share,
        "gap to the bound": plan.gap,
        "MiB resident, before": before,
        "MiB resident, largest": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="e.g. --n 5000 --store sqlite"
    )
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--store", choices=("redis", "sqlite"), default="redis")
    parser.add_argument("--share", type=float, default=0.25, help="of the bytes that may stay")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    show("eviction of a real store", asyncio.run(measure(given.store, given.n, given.share, given.seed)))


if __name__ == "__main__":
    main()
