"""Redis is reached over TLS, through Sentinel and in a cluster; each is really run."""

import datetime
import ipaddress
import re
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from echo_proxy.errors import StoreUnavailable
from echo_proxy.stores.redis import RedisStore
from echo_proxy.stores.redis_connect import connect
from echo_proxy.types import (
    ArmKey,
    ArmSums,
    ExampleIncrement,
    Held,
    Increment,
    Load,
    Observation,
    Settlement,
    Which,
)
from tests.contracts import NOW, SMALL, amendment, config_of, example, ids, query, record, reembed, taught, vector
from tests.contracts_examples import all_holdings, walked
from tests.contracts_upkeep import run
from tests.fakes import FrozenClock
from tests.stores.servers import PATIENT, NewServer, Server, TlsFront, eventually, free_port, until

CLOCK = FrozenClock(NOW)


async def exercise(url: str, policy: str) -> str:
    """Every kind of command once; returns the engine's name."""
    store = RedisStore(config_of(policy), url, CLOCK, **PATIENT)
    await store.open()
    try:
        await store.add(example("e1"))
        await store.add(example("e2", 0.5))
        change = Increment(ArmKey("a", "all"), ArmSums(1, 1, 1))
        assert await store.settle(Settlement(record("d"), (change,), (ExampleIncrement("e1", 1.0, 0.5),)))
        await store.count({("key:a", "n"): 2.0})
        assert await store.settle(taught("d", 2))
        await store.report_loads("w", {"small": Load(1)}, 10)
        await store.remember_turn("c", "small", 10)

        assert ids(await store.nearest(query())) == ["e1", "e2"]
        assert len(await store.page(None, 0, 9)) == 2
        assert await store.decisions(None, 9) == await store.decisions("key:a", 9) == (record("d", 2),)
        assert (await store.lessons("", 9)).lessons == (amendment("d"),)
        assert await store.loads() == {"w": {"small": Load(1)}}
        assert await store.last_turn("c") == "small"
        assert await store.sums() == {change.key: change.sums}
        assert await store.counters(None) == {"n": 2.0}
        await exercise_upkeep(store)
        status = await store.status()
        assert status.is_ready, status.detail
        return status.engine
    finally:
        await store.close()


async def exercise_upkeep(store: RedisStore) -> None:
    """What upkeep asks of examples e1 and e2, which are gone afterwards."""
    lease = await store.take_lease("upkeep", "one", 60)
    assert lease is not None
    assert await store.keep_lease(lease, 60)
    before = await store.get("e1")
    assert before is not None
    assert await store.change(before, replace(before, quality=0.5), lease)
    assert await store.observe("e1", 2, Observation(0.1, True, NOW))
    assert await store.held_by("a") == Held(2, 2 * before.n_bytes)
    assert sorted(await all_holdings(store)) == await walked(store, Which(writer="a"), 10) == ["e1", "e2"]
    assert await store.remove(["e1", "e2"], lease) == 2
    await store.drop_lease(lease)
    await store.note_run(run("r"))
    await store.put_note("n", "text")
    assert await store.runs(9) == (run("r"),)
    assert await store.note("n") == "text"


@pytest.fixture
def server(new_server: NewServer) -> Server:
    return new_server("--repl-diskless-sync-delay", "0")


# ------------------------------------------------------------------ TLS


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    ca = x509.BasicConstraints(ca=True, path_length=None)
    certificate = builder.add_extension(address, False).add_extension(ca, True).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return folder / "cert.pem", folder / "key.pem"


async def test_tls_with_a_private_ca(server: Server, tmp_path: Path) -> None:
    """rediss:// trusts the CA of its query string, and nobody else."""
    certificate, key = write_certificate(tmp_path)
    async with TlsFront(certificate, key, server.port) as front:
        url = f"rediss://127.0.0.1:{front.port}"
        await exercise(f"{url}?ssl_ca_certs={certificate}", "tls")
        with pytest.raises(StoreUnavailable, match=r"(?i)certificate"):
            await exercise(url, "tls")

    assert front.n_accepted >= 1


async def test_a_password_is_needed_where_one_is_set(new_server: NewServer) -> None:
    """The right one works, a wrong one is unavailable; no message shows it."""
    server = new_server("--requirepass", "s3cret/@:")
    await exercise(f"redis://:s3cret%2F%40%3A@127.0.0.1:{server.port}", "p")
    with pytest.raises(StoreUnavailable) as caught:
        await exercise(f"redis://:wr0ng@127.0.0.1:{server.port}", "p")

    assert "wr0ng" not in str(caught.value)


# ------------------------------------------------------------------ Sentinel


@pytest.fixture
def replica(server: Server, new_server: NewServer) -> Server:
    one = new_server("--replicaof", f"127.0.0.1 {server.port}")
    until(lambda: "online" in str(server.ask("INFO", "replication")), "the replica follows")
    return one


