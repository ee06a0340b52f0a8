"""Do two answers say the same? Only what is certain is said; the rest is for a judge.

A label that is wrongly "right" breaks the error bound, one that is wrongly "wrong" only costs a hit. So answers are
the same when nothing but white space, a code fence, a closing stop and, in plain words, capitals keeps them apart.
"""

import json
import re
from decimal import Decimal

_SHORT = 30
"""Words up to which different numbers mean different answers; long texts hold numbers that do not matter."""
_BRIEF = 3
"""Answers of at most so many words that differ are different: a label, a name, a number."""
_FENCED = re.compile(r"\A```[\w+-]*\n(.*?)\n?```\Z", re.DOTALL)
_PLAIN = re.compile(r"[^\W_](?:[^\W_]|[ ,.!?'’-])*")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?![\w])")


def say_the_same(one: str, other: str) -> bool | None:
    """Whether two answers say the same; None when only a judge can tell."""
    ours, theirs = normalized(one), normalized(other)
    if not ours or not theirs:
        return False
    if ours == theirs:
        return True
    parsed = _as_json(ours), _as_json(theirs)
    if parsed[0] is not None and parsed[1] is not None:
        return _typed(parsed[0]) == _typed(parsed[1])
    words = ours.split(), theirs.split()
    longest = max(len(each) for each in words)
    if longest <= _BRIEF or (longest <= _SHORT and _numbers(ours) != _numbers(theirs)):
        return False
    return None


def normalized(text: str) -> str:
    """An answer without what makes no difference: fence, white space at ends of lines, and in plain words a closing
    stop, capitals and runs of white space. Case and inner spaces of commands and code stay, they may matter."""
    stripped = text.strip()
    fenced = _FENCED.match(stripped)
    lines = [line.rstrip() for line in (fenced[1] if fenced else stripped).splitlines()]
    if len(lines) != 1:
        return "\n".join(lines).strip()
    joined = " ".join(lines[0].split())
    if _NUMBER.fullmatch(joined.rstrip(".")):
        return str(Decimal(joined.replace(",", "").rstrip(".")).normalize())
    return " ".join(map(_word, joined.rstrip(".!").split())) if _PLAIN.fullmatch(joined) else lines[0].strip()


def _word(word: str) -> str:
    """Small letters where only the first one may be a capital: `R` and `r`, `LS` and `ls` are not the same."""
    return word.casefold() if word[1:].islower() else word


def _numbers(text: str) -> frozenset[str]:
    return frozenset(found.replace(",", "") for found in _NUMBER.findall(text))


def _as_json(text: str) -> object | None:
    """None for what is not a JSON object or list."""
    if text[:1] not in "{[":
        return None
    try:
        parsed: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return parsed


def _typed(parsed: object) -> str:
    """The same for equal values alone: Python takes True for 1."""
    return json.dumps(parsed, sort_keys=True)
