"""Does an example speak of the same names and numbers as the request?

Embeddings blur them: "the capital of Skulia" and "the capital of Zamland" lie close together, and an example about
the wrong one makes answers worse.
"""

import re

from echo_proxy.types import Example, Names

_WORD = re.compile(r"\w+(?:[.,]\d+)*")
_SENTENCE_END = re.compile(r"(?:^|[.!?:\n\"“(])\s*$")


def names_in(text: str) -> frozenset[str]:
    """Words with a digit, and capitalised words that do not just begin a sentence; lower case.

    A rule for scripts with capitals; in others only numbers are found, and the distance decides alone.
    """
    return frozenset(match.group().lower() for match in _WORD.finditer(text) if _is_name(match, text))


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
    words = {match.group().lower() for match in _WORD.finditer(f"{example.request}\n{example.response}")}
    missing = wanted - words
    if not missing:
        return Names.HELD
    return Names.NUMBERS if all(_has_digit(word) for word in missing) else Names.MISSING


def _has_digit(word: str) -> bool:
    return any(character.isdigit() for character in word)
