"""Which field of an example in Redis holds the vector of which embedding model?

That of the store's first model is `vector`; each other model has a field of its own, `vector_` and eight hexadecimal
digits. So proxies of two models can work on the same examples, each with its own vectors.
"""

import hashlib
from collections.abc import Mapping
from typing import TypeVar

from echo_proxy.errors import SchemaMismatch
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.keys import Keys
from echo_proxy.stores.mismatch import REEMBEDDING, check_schema, embedder_of, meta_of, target_of

V = TypeVar("V")

FIRST = "vector"
"""The field of the store's first model, and what the names of all such fields begin with."""
FIELD = "field"
"""Field of the meta: where the vectors of the model are that it names; absent = FIRST."""
_FILLING = ":filling"
"""Ends the name of a field of the meta that stands until all examples have vectors of a model."""


def field_to_fill(stored: Mapping[str, str], config: StoreConfig) -> str:
    """Where the vectors of the process's model are, or belong."""
    wanted = meta_of(config)
    is_main = all(stored.get(name) == wanted[name] for name in ("model", "dimensions"))
    # an earlier version of the program exchanged vectors in place, and may have been interrupted
    if is_main and REEMBEDDING not in stored:
        return stored.get(FIELD, FIRST)
    return f"{FIRST}_{hashlib.sha256(target_of(config).encode()).hexdigest()[:8]}"


def field_in_use(stored: Mapping[str, str], config: StoreConfig) -> str:
    """Where the vectors of the process's model are. Raises SchemaMismatch when examples have not been given any."""
    check_schema(stored, config)
    if is_complete(stored, config):
        return field_to_fill(stored, config)
    got = ", ".join((embedder_of(stored), *(text for name, text in stored.items() if _is_of_model(name))))
    half = [stored[REEMBEDDING]] if REEMBEDDING in stored else []
    half += [text for name, text in stored.items() if name.endswith(_FILLING)]
    raise SchemaMismatch(
        f"the examples of policy {config.policy} must have been embedded by {target_of(config)}, "
        f"got {got}{''.join(f', in part {one}' for one in half)}: "
        "embed them with `echo-proxy reembed --policy <file>`"
    )


def is_complete(stored: Mapping[str, str], config: StoreConfig) -> bool:
    """Whether all examples had vectors of the process's model once; later ones of another model's proxies may not."""
    field = field_to_fill(stored, config)
    return field == stored.get(FIELD, FIRST) or stored.get(field) == target_of(config)


def alias_of(keys: Keys, field: str) -> str:
    """Name under which the index over a field is searched; the index in use bears it, `@` and what it covers."""
    return keys.index + field.removeprefix(FIRST)


def filling_of(field: str) -> str:
    """Name of the field of the meta that says for whom a field is being filled."""
    return field + _FILLING


def _is_of_model(name: str) -> bool:
    return name.startswith(f"{FIRST}_") and not name.endswith(_FILLING)


def own_fields(found: Mapping[str, V], field: str) -> dict[str, V] | None:
    """An example's fields as a proxy of one model sees them: its own vector under FIRST, others' left out.

    None when it has no vector of that model: what cannot be found by it does not exist for it.
    """
    if field not in found:
        return None
    return {name: value for name, value in found.items() if not name.startswith(FIRST)} | {FIRST: found[field]}


def as_written(fields: Mapping[str, V], field: str) -> dict[str, V]:
    """Fields to be written, the vector under the model's own name."""
    return {field if name == FIRST else name: value for name, value in fields.items()}
