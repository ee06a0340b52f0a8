"""Every query of the guide is run against a real Redis, and returns what the text beside it says."""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from docs.queries import GUIDE, documents, entries, pairs, queries, rows
from echo_proxy.clock import SystemClock
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.embedded import EmbeddedRedis
from echo_proxy.stores.keys import Keys
from echo_proxy.stores.records import EXAMPLE_FIELDS
from echo_proxy.stores.redis import RedisStore
from echo_proxy.types import ArmKey, Example
from tests.docs.filled import DIMENSIONS, POLICY, Filled, fill
from tests.stores.servers import PATIENT

KEYS = Keys(POLICY)


@dataclass(frozen=True)
class Asked:
    """A query's reply, and what was in the store."""

    reply: Any
    filled: Filled

    def newest(self, holds: Callable[[Example], bool] = lambda one: True) -> list[str]:
        """Keys of examples, newest first."""
        return self.ordered("created_at", holds)

    def ordered(self, name: str, holds: Callable[[Example], bool] = lambda one: True) -> list[str]:
        """Keys of examples, the largest first."""
        found = sorted(filter(holds, self.filled.examples), key=lambda one: -float(getattr(one, name)))
        return [KEYS.example(one.id) for one in found]

    def keys(self) -> list[str]:
        """Keys that a search returned."""
        return [one["key"] for one in documents(self.reply)]


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of its own: the guide's policy has a fixed name."""
    server = EmbeddedRedis(tmp_path_factory.mktemp("guide"))
    yield server.start()
    server.stop()


@pytest.fixture
async def filled(redis_url: str) -> AsyncIterator[Filled]:
    """The store of the guide's policy, filled anew."""
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        client.flushall()
    config = StoreConfig(POLICY, "all-minilm-l6-v2-int8", DIMENSIONS, "flat", 86400.0, 86400.0 * 30, 1000)
    store = RedisStore(config, redis_url, SystemClock(), **PATIENT)
    await store.open()
    yield await fill(store)
    await store.close()


def ask(url: str, title: str, filled: Filled, example_id: str = "") -> Asked:
    """The reply to a query, as it comes over the wire."""
    with redis.Redis.from_url(url, protocol=2) as client:
        client.response_callbacks.clear()
        return Asked(client.execute_command(*queries()[title].words(example_id)), filled)


# ------------------------------------------------------------------ what the text beside each query says


def newest_examples(asked: Asked) -> None:
    assert asked.reply[0] == len(asked.filled.examples)
    assert asked.keys() == asked.newest()[:10]
    assert set(documents(asked.reply)[0]) >= {"key", "scope", "teacher", "quality", "request"}


def examples_of_a_scope(asked: Asked) -> None:
    assert asked.keys() == asked.newest(lambda one: one.scope == "team:red")[:10]


def examples_by_a_writer(asked: Asked) -> None:
    assert len(asked.keys()) == 6
    assert asked.keys() == asked.newest(lambda one: one.writer == "bad0")
    assert len({one["scope"] for one in documents(asked.reply)}) > 1


def examples_in_quarantine(asked: Asked) -> None:
    assert asked.keys()
    assert asked.keys() == asked.newest(lambda one: one.reader != "")
    assert documents(asked.reply)[0]["confirmed_by"] == '["c0de"]'


def best_offloads(asked: Asked) -> None:
    assert asked.keys() == asked.ordered("offloads")[:10]


def most_regret(asked: Asked) -> None:
    assert asked.keys() == asked.ordered("regret", lambda one: one.regret >= 0.5)[:10]


def biggest_examples(asked: Asked) -> None:
    sizes = [int(one["n_bytes"]) for one in documents(asked.reply)]

    assert sizes == sorted((one.n_bytes for one in asked.filled.examples), reverse=True)[:5]


def old_examples_that_were_never_of_use(asked: Asked) -> None:
    unused = asked.newest(lambda one: one.uses == 0)

    assert unused
    assert [one["__key"] for one in rows(asked.reply)] == unused[::-1][:10]


def near_a_stored_example(asked: Asked) -> None:
    target = asked.filled.examples[7]
    near = sorted(asked.filled.examples, key=lambda one: -float(one.vector @ target.vector))[:5]
    found = documents(asked.reply)

    assert {one["key"] for one in found} == {KEYS.example(one.id) for one in near}
    assert found[0]["key"] == KEYS.example(target.id)
    assert [float(one["distance"]) for one in found] == pytest.approx(
        [1 - float(one.vector @ target.vector) for one in near], abs=1e-5
    )


def examples_by_teacher(asked: Asked) -> None:
    expected = Counter(one.teacher for one in asked.filled.examples)
    found = rows(asked.reply)
    first = [one for one in asked.filled.examples if one.teacher == found[0]["teacher"]]

    assert [(one["teacher"], int(one["n"])) for one in found] == expected.most_common()
    assert float(found[0]["bytes"]) == sum(one.n_bytes for one in first)
    assert float(found[0]["quality"]) == pytest.approx(sum(one.quality for one in first) / len(first))
    assert float(found[0]["offloads"]) == pytest.approx(sum(one.offloads for one in first), rel=1e-3)


def bytes_by_scope(asked: Asked) -> None:
    sums: Counter[str] = Counter()
    for one in asked.filled.examples:
        sums[one.scope] += one.n_bytes

    assert [(one["scope"], float(one["bytes"])) for one in rows(asked.reply)] == sums.most_common()


