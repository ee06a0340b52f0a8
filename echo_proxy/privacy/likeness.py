"""Does a value look like a secret, or like code and words that stand in its place?"""

import math
import re
from collections import Counter

_STANDS_FOR = re.compile(
    r"^(?:[$<{%!&*]|\[ ?[a-z]|(?i:your|my[_-]|example|change_?me|placeholder|redacted|dummy|insert|replace|todo))"
    r"|\.\.\.|…|\*\*|x{4,}|X{4,}|(?i:environ|getenv|process\.env)"
)
"""Variables, templates and the words of documentation."""
_WORDS = frozenset(
    (
        *("password", "passwd", "pass", "pwd", "secret", "token", "string", "none", "null", "nil", "true", "false"),
        *("undefined", "required", "optional", "admin", "root", "user", "username", "test", "testing", "foobar"),
        *("hidden", "prompt", "text"),
    )
)
"""What is written where no real one is meant."""
_PATH = re.compile(r"(?:[A-Za-z_]\w{0,63}[.:/-]){0,8}[A-Za-z_]\w{0,63}\Z")
_MIN_BITS = 2.8
"""Shannon entropy per character; 16 random hex digits have about 3.2, words of English of that length about 3.
# chosen on the dev half of bench/keeping/pii_labelled.jsonl"""


def is_made_up(value: str) -> bool:
    """Whether it stands for a secret instead of being one: `$TOKEN`, `<your key>`, `None`."""
    return bool(_STANDS_FOR.search(value)) or value.lower().strip("\"'") in _WORDS


def is_random(value: str) -> bool:
    """Whether it can be a key or token: at least 12 characters, digits and letters, little regularity."""
    if len(value) < 12 or is_made_up(value) or not _mixes(value):
        return False
    return bits_per_character(value) >= _MIN_BITS


def is_password(value: str) -> bool:
    """Whether somebody can have chosen it: letters with digits or signs, or several words in one."""
    if len(value) < 6 or is_made_up(value) or " " in value:
        return False
    if value.count("-") >= 2 and len(value) >= 16:
        return True
    if _PATH.match(value) and ("." in value or "/" in value or ":" in value):  # an attribute or a file
        return False
    return _mixes(value) or (any(not one.isalnum() and one not in "_-./:" for one in value) and len(value) >= 8)


def bits_per_character(value: str) -> float:
    """Shannon entropy of its characters, in bits."""
    n = len(value)
    return -sum(times / n * math.log2(times / n) for times in Counter(value).values())


def _mixes(value: str) -> bool:
    return any(one.isdigit() for one in value) and any(one.isalpha() for one in value)
