"""What kind of text is this: long, code, maths, a question? A dozen numbers, in some 50 microseconds."""

import re

import numpy as np

READ = 3_000
"""Characters that are looked at: this runs on the event loop, and a pasted log must not hold up everybody."""

NAMES = (
    "length",
    "digits",
    "maths",
    "symbols",
    "code",
    "question",
    "lines",
    "choices",
    "capitals",
    "word_length",
    "asks_who",
    "vocabulary",
)
"""In the order of `measures`."""

_DIGIT, _SYMBOL, _CAPITAL, _SPACE, _LINE = range(1, 6)
_ASKS = re.compile(r"\s*(?:who|what|when|where|which|why|how)\b", re.IGNORECASE)
_FIRST_CHOICE = re.compile(r"(?:^|\s)\(?A[.):]\s")
_NEXT_CHOICE = re.compile(r"(?:^|\s)\(?[BC][.):]\s")


def _kinds() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    kinds = np.zeros(256, dtype=np.uint8)
    for characters, kind in (("0123456789", _DIGIT), ("{}[]()=;<>_", _SYMBOL), (" \t\r\f\v", _SPACE), ("\n", _LINE)):
        kinds[list(characters.encode())] = kind
    kinds[ord("A") : ord("Z") + 1] = _CAPITAL
    return kinds


_KINDS = _kinds()


def measures(text: str) -> tuple[float, ...]:
    """Raw numbers, not yet on one scale; an empty text counts as one character."""
    read = text[:READ]
    # one byte per character, so that a table tells all kinds at once; what Latin-1 does not know counts as a letter
    kinds = _KINDS[np.frombuffer(read.encode("latin-1", "replace") or b"a", dtype=np.uint8)]
    counts = np.bincount(kinds, minlength=6).tolist()
    words = read.lower().split()
    n, n_words = kinds.size, max(len(words), 1)
    return (
        float(np.log(max(len(text), 1))),
        counts[_DIGIT] / n,
        float("\\" in read or read.count("$") >= 2),
        min(counts[_SYMBOL] / n, 0.3),
        float("```" in read or "def " in read or "import " in read or "function" in read),
        float("?" in read),
        float(np.log1p(counts[_LINE])),
        _offers_choices(read),
        counts[_CAPITAL] / n,
        min(n / n_words, 12.0),
        float(_ASKS.match(read) is not None),
        len(set(words)) / n_words,
    )


def _offers_choices(text: str) -> float:
    """Whether answers A, B, C are offered; the plain search first, as most texts offer none."""
    if "A." not in text and "A)" not in text and "A:" not in text:
        return 0.0
    return float(_FIRST_CHOICE.search(text) is not None and _NEXT_CHOICE.search(text) is not None)
