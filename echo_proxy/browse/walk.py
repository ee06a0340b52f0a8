"""How does one go through all examples with flat memory?"""

from collections.abc import AsyncIterator

from echo_proxy.protocols import Examples
from echo_proxy.types import Example, Which

_PAGE = 500


async def walk(store: Examples, which: Which) -> AsyncIterator[Example]:
    """Every example that is meant; one may come twice when the store rearranges itself meanwhile."""
    cursor = ""
    while True:
        page = await store.find(which, cursor, _PAGE)
        for example in page.examples:
            yield example
        if not (cursor := page.cursor):
            return
