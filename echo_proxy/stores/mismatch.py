"""Was what is stored made with the embedding model that the process has now?"""

from collections.abc import Mapping

from echo_proxy.errors import SchemaMismatch
from echo_proxy.stores.config import StoreConfig

SCHEMA = 2
"""Version of the stored fields."""
_OLDER = ("1",)
"""Versions from which `open` brings a store to this one; one of any other version is not read."""

UPGRADED = "upgraded_from"
"""Field that stays beside these where workers of an earlier version may still add examples without the new fields."""
UPGRADING = "upgrading_from"
"""Field that stands beside these until all examples have the fields of the schema; names the one that they had."""
REEMBEDDING = "reembedding"
"""Field that stands beside these until all vectors are exchanged; names the embedder that they are exchanged for."""


def meta_of(config: StoreConfig) -> dict[str, str]:
    """What the store notes when it is made."""
    return {"schema": str(SCHEMA), "model": config.model, "dimensions": str(config.dimensions)}


def target_of(config: StoreConfig) -> str:
    """The process's embedder, as a reembedding notes it."""
    return embedder_of(meta_of(config))


def fits(stored: Mapping[str, str], config: StoreConfig) -> bool:
    """Whether all stored vectors are the process's own model's. Raises SchemaMismatch on another schema."""
    check_schema(stored, config)
    wanted = meta_of(config)
    return REEMBEDDING not in stored and all(stored.get(name) == wanted[name] for name in ("model", "dimensions"))


def check_meta(stored: Mapping[str, str], config: StoreConfig) -> None:
    """Raises SchemaMismatch when the stored vectors mean something else than the process's own."""
    if fits(stored, config):
        return
    got = embedder_of(stored)
    if REEMBEDDING in stored:
        got += f", in part exchanged for {stored[REEMBEDDING]}"
    raise SchemaMismatch(
        f"the examples of policy {config.policy} must have been embedded by {target_of(config)}, "
        f"got {got}: embed them anew with `echo-proxy reembed --policy <file>`"
    )


def is_older(stored: Mapping[str, str]) -> bool:
    """Whether an earlier version of the program made the store, so that its examples may lack fields."""
    return stored.get("schema") in _OLDER or UPGRADING in stored or UPGRADED in stored


def check_schema(stored: Mapping[str, str], config: StoreConfig) -> None:
    """Raises SchemaMismatch when a version of the program made the store that this one cannot read."""
    if stored.get("schema") not in (str(SCHEMA), *_OLDER):
        raise SchemaMismatch(
            f"the store of policy {config.policy} must have schema {SCHEMA}, got {stored.get('schema')}: "
            "it was made by another version of echo-proxy; use an empty store or that version"
        )


def check_turn(stored: Mapping[str, str], config: StoreConfig) -> None:
    """Raises SchemaMismatch when the store is not being exchanged for the process's vectors, or no longer."""
    if stored.get(REEMBEDDING) != target_of(config):
        raise SchemaMismatch(
            f"policy {config.policy} must be under reembedding to {target_of(config)}, "
            f"got {stored.get(REEMBEDDING, 'none')}: another `echo-proxy reembed` has taken over"
        )


def embedder_of(meta: Mapping[str, str]) -> str:
    """An embedder as it is told to people and noted."""
    return f"{meta.get('model')} ({meta.get('dimensions')} dimensions)"
