"""A real Redis for the tests of this folder."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from echo_proxy.stores.embedded import EmbeddedRedis
from tests.stores.servers import Server


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Redis for all tests; each takes a policy of its own. Fails, never skips, where it cannot run."""
    folder: Path = tmp_path_factory.mktemp("redis")
    server = EmbeddedRedis(folder)
    yield server.start()
    server.stop()


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers of the test's own, each in a folder of its own; all end with the test, however it ends."""
    started: list[Server] = []

    def start(*options: str, has_search: bool = True, port: int | None = None) -> Server:
        server = Server(tmp_path / f"server{len(started)}", *options, has_search=has_search, port=port).start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.kill()
