"""Which store does a URL mean?"""

from echo_proxy.errors import SettingsError
from echo_proxy.protocols import Clock, Reembeddable, Store
from echo_proxy.stores.breaker import BreakerStore
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.embedded import EmbeddedStore
from echo_proxy.stores.redis import RedisStore
from echo_proxy.stores.redis_connect import SCHEMES
from echo_proxy.stores.sqlite import SqliteStore

__all__ = ["StoreConfig", "make_reembeddable", "make_store"]

_OPEN_S = 5.0
_PATIENT_S = 30.0
"""For one answer while no request waits for it: the server may be building an index beside it."""
_PATIENT_OPEN_S = 3600.0
"""For loading and building the index: an HNSW of 100,000 examples takes about 100 s."""


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
    store = _make(url, config, clock, timeout_s, _OPEN_S)
    return store if isinstance(store, SqliteStore) else BreakerStore(store, clock)


def make_reembeddable(url: str, config: StoreConfig, clock: Clock) -> Reembeddable:
    """The same store, for exchanging its vectors: without a breaker, and patient. Raises SettingsError."""
    return _make(url, config, clock, _PATIENT_S, _PATIENT_OPEN_S)


def _make(
    url: str, config: StoreConfig, clock: Clock, timeout_s: float, open_timeout_s: float
) -> SqliteStore | RedisStore:
    scheme, _, path = url.partition("://")
    if scheme == "sqlite" and path:
        return SqliteStore(config, path, clock)
    if scheme == "embedded" and path:
        return EmbeddedStore(config, path, clock, timeout_s=timeout_s, open_timeout_s=open_timeout_s)
    if scheme in SCHEMES and path:
        return RedisStore(
            *(config, url, clock),
            connect_timeout_s=timeout_s,
            read_timeout_s=timeout_s,
            open_timeout_s=open_timeout_s,
        )
    known = ", ".join(f"{name}://" for name in (*SCHEMES, "sqlite", "embedded"))
    raise SettingsError(f"ECHO_STORE_URL must begin with one of {known} and name a place, got {scheme!r}")
