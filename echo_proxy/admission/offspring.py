"""Which examples hold the answer of another one, so that they must go with it?"""

from collections.abc import Sequence

from echo_proxy.admission.copies import with_copies
from echo_proxy.online.promote import original_of
from echo_proxy.protocols import Examples
from echo_proxy.types import Which

_PAGE = 500


async def with_offspring(store: Examples, example_ids: Sequence[str]) -> list[str]:
    """Ids of examples, of all copies that there may be of them for wider scopes, and of what was promoted from any.
    Raises StoreUnavailable."""
    ids = with_copies(example_ids)
    known, found, cursor = frozenset(ids), dict.fromkeys(ids), ""
    while ids:
        page = await store.find(Which(origin="promoted"), cursor, _PAGE)
        found.update(dict.fromkeys(one.id for one in page.examples if original_of(one.id) in known))
        cursor = page.cursor
        if not cursor:
            break
    return list(found)
