"""Which strings does a JSON schema's pattern allow? The pattern as an automaton that is never in two states at once.

llama.cpp follows all ways in which a text can be read, and with `.*.*.*` there are more of them than time. So the
pattern becomes a deterministic automaton first, one rule for each of its states.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from echo_proxy.llama.pattern_reader import LAST, PatternReader, Piece, Range, Ranges, other_than
from echo_proxy.llama.schema import SchemaRefused

_MOST_CHARACTERS = 2000
_MOST_STATES = 1500
_MOST_EFFORT = 100_000
"""Of all patterns of a schema, in states looked at while they are made deterministic; at most about 80 ms."""
_PART = 10
"""What a state costs before that."""
_ESCAPED = {34: '\\"', 92: "\\\\", 8: "b", 12: "f", 10: "n", 13: "r", 9: "t"}
"""Code points that JSON writes with a backslash, and what follows it there, as in a class of GBNF. Other control
characters are left out: no pattern is known that needs them."""
_UNWRITABLE: Ranges = ((0, 31), (34, 34), (92, 92), (127, 127), (0xD800, 0xDFFF))
"""What never stands as itself between the quotation marks."""


# ------------------------------------------------------------------ the automaton as it is read


@dataclass(slots=True)
class Effort:
    """What may still be spent on the patterns of a schema."""

    left: int = _MOST_EFFORT

    def spend(self, effort: int) -> None:
        """Raises SchemaRefused when there is no more."""
        self.left -= effort
        if self.left < 0:
            raise SchemaRefused("expected patterns with fewer or smaller repetitions, and less ambiguous ones")


@dataclass(slots=True)
class _Parts:
    """An automaton that may be in many states at once."""

    effort: Effort
    steps: list[tuple[Ranges, int] | None] = field(default_factory=list)
    """By state: the characters that lead on, and where to."""
    free: list[list[int]] = field(default_factory=list)
    """By state: where it leads without a character."""

    def new(self) -> int:
        self.effort.spend(_PART)
        self.steps.append(None)
        self.free.append([])
        return len(self.steps) - 1


def _join(parts: _Parts, node: Piece, end: int) -> int:
    """Put a node before a state; returns where it begins."""
    if node.ranges is not None:
        start = parts.new()
        parts.steps[start] = (node.ranges, end)
        return start
    if node.choices:
        start = parts.new()
        parts.free[start].extend(_join(parts, one, end) for one in node.choices)
        return start
    if node.repeated is not None:
        return _join_repeated(parts, node.repeated, node.least, node.most, end)
    for one in reversed(node.sequence):
        end = _join(parts, one, end)
    return end


def _join_repeated(parts: _Parts, node: Piece, least: int, most: int | None, end: int) -> int:
    if most is None:
        loop = parts.new()
        parts.free[loop].extend((_join(parts, node, loop), end))
        after = loop
    else:
        after = end
        for _ in range(most - least):
            start = parts.new()
            parts.free[start].extend((_join(parts, node, after), end))
            after = start
    for _ in range(least):
        # A repetition of nothing would cost no states and yet time.
        start = parts.new()
        parts.free[start].append(_join(parts, node, after))
        after = start
    return after


# ------------------------------------------------------------------ the automaton that is in one state


class _Choosing:
    """Makes an automaton deterministic: each state stands for all those that it could be in."""

    def __init__(self, parts: _Parts, end: int) -> None:
        self._parts = parts
        self._end = end
        self._numbers: dict[frozenset[int], int] = {}
        self._todo: list[frozenset[int]] = []
        self.steps: list[dict[int, list[Range]]] = []
        """By state: the characters that lead to which other one."""
        self.ends: set[int] = set()

    def run(self, start: int) -> None:
        self._number([start])
        while self._todo:
            members = self._todo.pop()
            steps = self.steps[self._numbers[members]]
            wanted = [step for one in members if (step := self._parts.steps[one])]
            self._parts.effort.spend(sum(len(ranges) for ranges, _ in wanted))
            for low, high, targets in _pieces(wanted):
                steps.setdefault(self._number(targets), []).append((low, high))

    def _number(self, targets: Iterable[int]) -> int:
        members = self._closure(targets)
        number = self._numbers.setdefault(members, len(self._numbers))
        if number == len(self.steps):
            if number >= _MOST_STATES:
                raise SchemaRefused(f"expected a pattern that takes at most {_MOST_STATES} states to follow")
            self.steps.append({})
            self._todo.append(members)
            if self._end in members:
                self.ends.add(number)
        return number

    def _closure(self, targets: Iterable[int]) -> frozenset[int]:
        todo, found = list(targets), set(targets)
        while todo:
            for one in self._parts.free[todo.pop()]:
                if one not in found:
                    found.add(one)
                    todo.append(one)
        self._parts.effort.spend(len(found))
        return frozenset(one for one in found if self._parts.steps[one] or one == self._end)


def _pieces(steps: Sequence[tuple[Ranges, int]]) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Ranges of characters that all lead to the same states."""
    edges = sorted(edge for ranges, to in steps for low, high in ranges for edge in ((low, 1, to), (high + 1, -1, to)))
    active: dict[int, int] = {}
    for (at, change, to), (after, *_) in pairwise([*edges, (LAST + 1, 0, 0)]):
        active[to] = active.get(to, 0) + change
        if not active[to]:
            del active[to]
        if active and after > at:
            yield at, after - 1, tuple(active)


