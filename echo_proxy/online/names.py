"""Does an example speak of the same names and numbers as the request?

Embeddings blur them: "the capital of Skulia" and "the capital of Zamland" lie close together, and an example about
the wrong one makes answers worse.
"""

import re
from itertools import islice

from echo_proxy.types import Example, Names

_WORD = re.compile(r"\w+(?:[.,]\d+)*")
_READ = 4_000
"""Characters read at each end of a text: this runs on the event loop, and a pasted log must not hold up everybody."""
_MAX_NAMES = 64
_SENTENCE_END = re.compile(r"(?:^|[.!?:\n\"“(])\s*$")


def names_in(text: str) -> frozenset[str]:
    """Words with a digit, and capitalised words that do not just begin a sentence; lower case.

    A rule for scripts with capitals; in others only numbers are found, and the distance decides alone.
    """
    read = text if len(text) <= 2 * _READ else f"{text[:_READ]}\n{text[-_READ:]}"
    names = (match.group().lower() for match in _WORD.finditer(read) if _is_name(match, read))
    return frozenset(islice(names, _MAX_NAMES))


def _is_name(match: re.Match[str], text: str) -> bool:
    word = match.group()
    if _has_digit(word):
        return True
    begins_sentence = bool(_SENTENCE_END.search(text[max(0, match.start() - 8) : match.start()]))
    return len(word) > 1 and word[0].isupper() and not begins_sentence


def compare_names(wanted: frozenset[str], example: Example) -> Names:
    """Which of the wanted names and numbers stand in the example's request or response."""
    if not wanted:
        return Names.NONE
    text = f"{example.request}\n{example.response}".lower()
    missing = [name for name in wanted if not _stands_in(name, text)]
    if not missing:
        return Names.HELD
    return Names.NUMBERS if all(_has_digit(name) for name in missing) else Names.MISSING


def _stands_in(name: str, text: str) -> bool:
    """As a word of its own, not as a part of a number; both in lower case. The plain search first: most names are
    simply not there."""
    return name in text and re.search(rf"(?<!\w)(?<!\d[.,]){re.escape(name)}(?!\w|[.,]\d)", text) is not None


def _has_digit(word: str) -> bool:
    return any(character.isdigit() for character in word)
