"""Which store does a URL mean?"""

from echo_proxy.errors import SettingsError
from echo_proxy.protocols import Clock, Store
from echo_proxy.stores.breaker import BreakerStore
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.embedded import EmbeddedStore
from echo_proxy.stores.redis import RedisStore
from echo_proxy.stores.redis_connect import SCHEMES
from echo_proxy.stores.sqlite import SqliteStore

__all__ = ["StoreConfig", "make_store"]


def make_store(url: str, config: StoreConfig, clock: Clock, timeout_s: float = 0.5) -> Store:
    """The store of one policy, not open yet.

    Args:
        url: a Redis URL (see redis_connect.py), sqlite:///path/to/file or embedded:///folder.
        config: what the store must know of the policy.
        clock: tells what has expired and how much evidence has faded.
        timeout_s: longest wait for one answer of Redis; SQLite waits longer for other writers, never for a search.

    Raises:
        SettingsError: the URL means no store. The message leaves out the URL, which may hold a password.
    """
    scheme, _, path = url.partition("://")
    if scheme == "sqlite" and path:
        return SqliteStore(config, path, clock)
    if scheme == "embedded" and path:
        return BreakerStore(EmbeddedStore(config, path, clock, timeout_s=timeout_s), clock)
    if scheme in SCHEMES and path:
        store = RedisStore(config, url, clock, connect_timeout_s=timeout_s, read_timeout_s=timeout_s)
        return BreakerStore(store, clock)
    known = ", ".join(f"{name}://" for name in (*SCHEMES, "sqlite", "embedded"))
    raise SettingsError(f"ECHO_STORE_URL must begin with one of {known} and name a place, got {scheme!r}")