def state_of_the_index(asked: Asked) -> None:
    found = dict(zip(asked.reply[::2], asked.reply[1::2], strict=True))

    assert int(found[b"num_docs"]) == len(asked.filled.examples)
    assert float(found[b"percent_indexed"]) == 1
    assert int(found[b"hash_indexing_failures"]) == 0


def evidence_of_the_arms(asked: Asked) -> None:
    lines = [one.decode() for one in asked.reply]
    found = {ArmKey(*lines[i : i + 2]): (float(lines[i + 2]), float(lines[i + 3])) for i in range(0, len(lines), 4)}

    assert set(found) == set(asked.filled.evidence)
    for key, sums in asked.filled.evidence.items():
        assert found[key] == pytest.approx((sums.weight, sums.reward_sum), rel=0.01)


def newest_decisions(asked: Asked) -> None:
    found = entries(asked.reply)

    assert [one["decision"] for one in found] == list(reversed(asked.filled.decisions))[:10]
    assert set(found[0]) == {"decision", "scope", "arm", "reward"}


def newest_decisions_of_a_scope(asked: Asked) -> None:
    assert [one["decision"] for one in entries(asked.reply)] == list(reversed(asked.filled.decisions[::2]))[:10]


def one_decision(asked: Asked) -> None:
    found = pairs(asked.reply)

    assert found["id"] == asked.filled.decisions[3]
    assert {"arm", "propensity", "prompt_tokens", "cost_usd", "quality", "explanation"} <= set(found)


def rounds_of_upkeep(asked: Asked) -> None:
    found = entries(asked.reply)

    assert [one["ending"] for one in found] == [one.ending for one in reversed(asked.filled.runs)]
    assert json.loads(found[0]["body"])["report"] == dict(asked.filled.runs[-1].report)


def who_does_the_upkeep(asked: Asked) -> None:
    assert asked.reply.decode() == f"{asked.filled.lease.fence} {asked.filled.lease.holder}"


def notes(asked: Asked) -> None:
    assert pairs(asked.reply) == {"cutoff": '{"share_improved": 0.4}'}


def purge_by_writer(asked: Asked) -> None:
    assert asked.reply == sum(one.writer == "bad0" for one in asked.filled.examples)


CHECKS = {
    check.__name__.replace("_", " ").capitalize(): check
    for check in (
        *(newest_examples, examples_of_a_scope, examples_by_a_writer, examples_in_quarantine, best_offloads),
        *(most_regret, biggest_examples, old_examples_that_were_never_of_use, near_a_stored_example),
        *(examples_by_teacher, bytes_by_scope, state_of_the_index, evidence_of_the_arms, newest_decisions),
        *(newest_decisions_of_a_scope, one_decision, rounds_of_upkeep, who_does_the_upkeep, notes, purge_by_writer),
    )
}


def test_every_query_has_its_check() -> None:
    """A query that is added to the guide without one fails here; so does a fenced block that is not found."""
    guide = GUIDE.read_text()

    assert list(queries()) == list(CHECKS)
    assert guide.count("```redis") == len(CHECKS)


@pytest.mark.parametrize("title", list(CHECKS))
async def test_a_query_returns_what_the_guide_says(title: str, filled: Filled, redis_url: str) -> None:
    """Of a store that holds all kinds of examples, decisions and rounds."""
    example_id = filled.decisions[3] if title == "One decision" else filled.examples[7].id

    CHECKS[title](ask(redis_url, title, filled, example_id))


async def test_a_purge_ends(filled: Filled, redis_url: str) -> None:
    """The second run finds nothing, and all others are still there."""
    ask(redis_url, "Purge by writer", filled)

    assert ask(redis_url, "Purge by writer", filled).reply == 0
    assert ask(redis_url, "Newest examples", filled).reply[0] == sum(one.writer != "bad0" for one in filled.examples)


async def test_a_lease_that_nobody_has_is_nothing(filled: Filled, redis_url: str) -> None:
    """As the guide says of it."""
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        client.delete(KEYS.lease("upkeep"))

    assert ask(redis_url, "Who does the upkeep", filled).reply is None


def test_every_key_is_documented() -> None:
    """All that stores/keys.py can name."""
    guide = GUIDE.read_text()
    fixed = [KEYS.index, KEYS.meta, KEYS.reembedded, KEYS.log, KEYS.lessons, KEYS.loads, KEYS.fence, KEYS.runs]
    fixed += [KEYS.notes, KEYS.arms, KEYS.total]
    made = [KEYS.lease("<name>"), KEYS.example("<id>"), KEYS.decision("<id>"), KEYS.conversation("<hash>")]
    made += [f"{KEYS.root}:count:<scope>", f"{KEYS.log}:<scope>", f"{KEYS.root}:arm:<arm>:<segment>"]
    public = {name for name in dir(Keys) if not name.startswith("_")} - {"policy", "root"}

    assert len(public - {"example_prefix", "example_pattern"}) == len(fixed + made)
    assert [key for key in fixed + made if f"| `{key}` |" not in guide] == []


def test_every_field_of_an_example_is_documented() -> None:
    """All that stands in its HASH, and whether it is indexed."""
    table = GUIDE.read_text().split("### Fields of an example")[1].split("## Queries")[0]
    named = set(re.findall(r"`([a-z_]+)`", "\n".join(line.split("|")[1] for line in table.splitlines() if "|" in line)))

    assert set(EXAMPLE_FIELDS) - named == set()


def test_every_picture_is_there() -> None:
    """Drawn by docs/pictures.py."""
    named = re.findall(r"\]\((pictures/[^)]+)\)", GUIDE.read_text())

    assert named
    assert [name for name in named if not (GUIDE.parent / name).is_file()] == []
