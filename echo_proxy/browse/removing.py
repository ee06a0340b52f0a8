"""What would be forgotten, and is it?"""

from collections.abc import Sequence
from dataclasses import dataclass

from echo_proxy.admission.offspring import with_offspring
from echo_proxy.admission.purge import Wording, find_to_purge
from echo_proxy.protocols import Examples
from echo_proxy.types import Example, Which

_N_SHOWN = 5
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Removal:
    """What a removal is about."""

    ids: tuple[str, ...]
    """Examples that are meant, without their copies for wider scopes, which go with them."""
    first: tuple[Example, ...]
    """Some of them."""


async def find_removal(store: Examples, ids: Sequence[str], which: Which, wording: Wording | None) -> Removal:
    """The examples of these ids that are there; without ids, all that are meant. Raises StoreError, InputError."""
    if ids:
        found = [one for example_id in dict.fromkeys(ids) if (one := await store.get(example_id)) is not None]
        return Removal(tuple(one.id for one in found), tuple(found[:_N_SHOWN]))
    meant = await find_to_purge(store, which, wording)
    shown = [one for example_id in meant[:_N_SHOWN] if (one := await store.get(example_id)) is not None]
    return Removal(tuple(meant), tuple(shown))


async def remove(store: Examples, removal: Removal) -> int:
    """How many are gone, copies included, and what was promoted from them. Raises StoreError; then some may be gone."""
    ids, gone = await with_offspring(store, removal.ids), 0
    for start in range(0, len(ids), _BATCH):
        gone += await store.remove(ids[start : start + _BATCH])
    return gone
