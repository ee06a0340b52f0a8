"""What was acknowledged is kept, whatever is killed."""

import asyncio
from pathlib import Path

import pytest

from echo_proxy.errors import SchemaMismatch, StoreUnavailable
from echo_proxy.protocols import Store
from echo_proxy.stores.connect import make_reembeddable, make_store
from echo_proxy.stores.embedded import EmbeddedRedis
from echo_proxy.stores.redis import RedisStore
from tests.contracts import NOW, SMALL, calls_of_workers, config_of, example, ids, query, reembed, settlement, vector
from tests.fakes import FrozenClock
from tests.stores.servers import NewServer, Script, eventually
from tests.stores.test_embedded import server_process

CLOCK = FrozenClock(NOW)
N_BEFORE_KILL = 60
WRITER = """
import asyncio, sys
from echo_proxy.stores.connect import make_reembeddable, make_store
from echo_proxy.types import ArmSums
from tests.contracts import NOW, config_of, example, settlement
from tests.fakes import FrozenClock

async def write(url):
    store = make_store(url, config_of("p"), FrozenClock(NOW), 20.0)
    await store.open()
    for i in range(10**6):
        await store.add(example(f"e{i}"))
        await store.settle(settlement(f"d{i}", sums=ArmSums(1, 1, 1)))
        print(i, flush=True)

asyncio.run(write(sys.argv[1]))
"""


async def opened(url: str) -> Store:
    """Another worker's view."""
    store = make_store(url, config_of("p"), CLOCK, 20.0)
    await store.open()
    return store


async def missing(store: Store, last: int) -> list[int]:
    """Which of the acknowledged writes 0..last are not there."""
    return [i for i in range(last + 1) if not (await store.get(f"e{i}") and await store.decision(f"d{i}"))]


@pytest.mark.parametrize("kind", ["sqlite", "embedded"])
async def test_kill_9_of_a_writer_loses_nothing(kind: str, tmp_path: Path) -> None:
    """Killed in the middle of writing, its acknowledged writes are there, and no settlement is half applied."""
    url = f"{kind}://{tmp_path}/state"
    writer = Script(WRITER, url, tmp_path / "acknowledged")
    writer.until_lines(N_BEFORE_KILL)
    writer.kill()
    last = int(writer.lines()[-1])
    store = await opened(url)
    lost = await missing(store, last)
    (sums,) = (await store.sums()).values()
    n_decisions = len(await store.decisions(None, 1000))
    await store.close()

    assert lost == []
    assert sums.weight == n_decisions


async def test_kill_9_of_redis_loses_nothing(tmp_path: Path) -> None:
    """Its keeper starts it again, the store reconnects by itself, and every acknowledged write is there."""
    server = EmbeddedRedis(tmp_path)
    store = RedisStore(config_of("p"), server.start(), CLOCK)
    await store.open()
    acknowledged = []

    async def write(i: int) -> None:
        await store.add(example(f"e{i}"))
        await store.settle(settlement(f"d{i}"))
        acknowledged.append(i)

    writes = [asyncio.create_task(write(i)) for i in range(300)]
    while len(acknowledged) < 50:
        await asyncio.sleep(0)
    server_process(tmp_path).kill()
    results = await asyncio.gather(*writes, return_exceptions=True)

    async def is_back() -> bool:
        try:
            return bool(await store.nearest(query()))
        except StoreUnavailable:
            return False

    await eventually(is_back, "the store serves again")
    lost = [i for i in acknowledged if not (await store.get(f"e{i}") and await store.decision(f"d{i}"))]
    await store.close()
    server.stop()

    assert lost == []
    assert {type(result) for result in results} <= {type(None), StoreUnavailable}


async def test_a_dead_redis_is_unavailable_until_it_is_back(new_server: NewServer) -> None:
    """Every call says so in time, and works again after the restart without reopening."""
    server = new_server("--appendonly", "yes")
    store = RedisStore(config_of("p"), server.url, CLOCK)
    await store.open()
    await store.add(example("e"))
    server.kill()
    for call in (store.nearest(query()), store.add(example("e2")), store.sums(), store.settle(settlement("d"))):
        with pytest.raises(StoreUnavailable, match="Redis failed at"):
            await call
    for call in calls_of_workers(store):
        with pytest.raises(StoreUnavailable, match="Redis failed at"):
            await call
    away = await store.status()
    server.start()
    found = await store.nearest(query())
    await store.close()

    assert away.is_ready is False
    assert [candidate.example.id for candidate in found] == ["e"]


async def test_a_redis_that_does_not_answer_times_out(tmp_path: Path) -> None:
    """A black-holed server costs one read timeout, not several."""
    silent = await asyncio.start_server(lambda _reader, _writer: asyncio.Event().wait(), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    store = RedisStore(config_of("p"), f"redis://127.0.0.1:{port}", CLOCK, read_timeout_s=0.1)
    started = asyncio.get_running_loop().time()
    with pytest.raises(StoreUnavailable, match="Timeout"):
        await store.open()
    took_s = asyncio.get_running_loop().time() - started
    silent.close()

    assert took_s < 0.5


async def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    """Neither it nor a folder in its place is overwritten."""
    (tmp_path / "text").write_text("not a database " * 100)
    for name in ("text", "."):
        with pytest.raises(StoreUnavailable, match="SQLite failed at"):
            await opened(f"sqlite://{tmp_path}/{name}")

    assert (tmp_path / "text").read_text().startswith("not a database")


REEMBEDDER = """
import asyncio, sys
from echo_proxy.stores.connect import make_reembeddable
from tests.contracts import NOW, SMALL, calls_of_workers, config_of, with_small_vectors
from tests.fakes import FrozenClock

async def reembed(url):
    async with make_reembeddable(url, config_of("p", **SMALL), FrozenClock(NOW)).reembedding() as work:
        while (backlog := await work.stale(3)).examples:
            await work.rewrite(with_small_vectors(backlog.examples))
            print(backlog.n_left, flush=True)

asyncio.run(reembed(sys.argv[1]))
"""


@pytest.mark.parametrize("kind", ["embedded", "sqlite"])
async def test_a_killed_reembedding_loses_nothing(kind: str, tmp_path: Path) -> None:
    """After kill -9 in the middle nobody with the new model opens; the next run embeds the rest, and all are found."""
    url = f"{kind}://{tmp_path}/state"
    store = make_store(url, config_of("p"), CLOCK, 20.0)
    await store.open()
    for i in range(300):
        await store.add(example(f"e{i}", i / 1000))
    await store.close()
    child = Script(REEMBEDDER, url, tmp_path / "progress")
    child.until_lines(10)
    child.kill()
    after = make_store(url, config_of("p", **SMALL), CLOCK, timeout_s=20.0)
    with pytest.raises(SchemaMismatch, match="in part"):
        await after.open()
    seen = await reembed(make_reembeddable(url, config_of("p", **SMALL), CLOCK))
    await after.open()
    found = await after.nearest(query(vector=-vector(0.0)[:4], k=300))
    await after.close()

    assert len(seen) <= 270
    assert ids(found) == [f"e{i}" for i in range(300)]