@pytest.fixture
def sentinel(server: Server, new_server: NewServer, tmp_path: Path) -> Server:
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"sentinel monitor echo 127.0.0.1 {server.port} 1\nsentinel down-after-milliseconds echo 300\n"
        "sentinel failover-timeout echo 2000\n"
    )
    return new_server(str(config), "--sentinel", has_search=False)


async def test_sentinel_names_the_master(server: Server, sentinel: Server) -> None:
    """The store asks the Sentinels, the first of which may be away."""
    away = free_port()

    engine = await exercise(f"redis+sentinel://127.0.0.1:{away},127.0.0.1:{sentinel.port}/echo/0", "p")

    assert re.fullmatch(r"Redis \d+\.\d+\.\d+ \+ search \d+\.\d+\.\d+", engine)


async def test_a_failover_is_followed(server: Server, replica: Server, sentinel: Server) -> None:
    """When the master dies the store finds the promoted replica, with its examples and index."""
    store = RedisStore(config_of("p"), f"redis+sentinel://127.0.0.1:{sentinel.port}/echo", CLOCK)
    await store.open()
    await store.add(example("e"))
    server.ask("WAIT", 1, 5000)
    server.kill()

    async def serves() -> bool:
        try:
            await store.add(example("e2", 0.5))
            return ids(await store.nearest(query())) == ["e", "e2"]
        except StoreUnavailable:
            return False

    await eventually(serves, "the replica serves as master")
    await store.close()


@pytest.mark.parametrize("url", ["redis+sentinel://h", "redis+sentinel:///m", "http://h"])
def test_a_malformed_url_is_refused(url: str) -> None:
    """The message says the form that was expected."""
    with pytest.raises(ValueError, match="must be"):
        connect(url, 0.5, 0.5)


# ------------------------------------------------------------------ cluster


@pytest.fixture
def cluster(new_server: NewServer) -> list[Server]:
    nodes: list[Server] = []
    for i in range(3):
        bus_port = free_port()
        nodes.append(new_server("--cluster-enabled", "yes", "--cluster-port", str(bus_port)))
        nodes[i].ask("CLUSTER", "ADDSLOTSRANGE", i * 5462, min(16383, (i + 1) * 5462 - 1))
        nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", nodes[i].port, bus_port)
    until(lambda: all(is_whole(node) for node in nodes), "the cluster is whole")
    return nodes


def is_whole(node: Server) -> bool:
    """Whether a node knows of all slots."""
    return "ok" in str(node.ask("CLUSTER", "INFO")).partition("state")[2][:8]


async def test_a_cluster_keeps_each_policy_in_one_slot(cluster: list[Server]) -> None:
    """Policies on each of three nodes work, whichever node is named in the URL: searches go where the keys are."""
    for policy in ("a", "b", "c", "d"):
        await exercise(f"redis+cluster://127.0.0.1:{cluster[0].port}", policy)

    assert all(node.ask("DBSIZE") for node in cluster)


async def test_a_cluster_is_reembedded(cluster: list[Server]) -> None:
    """Scans, scripts, the new index and its exchange for another find the node that has the policy's keys."""
    url = f"redis+cluster://127.0.0.1:{cluster[0].port}"
    for policy in ("a", "b", "c", "d"):
        store = RedisStore(config_of(policy), url, CLOCK, **PATIENT)
        await store.open()
        for i in range(5):
            await store.add(example(f"e{i}", i / 10))
        await store.close()
        after = RedisStore(config_of(policy, **SMALL), url, CLOCK, **PATIENT)
        seen = await reembed(after)
        await after.open()
        found = await after.nearest(query(vector=-vector(0.0)[:4]))
        await after.close()
        n_forgotten = await RedisStore(config_of(policy, **SMALL), url, CLOCK, **PATIENT).forget_others()
        other = RedisStore(config_of(policy, index="hnsw", **SMALL), url, CLOCK, **PATIENT)
        await other.open()
        await _until_only_hnsw(cluster, policy)
        again = await other.nearest(query(vector=-vector(0.0)[:4]))
        await other.close()

        assert sorted(seen) == ids(found) == ids(again) == [f"e{i}" for i in range(5)]
        assert n_forgotten == 5


async def _until_only_hnsw(cluster: list[Server], policy: str) -> None:
    """Until that is the kind of the policy's only index on all nodes."""

    async def is_left() -> bool:
        names = [name.decode() for node in cluster for name in node.ask("FT._LIST")]  # type: ignore[attr-defined]
        kinds = [name.partition("@")[2] for name in names if name.startswith(f"echo:{{{policy}}}:")]
        return [kind.partition(".")[0] for kind in kinds] == ["hnsw"]

    await eventually(is_left, "only the new index is left")
