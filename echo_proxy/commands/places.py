"""How does a command get at the store of a policy?"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from echo_proxy.app import make_embedder, store_config, store_url
from echo_proxy.clock import SystemClock
from echo_proxy.errors import SettingsError
from echo_proxy.policy import Policy
from echo_proxy.policy_files import load_policies
from echo_proxy.protocols import Clock, Embedder, Store
from echo_proxy.settings import read_settings
from echo_proxy.stores.connect import make_store

_PATIENT_S = 30.0
"""For one answer of the store: nobody waits for it but who typed the command."""


@dataclass(frozen=True, slots=True)
class Place:
    """One policy and its store, open."""

    policy: Policy
    store: Store
    embedder: Embedder
    """That of the settings; not loaded yet."""
    clock: Clock


@asynccontextmanager
async def opened(places: Sequence[Path], *, may_make: bool = False) -> AsyncIterator[Place]:
    """The store of the one policy that is meant, closed afterwards.

    Args:
        places: policy files or folders.
        may_make: a SQLite file that is not there is made; else it is taken for a mistyped path.

    Raises PolicyError, StoreError, and SettingsError when several policies are meant: each has a store of its own.
    """
    settings = read_settings()
    policies = load_policies(places)
    if len(policies) != 1:
        names = ", ".join(one.name for one in policies)
        raise SettingsError(f"--policy: expected one policy, got {len(policies)} ({names}); name its file")
    embedder, clock = make_embedder(settings), SystemClock()
    patience_s = max(settings.store_timeout_s, _PATIENT_S)
    url = store_url(settings)
    if not may_make:
        _check_file(url)
    store = make_store(url, store_config(policies[0], embedder), clock, patience_s)
    try:
        await store.open()
        yield Place(policies[0], store, embedder, clock)
    finally:
        await store.close()


def _check_file(url: str) -> None:
    scheme, _, path = url.partition("://")
    if scheme == "sqlite" and path and not Path(path).expanduser().exists():
        raise SettingsError(
            f"ECHO_STORE_URL: expected a SQLite file that a proxy has made, got {path}, which is not there"
        )