def _useful(steps: Sequence[dict[int, list[Range]]], ends: set[int]) -> set[int]:
    """States from which an end can be reached by what can be written."""
    before: dict[int, list[int]] = {}
    for state, targets in enumerate(steps):
        for to, ranges in targets.items():
            if _choices(ranges):
                before.setdefault(to, []).append(state)
    found, todo = set(ends), list(ends)
    while todo:
        for state in before.get(todo.pop(), ()):
            if state not in found:
                found.add(state)
                todo.append(state)
    return found


def _choices(ranges: Sequence[Range]) -> list[str]:
    """These characters in GBNF, as JSON writes them."""
    plain = other_than((*other_than(ranges), *_UNWRITABLE))
    escaped = "".join(text for one, text in _ESCAPED.items() if any(low <= one <= high for low, high in ranges))
    choices = []
    if plain:
        choices.append("[" + "".join(map(_range, plain)) + "]")
    if escaped:
        choices.append(f'"\\\\" [{escaped}]')
    return choices


def _range(both: Range) -> str:
    low, high = map(_character, both)
    return low if low == high else f"{low}-{high}"


def _character(code: int) -> str:
    one = chr(code)
    return one if one.isascii() and one.isalnum() else f"\\x{code:02X}" if code < 256 else f"\\U{code:08X}"


def pattern_rules(pattern: str, name: str, effort: Effort) -> dict[str, str]:
    """Rules by name, in GBNF, for a string in quotation marks that a pattern allows.

    Args:
        pattern: as JSON Schema has it.
        name: of the rule they start with.
        effort: what may be spent on it.

    Raises:
        SchemaRefused: it is not understood, too costly, or allows no string.
    """
    if len(pattern) > _MOST_CHARACTERS:
        raise SchemaRefused(f"expected patterns of at most {_MOST_CHARACTERS} characters, got {len(pattern)}")
    parts = _Parts(effort)
    end = parts.new()
    choosing = _Choosing(parts, end)
    choosing.run(_join(parts, PatternReader(pattern).read(), end))
    useful = _useful(choosing.steps, choosing.ends)
    if 0 not in useful:
        raise SchemaRefused("expected a pattern that some string has")
    rules = {name: f'"\\"" {name}-0'}
    for state in sorted(useful):
        targets = choosing.steps[state].items()
        ways = [f"{one} {name}-{to}" for to, ranges in targets if to in useful for one in _choices(ranges)]
        rules[f"{name}-{state}"] = " | ".join([*ways, *(['"\\"" space'] if state in choosing.ends else [])])
    return rules
