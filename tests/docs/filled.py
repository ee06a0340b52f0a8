"""A store such as some weeks of use leave: what the guide's queries are run against, and its pictures drawn from."""

import time
from dataclasses import dataclass, replace
from random import Random

from echo_proxy.demo.world import Item, Relation, make_world
from echo_proxy.embedders.local import LocalEmbedder
from echo_proxy.protocols import Embedder, Store
from echo_proxy.types import (
    ArmKey,
    ArmSums,
    Example,
    Increment,
    Lease,
    Observation,
    Origin,
    Replayed,
    Settlement,
    UpkeepRun,
)
from tests.builders import example, record

POLICY = "default"
DIMENSIONS = 384
N_EXAMPLES = 60
N_DECISIONS = 30
_WRITERS = {"key:4f1c": "4f1c", "team:red": "9b2e", "public:all": "77aa"}
_HOUR = 3600.0


@dataclass(frozen=True)
class Filled:
    """What was put into the store."""

    examples: tuple[Example, ...]
    decisions: tuple[str, ...]
    """Ids, oldest first."""
    evidence: dict[ArmKey, ArmSums]
    runs: tuple[UpkeepRun, ...]
    lease: Lease


async def fill(store: Store, embedder: Embedder | None = None, seed: int = 5) -> Filled:
    """Fill an open store of policy `default`, by the demo's world."""
    rng = Random(seed)
    own = LocalEmbedder() if embedder is None else None
    examples = await _examples(rng, embedder or own)  # type: ignore[arg-type]
    if own is not None:
        await own.close()
    await store.add_many(examples)
    evidence = {
        ArmKey("small+4", "utility[0.9,1] names=held"): ArmSums(212.0, 187.5, 170.0),
        ArmKey("small+0", "utility[0,0.5) names=none"): ArmSums(40.0, 12.0, 8.0),
        ArmKey("large+0", "utility[0,0.5) names=none"): ArmSums(95.0, 80.25, 71.0),
    }
    decisions = await _settle(store, rng, evidence, examples)
    now = time.time()
    runs = tuple(
        UpkeepRun(
            f"run-{i}", now - 3600 * (4 - i), now - 3600 * (4 - i) + 40, "worker-1", ending, 0.02 * i, {"evicted": i}
        )
        for i, ending in enumerate(("done", "busy", "done", "budget"))
    )
    for run in runs:
        await store.note_run(run)
    lease = await store.take_lease("upkeep", "worker-1", 600.0)
    assert lease is not None
    await store.put_note("cutoff", '{"share_improved": 0.4}')
    return Filled(tuple(examples), decisions, evidence, runs, lease)


async def _examples(rng: Random, embedder: Embedder) -> list[Example]:
    items = _items(rng)
    rows = await embedder.embed([item.question for item in items])
    now = time.time()
    made = [_example(i, item, rng, now) for i, item in enumerate(items)]
    return [replace(one, vector=row) for one, row in zip(made, rows, strict=True)]


def _items(rng: Random) -> list[Item]:
    """Questions about countries, none twice."""
    world = make_world()
    countries = list(world.facts)[: N_EXAMPLES // 6]
    return [world.fact(country, relation, rng.randrange(5)) for country in countries for relation in Relation]


def _example(i: int, item: Item, rng: Random, now: float) -> Example:
    scope = ("key:4f1c", "team:red", "team:red", "public:all")[i % 4]
    writer = _WRITERS[scope] if i % 10 else "bad0"
    origin: Origin = "shared" if scope == "public:all" else ("import" if i % 7 == 0 else "traffic")
    created_at = now - i * _HOUR * 3 - rng.random() * _HOUR
    uses = float(rng.randrange(30))
    return example(
        f"{int(created_at * 1000):012x}{i:020x}",
        request=item.question,
        response=item.answer * (1 + i % 3),
        scope=scope,
        teacher=("cloud-large", "cloud-large", "cloud-medium")[i % 3],
        writer=writer,
        reader=writer if scope != "key:4f1c" and i % 5 == 1 else "",
        confirmed_by=("c0de",) if i % 10 == 1 else (),
        origin=origin,
        quality=round(0.6 + 0.4 * rng.random(), 3),
        created_at=created_at,
        expires_at=now + 20 * 86400.0,
        uses=uses,
        gain=uses * 0.8,
        offloads=round(rng.random() * 9, 3),
        regret=round(rng.random(), 4),
        counted_at=now,
        history=(Replayed(created_at + 60, "cloud-large", 3, True, 0.8, "ab12"),) if i % 9 == 0 else (),
        observations=(Observation(0.1, True, created_at),) if i % 4 == 0 else (),
    )


async def _settle(
    store: Store, rng: Random, evidence: dict[ArmKey, ArmSums], examples: list[Example]
) -> tuple[str, ...]:
    now, ids = time.time(), []
    for i in range(N_DECISIONS):
        key = list(evidence)[i % len(evidence)]
        share = ArmSums(*(value * len(evidence) / N_DECISIONS for value in _numbers(evidence[key])))
        made = record(
            f"d{i:03d}",
            policy=POLICY,
            scope=("team:red", "key:4f1c")[i % 2],
            created_at=now - 1,
            expires_at=now + 86400,
            arm=key.arm,
            reward=round(0.5 + 0.5 * rng.random(), 3),
            example_ids=(examples[i].id,),
        )
        assert await store.settle(Settlement(made, (Increment(key, share),), ()))
        ids.append(made.id)
    return tuple(ids)


def _numbers(sums: ArmSums) -> tuple[float, float, float]:
    return sums.weight, sums.reward_sum, sums.reward_sq_sum
