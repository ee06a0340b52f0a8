"""Which stored examples are forgotten on purpose: by writer, time, text, scope?"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import regex

from echo_proxy.admission.offspring import with_offspring
from echo_proxy.errors import InputError
from echo_proxy.online.promote import owner_mark, owner_of
from echo_proxy.protocols import Examples
from echo_proxy.types import Example, Which

_PAGE = 500
_SEARCH_S = 0.1
"""Seconds that a pattern may be searched in one text; some take for ever on some texts."""


@dataclass(frozen=True, slots=True)
class Wording:
    """Words that stand in request, answer or system prompt."""

    text: str
    is_regex: bool = False
    """The text is a regular expression of the `regex` package; else it is found as it stands, case ignored."""
    ends_at: float | None = None
    """When searching for a regular expression must have ended, by time.monotonic(); None = no limit for all texts
    together."""

    def check(self) -> None:
        """Raises InputError when the text is no regular expression though it should be."""
        try:
            regex.compile(self.text if self.is_regex else "")
        except (regex.error, RecursionError) as error:  # the latter: brackets in hundreds of brackets
            raise InputError(f"text: expected a regular expression, got {self.text!r}: {error}") from error

    def holds(self, example: Example) -> bool:
        """Whether an example is meant. Raises InputError when the search takes too long, in it or in all that were
        searched before together: nothing may be missed."""
        texts = (example.request, example.response, example.system)
        if not self.is_regex:
            return any(self.text.casefold() in one.casefold() for one in texts)
        try:
            # `concurrent`: others go on meanwhile, the event loop too
            return any(regex.search(self.text, one, timeout=self._left_s(), concurrent=True) for one in texts)
        except TimeoutError as error:
            raise InputError(
                f"text: expected a pattern that is searched within {_SEARCH_S:g} s in every example, got {self.text!r}"
            ) from error

    def _left_s(self) -> float:
        """For the next text."""
        left_s = _SEARCH_S if self.ends_at is None else self.ends_at - time.monotonic()
        if left_s <= 0:
            raise InputError(
                f"text: expected a pattern that is searched in all examples in a request's time, got {self.text!r}; "
                "the command `echo-proxy examples rm --regex` has no such limit"
            )
        return min(left_s, _SEARCH_S)


async def find_to_purge(store: Examples, which: Which, wording: Wording | None = None) -> list[str]:
    """Ids of the examples that are meant, without their copies. Raises StoreUnavailable, InputError.

    A writer's are also those promoted ones that hold his answer, though his own example may be gone by now.
    """
    if wording is not None:
        wording.check()
    found = [one.id async for one in _walk(store, which, wording)]
    if which.writer is not None and which.origin in (None, "promoted"):
        mark, others = owner_mark(which.writer), replace(which, writer=None, origin="promoted")
        found += [one.id async for one in _walk(store, others, wording) if owner_of(one.id) == mark]
    return list(dict.fromkeys(found))


async def _walk(store: Examples, which: Which, wording: Wording | None) -> AsyncIterator[Example]:
    cursor = ""
    while True:
        page = await store.find(which, cursor, _PAGE)
        for one in await asyncio.to_thread(_meant, page.examples, wording):
            yield one
        cursor = page.cursor
        if not cursor:
            return


async def purge(store: Examples, which: Which, wording: Wording | None = None) -> int:
    """Forget the examples that are meant, their copies for wider scopes and what was promoted from them; the number
    gone.

    They are found first and removed then: a walk during which examples vanish could miss some. Raises StoreUnavailable,
    InputError; then some may be gone.
    """
    ids, gone = await with_offspring(store, await find_to_purge(store, which, wording)), 0
    for start in range(0, len(ids), _PAGE):
        gone += await store.remove(ids[start : start + _PAGE])
    return gone


def _meant(examples: Sequence[Example], wording: Wording | None) -> Sequence[Example]:
    return [one for one in examples if wording is None or wording.holds(one)]
