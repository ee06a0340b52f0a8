"""What does a JSON schema's pattern say? Regular expressions of ECMAScript, read into pieces."""

from collections.abc import Iterable
from dataclasses import dataclass

from echo_proxy.llama.schema import SchemaRefused

_DEEPEST = 50
"""Groups in groups."""
LAST = 0x10FFFF
"""Code point."""

Range = tuple[int, int]
"""First and last code point."""
Ranges = tuple[Range, ...]

_ANY: Ranges = ((0, LAST),)
_DIGIT: Ranges = ((48, 57),)
_WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE: Ranges = ((9, 13), (32, 32), (160, 160), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
                  (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF))  # fmt: skip
_CONTROLS = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11, "b": 8, "0": 0}


def other_than(ranges: Iterable[Range]) -> Ranges:
    """All code points that are not in these, in order."""
    rest, start = [], 0
    for low, high in sorted(ranges):
        if start < low:
            rest.append((start, low - 1))
        start = max(start, high + 1)
    if start <= LAST:
        rest.append((start, LAST))
    return tuple(rest)


_DOT = other_than(((10, 10), (13, 13), (0x2028, 0x2029)))
_CLASSES = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_CLASSES |= {name.upper(): other_than(ranges) for name, ranges in _CLASSES.items()}


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a pattern: characters, or others in sequence, or one of others, or one again and again."""

    ranges: Ranges | None = None
    sequence: tuple["Piece", ...] = ()
    choices: tuple["Piece", ...] = ()
    repeated: "Piece | None" = None
    least: int = 0
    most: int | None = None


class PatternReader:
    """Reads a pattern of ECMAScript, but for what looks around, refers back or names groups."""

    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._depth = 0

    def read(self) -> Piece:
        """All of it. A branch without ^ or $ may begin or end anywhere, as JSON Schema has it."""
        node = self._choices(is_top=True)
        if self._at < len(self._text):
            raise self._wrong("an unexpected )")
        return node

    def _wrong(self, what: str) -> SchemaRefused:
        return SchemaRefused(f"pattern: {what} at character {self._at}")

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, text: str) -> bool:
        is_there = self._text.startswith(text, self._at)
        self._at += len(text) * is_there
        return is_there

    def _choices(self, is_top: bool = False) -> Piece:
        choices = [self._sequence(is_top)]
        while self._take("|"):
            choices.append(self._sequence(is_top))
        return choices[0] if len(choices) == 1 else Piece(choices=tuple(choices))

    def _sequence(self, is_top: bool) -> Piece:
        anywhere = Piece(repeated=Piece(ranges=_ANY))
        parts = [] if not is_top or self._take("^") else [anywhere]
        has_end = not is_top
        while self._next() not in ("", "|", ")"):
            if is_top and self._take("$"):
                has_end = True
                if self._next() not in ("", "|"):
                    raise self._wrong("text after $")
                break
            parts.append(self._repeated(self._piece()))
        return Piece(sequence=tuple(parts if has_end else [*parts, anywhere]))

    def _piece(self) -> Piece:
        if self._take("("):
            return self._group()
        if self._take("["):
            return Piece(ranges=self._class())
        if self._take("."):
            return Piece(ranges=_DOT)
        if self._next() in ("*", "+", "?", "^", "$"):
            raise self._wrong(f"{self._next()} where it is not supported")
        return Piece(ranges=self._characters())

    def _group(self) -> Piece:
        if not self._take("?:") and self._next() == "?":
            raise self._wrong("a group that is not supported")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._wrong(f"more than {_DEEPEST} groups in groups")
        node = self._choices()
        self._depth -= 1
        if not self._take(")"):
            raise self._wrong("a missing )")
        return node

    def _repeated(self, node: Piece) -> Piece:
        least, most = self._counts()
        if least is None:
            return node
        self._take("?")  # lazy or greedy, the strings are the same
        if self._next() in ("*", "+", "?") or (
            self._next() == "{" and self._text[self._at + 1 : self._at + 2].isdigit()
        ):
            raise self._wrong("a repetition of a repetition")
        return Piece(repeated=node, least=least, most=most)

    def _counts(self) -> tuple[int | None, int | None]:
        for sign, counts in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return counts
        if not self._take("{"):
            return None, None
        least = self._number()
        most: int | None = least
        if self._take(","):
            most = None if self._next() == "}" else self._number()
        if not self._take("}") or (most is not None and most < least):
            raise self._wrong("a wrong repetition")
        return least, most

    def _number(self) -> int:
        digits = ""
        while self._next() in tuple("0123456789"):
            digits += self._next()
            self._at += 1
        if not 1 <= len(digits) <= 4:
            raise self._wrong("expected a number of one to four digits")
        return int(digits)

    def _class(self) -> Ranges:
        is_negated = self._take("^")
        ranges: list[Range] = []
        while not self._take("]"):
            low = self._characters(is_class=True)
            if self._next() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high = self._characters(is_class=True)
                if len(low) != 1 or len(high) != 1 or low[0][0] != low[0][1] or low[0][0] > high[0][0]:
                    raise self._wrong("a wrong range")
                low = ((low[0][0], high[0][1]),)
            ranges.extend(low)
        return other_than(ranges) if is_negated else other_than(other_than(ranges))

    def _characters(self, is_class: bool = False) -> Ranges:
        """One character, or a class such as `\\d`."""
        one = self._next()
        if not one:
            raise self._wrong("an unexpected end")
        self._at += 1
        if one != "\\":
            return ((ord(one), ord(one)),)
        name = self._next()
        self._at += 1
        if name in _CLASSES:
            return _CLASSES[name]
        if name in ("u", "x"):
            return self._hexadecimal(4 if name == "u" else 2)
        if name in _CONTROLS and (name != "b" or is_class):
            return ((_CONTROLS[name], _CONTROLS[name]),)
        if not name or (name.isascii() and name.isalnum()):
            raise self._wrong(f"an escape that is not supported, \\{name},")
        return ((ord(name), ord(name)),)

    def _hexadecimal(self, n_digits: int) -> Ranges:
        digits = self._text[self._at : self._at + n_digits]
        if len(digits) != n_digits or not all(one in "0123456789abcdefABCDEF" for one in digits):
            raise self._wrong("a wrong escape")
        self._at += n_digits
        return ((int(digits, 16), int(digits, 16)),)
