"""A real Redis for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from echo_proxy.stores.embedded import EmbeddedRedis


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Redis for all tests; each takes a policy of its own. Fails, never skips, where it cannot run."""
    folder: Path = tmp_path_factory.mktemp("redis")
    server = EmbeddedRedis(folder)
    yield server.start()
    server.stop()
