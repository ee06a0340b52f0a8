"""Do the equations in an answer hold?

Only equations that stand complete in numbers, such as `12 * 3 = 36`, are looked at; `x + 2 = 5`, `20% of 50 + 3 = 13`
and the like are left alone, because a sum that was misread would condemn a right answer. Not judged either: fenced
code, lines that speak of doubt (`is not 5`), of other bases or of remainders, and what has numbers in a notation that
countries read differently (`3,14`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

_MAX_TEXT = 8_000
"""Characters read."""
_MAX_LINE = 500
_MAX_EQUATIONS = 100
"""Signs of equality read, whether or not they stand in equations: 15 ms at worst."""
_MAX_TOKENS = 60
"""On each side of an equation."""
_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_SPELLED = (
    (re.compile(r"\\(?:times|cdot)\b|[×·∙⋅✕]"), "*"),
    (re.compile(r"\\div\b|[÷∕]"), "/"),
    (re.compile(r"[−–]"), "-"),
    (re.compile(r"(?<=\d)\s*[xX]\s*(?=\d)"), "*"),
    (re.compile(r"[$€£](?=\s?\d)"), ""),
    (re.compile(r"(?<!\d)\*\*|\*\*(?!\d)|[`\\$]"), " "),  # bold, code and formula marks
)
"""Other ways to write an operator, and marks that mean nothing here."""
_OTHER_SENSE = re.compile(
    r"[≈≠≡√∑∫^!?]|\b(?:not|wrong|false|incorrect|mistake|error|instead|unless|if|mod|modulo|modulus|base|binary|octal|hex"
    r"|hexadecimal|clock|remainder|r|thousand|million|billion|trillion|dozen|k|m|bn|mn|approximately|about|roughly)\b"
    r"|n't\b|\bn\u2019t\b",
    re.IGNORECASE,
)
"""A line with one of these may mean something else by its equations."""
_SIDE = r"[\d.,+\-*/()\s]"
_EQUALS = re.compile(r"(?<![<>=!:+\-*/])=(?!=)")
_CLAUSE_END = re.compile(r"[,;:.]\s+")
_LEFT = re.compile(rf"(?<!{_SIDE}){_SIDE}{{1,200}}\Z")
_RIGHT = re.compile(rf"{_SIDE}{{1,200}}")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s+")
_LEAD_IN = re.compile(
    r"\b(?:so|is|are|thus|then|hence|therefore|gives|have|get|that|because|since|and|compute|calculate)\s*\Z",
    re.IGNORECASE,
)
"""What may stand before an equation within its clause."""
_FOLLOW = re.compile(r"\s*(?:\Z|[a-z]{2,})", re.IGNORECASE)
"""What may stand behind one; a full stop belongs to the number that is read."""
_TOKEN = re.compile(r"\s*(?:(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)|([+\-*/()]))")
_MAX_DIGITS = 18


@dataclass(frozen=True, slots=True)
class _Number:
    value: Fraction
    n_decimals: int
    is_plain: bool
    """A number as it stands, not a sum."""
    has_division: bool


class _NotComplete(Exception):
    """The text is no complete sum."""


def equations_hold(text: str) -> bool | None:
    """Whether every complete equation in a text holds, as far as its digits are shown; None when there is none."""
    verdicts = list(_verdicts(_FENCED.sub("\n", text[:_MAX_TEXT])))
    return all(verdicts) if verdicts else None


def _verdicts(text: str) -> Iterator[bool]:
    left = _MAX_EQUATIONS
    for line in text.splitlines():
        if "=" in line and len(line) <= _MAX_LINE and not _OTHER_SENSE.search(line):
            left -= line.count("=")
            if left < 0:
                return
            yield from _in_line(line)


def _in_line(line: str) -> Iterator[bool]:
    """An equation counts as wrong only if it is wrong in every reading: `- 3 + 5 = 2` may begin with a bullet."""
    readings = [list(_in_reading(line))]
    if _BULLET.match(line):
        readings.append(list(_in_reading(_BULLET.sub("", line))))
    for verdicts in _alike(readings):
        yield any(verdicts)


def _alike(readings: Sequence[Sequence[bool]]) -> Iterator[Sequence[bool]]:
    """Verdicts on the same equation together; those of the longest reading where they do not agree in number."""
    same = len(set(map(len, readings))) == 1
    yield from zip(*readings, strict=True) if same else [max(readings, key=len)]


def _in_reading(line: str) -> Iterator[bool]:
    for pattern, plain in _SPELLED:
        line = pattern.sub(plain, line)
    for clause in _CLAUSE_END.split(line):
        for left_text, right_text in pairwise(_EQUALS.split(clause)):
            try:
                left, right = _left(left_text), _right(right_text)
            except _NotComplete:
                continue
            if not (left.is_plain and right.is_plain):
                yield _equal(left, right)


def _left(text: str) -> _Number:
    found = _LEFT.search(text[-200:])
    if found is None:
        raise _NotComplete
    before = text[: len(text) - len(found.group())]
    if before and not _LEAD_IN.search(before):
        raise _NotComplete
    return _value(found.group())


def _right(text: str) -> _Number:
    found = _RIGHT.match(text)
    if found is None or not _FOLLOW.match(text[found.end() :]):
        raise _NotComplete
    return _value(found.group().rstrip().rstrip(".,"))


def _equal(left: _Number, right: _Number) -> bool:
    """Equal as far as digits are shown, rounded or cut off. Whole numbers without a division must be equal exactly."""
    gap = abs(left.value - right.value)
    if gap == 0:
        return True
    if not (left.has_division or right.has_division or left.n_decimals or right.n_decimals):
        return False
    return any(one.is_plain and _shows(one, other.value) for one, other in ((left, right), (right, left)))


def _shows(shown: _Number, value: Fraction) -> bool:
    """Whether a number is what is seen of a value: rounded to its last digit, or cut off there."""
    step = Fraction(1, 10**shown.n_decimals)
    gap = abs(value) - abs(shown.value)
    is_same_sign = value * shown.value > 0
    return is_same_sign and (abs(gap) <= step / 2 or 0 <= gap < step)


# ------------------------------------------------------------------ sums


def _value(text: str) -> _Number:
    """Raises _NotComplete."""
    tokens = _tokens(text)
    sums = _Sums(tokens)
    value = sums.read()
    numbers = [token for token in tokens if token[0].isdigit()]
    return _Number(
        value,
        max((len(number.partition(".")[2]) for number in numbers), default=0),
        is_plain=len(numbers) == 1,
        has_division="/" in tokens,
    )


def _tokens(text: str) -> Sequence[str]:
    tokens: list[str] = []
    at, text = 0, text.strip()
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None or len(tokens) >= _MAX_TOKENS:
            raise _NotComplete
        tokens.append((found[1] or found[2]).replace(",", ""))
        at = found.end()
    if not tokens or any(len(token) > _MAX_DIGITS for token in tokens):
        raise _NotComplete
    if any(one[0].isdigit() and other[0].isdigit() for one, other in pairwise(tokens)):  # `3 1/2`, `1. 12 * 3`
        raise _NotComplete
    return tokens


class _Sums:
    """A sum of products of numbers and bracketed sums, read once from left to right."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def read(self) -> Fraction:
        """The value of all tokens. Raises _NotComplete."""
        value = self._sum()
        if self._at < len(self._tokens):
            raise _NotComplete
        return value

    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._next()
        self._at += 1
        return token

    def _sum(self) -> Fraction:
        value = self._product()
        while self._next() in ("+", "-"):
            value = value + self._product() if self._take() == "+" else value - self._product()
        return value

    def _product(self) -> Fraction:
        value = self._factor()
        while self._next() in ("*", "/"):
            if self._take() == "*":
                value *= self._factor()
            else:
                value = _divided(value, self._factor())
        return value

    def _factor(self) -> Fraction:
        token = self._take()
        if token == "-" and self._next() not in ("", "-"):
            return -self._factor()
        if token == "(":
            value = self._sum()
            if self._take() != ")":
                raise _NotComplete
            return value
        if not token or not token[0].isdigit():
            raise _NotComplete
        return Fraction(token)


def _divided(value: Fraction, by: Fraction) -> Fraction:
    if by == 0:
        raise _NotComplete
    return value / by
