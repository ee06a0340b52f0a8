"""Which stored texts match a pattern?"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import regex
from rich.console import Console
from rich.text import Text

from echo_proxy.browse.visible import visible
from echo_proxy.browse.walk import walk
from echo_proxy.errors import InputError
from echo_proxy.protocols import Examples
from echo_proxy.types import Example, Which

_TIMEOUT_S = 0.2
"""For one text: a pattern that backtracks without end must not hang the command. 8,000,000 characters without a match
take 0.05 s (measured)."""
_AROUND = 60
"""Characters that are shown before and after a match."""
_MAX_SPANS = 3


@dataclass(frozen=True, slots=True)
class Match:
    """An example whose text matches."""

    example: Example
    field: str
    """request, response or system."""
    spans: tuple[tuple[int, int], ...]
    """Where, at most three."""


@dataclass(slots=True)
class Matcher:
    """A pattern, and how often it took too long."""

    pattern: "regex.Pattern[str]"
    n_slow: int = 0
    """Texts on which it did not come to an end in time."""

    def matches(self, example: Example) -> list[Match]:
        """In request, response and system prompt."""
        found = []
        for field in ("request", "response", "system"):
            spans = self._spans(getattr(example, field))
            if spans:
                found.append(Match(example, field, spans))
        return found

    def _spans(self, text: str) -> tuple[tuple[int, int], ...]:
        spans: list[tuple[int, int]] = []
        try:
            for found in self.pattern.finditer(text, timeout=_TIMEOUT_S):
                spans.append(found.span())
                if len(spans) == _MAX_SPANS:
                    break
        except TimeoutError:
            self.n_slow += 1
        return tuple(spans)


def matcher(pattern: str, *, ignores_case: bool = False, is_fixed: bool = False) -> Matcher:
    """Raises InputError on a pattern that cannot be read."""
    flags = regex.IGNORECASE if ignores_case else 0
    try:
        return Matcher(regex.compile(regex.escape(pattern) if is_fixed else pattern, flags))
    except (regex.error, RecursionError) as error:  # the latter: brackets in hundreds of brackets
        raise InputError(f"expected a regular expression, got {visible(pattern)!r}: {error}") from error


async def grep(store: Examples, which: Which, wanted: Matcher) -> AsyncIterator[Match]:
    """Every text that matches."""
    async for example in walk(store, which):
        for match in wanted.matches(example):
            yield match


def show_match(match: Match, console: Console) -> None:
    """One line: id, field, and the text around the match."""
    line = Text.assemble((visible(match.example.id), "magenta"), ":", (match.field, "cyan"), ": ", highlighted(match))
    console.print(line, soft_wrap=True)


def highlighted(match: Match) -> Text:
    """The first match with what stands around it, in one line."""
    text: str = getattr(match.example, match.field)
    start, end = match.spans[0][0], match.spans[-1][1]
    begin, stop = max(0, start - _AROUND), min(len(text), max(end, start + 1) + _AROUND, start + 4 * _AROUND)
    out = Text("…" if begin else "")
    at = begin
    for first, last in match.spans:
        if first >= stop:
            break
        out.append(visible(text[at:first]))
        out.append(visible(text[first : min(last, stop)]), style="bold red")
        at = min(last, stop)
    out.append(visible(text[at:stop]))
    return out.append("…" if stop < len(text) else "")
