"""How does a lenient reader see a text, and where in the text stands what he sees?

Characters that nobody sees are left out; full-width and other forms that mean the same (NFKC) are one. What is found in
the folded text is found in the text, whatever was put between its letters.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"  # control characters but for tabs and ends of lines
    "\u200b\u2060-\u2064\ufeff\u180e"  # of no width
    "\u202a-\u202e\u2066-\u206f"  # which turn the direction of what follows
    "\ufff9-\ufffb\U000e0000-\U000e007f\U000e0100-\U000e01ef]"  # tags and selectors that can carry a hidden text
)
"""What no text needs."""
_NEEDED = frozenset(
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u200c\u200d\u200e\u200f\u3164\uffa0"
    + "".join(map(chr, range(0xFE00, 0xFE10)))
)
"""As little seen; but scripts and emoji need them."""
_ENDS_OF_LINES = frozenset("\r\x0b\x0c\x85\u2028\u2029")
_MOST_FOLDS = 20_000
"""Characters that are remembered: enough for every script in use, and a limit for who sends all of Unicode."""


@dataclass(frozen=True, slots=True)
class Folded:
    """A text as a lenient reader sees it."""

    text: str
    places: Sequence[int]
    """Where in the text each of its characters stands, and the text's end."""

    def span(self, start: int, end: int) -> tuple[int, int]:
        """What stands there in the text, from the first to the last character that is seen; end > start."""
        return self.places[start], self.places[end - 1] + 1


def without_invisible(text: str) -> Folded:
    """The text without what no text needs, and nothing else of it changed."""
    if not INVISIBLE.search(text):
        return Folded(text, range(len(text) + 1))
    kept = [at for at, one in enumerate(text) if not INVISIBLE.match(one)]
    return Folded("".join(text[at] for at in kept), [*kept, len(text)])


class Folding:
    """One way to read leniently. Filled as characters are met."""

    def __init__(self, instead: Mapping[str, str], *, keeps_superscripts: bool = False) -> None:
        """
        Args:
            instead: what stands for a character, before NFKC is asked; one character each.
            keeps_superscripts: 10² is not 102, nor is ③ a 3; digits of other scripts are ours.
        """
        self._folds = _Folds(instead, keeps_superscripts)

    def __call__(self, text: str) -> Folded:
        """Takes time linear in the text's length."""
        folded = text.translate(self._folds)
        if len(folded) == len(text):
            return Folded(folded, range(len(text) + 1))
        return Folded(folded, [at for at, one in enumerate(text) if self._folds[ord(one)] is not None] + [len(text)])


class _Folds(dict[int, str | None]):
    """What stands for a character: always one character, or None where nobody sees it."""

    def __init__(self, instead: Mapping[str, str], keeps_superscripts: bool) -> None:
        super().__init__()
        self._instead = instead
        self._keeps_superscripts = keeps_superscripts

    def __missing__(self, code: int) -> str | None:
        one = chr(code)
        kept = None if one in _NEEDED or INVISIBLE.match(one) else self._seen(one)
        if len(self) < _MOST_FOLDS:
            self[code] = kept
        return kept

    def _seen(self, one: str) -> str:
        if one in _ENDS_OF_LINES:
            return "\n"
        if one in self._instead:
            return self._instead[one]
        normal = unicodedata.normalize("NFKC", one)
        if len(normal) != 1:
            return one
        if not self._keeps_superscripts:
            return normal
        if one.isdecimal():
            return str(unicodedata.decimal(one))
        return one if normal.isdecimal() else normal
