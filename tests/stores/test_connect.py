"""A URL means a store."""

from pathlib import Path

import pytest

from echo_proxy.errors import SettingsError
from echo_proxy.stores.breaker import BreakerStore
from echo_proxy.stores.connect import make_store
from echo_proxy.stores.sqlite import SqliteStore
from tests.contracts import NOW, config_of, example, ids, query
from tests.fakes import FrozenClock

CLOCK = FrozenClock(NOW)


@pytest.mark.parametrize(
    "url",
    ["redis://h", "rediss://h", "unix:///s", "redis+sentinel://h/m", "redis+cluster://h", "embedded:///folder"],
)
def test_redis_stands_behind_a_breaker(url: str) -> None:
    """Making it connects to nothing."""
    assert isinstance(make_store(url, config_of("p"), CLOCK), BreakerStore)


def test_sqlite_needs_no_breaker() -> None:
    """A file is never black-holed."""
    assert isinstance(make_store("sqlite:///tmp/x.db", config_of("p"), CLOCK), SqliteStore)


@pytest.mark.parametrize("url", ["", "postgres://user:secret@h", "sqlite://", "/path", "redis://"])
def test_another_url_is_refused(url: str) -> None:
    """The message names what is possible and never the URL, which may hold a password."""
    with pytest.raises(SettingsError, match="must begin with one of redis://") as caught:
        make_store(url, config_of("p"), CLOCK)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["embedded", "sqlite"])
async def test_a_store_on_this_machine_needs_no_server(kind: str, tmp_path: Path) -> None:
    """It works from a folder alone, and keeps what it was given."""
    for _ in range(2):
        store = make_store(f"{kind}://{tmp_path}/new/state", config_of("p"), CLOCK)
        await store.open()
        await store.add(example("e"))
        found = await store.nearest(query())
        await store.close()

        assert ids(found) == ["e"]
