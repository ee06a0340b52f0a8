"""Was what is stored made with the embedding model that the process has now?"""

from collections.abc import Mapping

from echo_proxy.errors import SchemaMismatch
from echo_proxy.stores.config import StoreConfig

SCHEMA = 1
"""Version of the stored fields; a store of another version is not read."""


def meta_of(config: StoreConfig) -> dict[str, str]:
    """What the store notes when it is made."""
    return {"schema": str(SCHEMA), "model": config.model, "dimensions": str(config.dimensions)}


def check_meta(stored: Mapping[str, str], config: StoreConfig) -> None:
    """Raises SchemaMismatch when the stored vectors mean something else than the process's own."""
    wanted = meta_of(config)
    if stored.get("schema") != wanted["schema"]:
        raise SchemaMismatch(
            f"the store of policy {config.policy} must have schema {wanted['schema']}, got {stored.get('schema')}: "
            "it was made by another version of echo-proxy; use an empty store or that version"
        )
    if any(stored.get(name) != wanted[name] for name in ("model", "dimensions")):
        raise SchemaMismatch(
            f"the examples of policy {config.policy} must have been embedded by {_embedder(wanted)}, "
            f"got {_embedder(stored)}: embed them anew with `echo-proxy reembed --policy <file>`"
        )


def _embedder(meta: Mapping[str, str]) -> str:
    return f"{meta.get('model')} ({meta.get('dimensions')} dimensions)"
