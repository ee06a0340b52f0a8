"""The embedded Redis serves all workers of a folder, survives them, and ends with the last."""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis

from echo_proxy.stores.embedded import EmbeddedRedis
from tests.stores.servers import Script, until

WORKER = """
import sys
from echo_proxy.stores.embedded import EmbeddedRedis
server = EmbeddedRedis(sys.argv[1])
print(server.start(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    until(lambda: not processes(tmp_path), "no process of the folder is left")


def processes(folder: Path, name: str = "") -> list[psutil.Process]:
    """Keeper and Redis of a folder; the one with a name that contains `name`."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(str(folder) in word for word in words):
            found.append(process)
    return [
        process for process in found if name in " ".join(process.info["cmdline"][:4]) and process.pid != os.getpid()
    ]


def server_process(folder: Path) -> psutil.Process:
    """The one Redis of a folder."""
    (one,) = [
        p
        for p in processes(folder)
        if p.info["cmdline"][0].endswith("redis-server") or "unixsocket:" in p.info["cmdline"][0]
    ]
    return one


def keeper_process(folder: Path) -> psutil.Process:
    """The one keeper of a folder."""
    (one,) = processes(folder, "keeper.py")
    return one


def client_of(url: str) -> redis.Redis:
    """A plain client of a Redis that has read its data."""
    client = redis.Redis.from_url(url, protocol=2)
    until(lambda: not is_loading(client), "Redis has read its data")
    return client


def is_loading(client: redis.Redis) -> bool:
    """Whether it still reads its data; False when it is away."""
    try:
        client.ping()
    except redis.BusyLoadingError:
        return True
    except redis.RedisError:
        return False
    return False


def answers(url: str) -> bool:
    """Whether Redis serves."""
    try:
        with client_of(url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def is_gone(url: str) -> bool:
    """Whether nothing listens."""
    return not answers(url)


def test_workers_share_one_and_the_last_ends_it(folder: Path) -> None:
    """The second worker finds the first one's Redis; it ends when both have stopped, and its data stay."""
    one, other = EmbeddedRedis(folder), EmbeddedRedis(folder)
    url = one.start()
    with client_of(url) as client:
        client.set("k", "v")
    same_url, pid = other.start(), server_process(folder).pid
    one.stop()
    still = answers(url)
    other.stop()
    gone = is_gone(url)
    again = EmbeddedRedis(folder)
    with client_of(again.start()) as client:
        kept = client.get("k")
    again.stop()

    assert (same_url, still, gone, kept) == (url, True, True, b"v")
    assert not psutil.pid_exists(pid)


def test_starting_and_stopping_again_is_harmless(folder: Path) -> None:
    """Both are idempotent."""
    server = EmbeddedRedis(folder)
    server.stop()

    assert server.start() == server.start()
    server.stop()
    server.stop()


@pytest.mark.parametrize("victim", ["redis", "keeper"])
def test_it_comes_back_when_killed(folder: Path, victim: str) -> None:
    """After kill -9 of Redis or of its keeper it serves the same data at the same address."""
    server = EmbeddedRedis(folder)
    url = server.start()
    with client_of(url) as client:
        client.set("k", "v")
    killed = server_process(folder) if victim == "redis" else keeper_process(folder)
    old = server_process(folder).pid
    killed.kill()
    until(lambda: not psutil.pid_exists(old), "the old Redis is gone")
    until(lambda: answers(url), "Redis is back")
    with client_of(url) as client:
        kept = client.get("k")
    server.stop()

    assert kept == b"v"


def test_no_orphan_after_kill_9_of_its_workers(folder: Path) -> None:
    """A worker that dies leaves Redis to the others; with the last one Redis ends too."""
    workers = [Script(WORKER, str(folder), folder / f"url{i}") for i in range(2)]
    for worker in workers:
        worker.until_lines(1)
    urls = [worker.lines()[0] for worker in workers]
    pid = server_process(folder).pid
    seen = []
    for worker in workers:
        seen.append(psutil.pid_exists(pid))
        worker.kill()
    until(lambda: not processes(folder), "Redis and its keeper are gone")

    assert urls[0] == urls[1]
    assert seen == [True, True]


def test_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    """The kernel allows 107 bytes; the address still depends on the folder alone."""
    folder = tmp_path / ("x" * 120)

    assert len(os.fsencode(EmbeddedRedis(folder).socket)) < 108
    assert EmbeddedRedis(folder).socket == EmbeddedRedis(folder).socket
    assert EmbeddedRedis(folder).socket != EmbeddedRedis(tmp_path / ("y" * 120)).socket


def test_it_works_with_a_long_path(tmp_path: Path) -> None:
    """Start and stop where the socket lies elsewhere."""
    server = EmbeddedRedis(tmp_path / ("x" * 120))
    url = server.start()
    served = answers(url)
    server.stop()

    assert served


def test_only_its_user_may_connect(folder: Path) -> None:
    """Neither socket nor folder is open to others, and there is no port."""
    server = EmbeddedRedis(folder / "state")
    with client_of(server.start()) as client:
        port = client.config_get("port")
    modes = [oct(os.stat(path).st_mode & 0o777) for path in (folder / "state", server.socket)]
    server.stop()

    assert port == {"port": "0"}
    assert modes == ["0o700", "0o600"]
