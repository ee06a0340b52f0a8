"""Which queries does the guide to Redis Insight hold?"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GUIDE = Path(__file__).parent / "redis-insight.md"
_BLOCK = re.compile(r"^### (?P<title>[^\n]+)\n(?P<before>(?:(?!^### ).)*?)^```redis\n(?P<query>.*?)^```$", re.S | re.M)


@dataclass(frozen=True, slots=True)
class Query:
    """A fenced block of the guide."""

    title: str
    """The heading above it."""
    text: str
    """As it is copied."""

    def words(self, example_id: str = "") -> list[str]:
        """Command and arguments, split as the Workbench and redis-cli split them."""
        return shlex.split(self.text.replace("<id>", example_id))


def queries(guide: Path = GUIDE) -> dict[str, Query]:
    """All of them, by heading, in the order of the guide."""
    found = _BLOCK.finditer(guide.read_text(encoding="utf-8"))
    return {one["title"]: Query(one["title"], one["query"]) for one in found}


def documents(reply: Sequence[Any]) -> list[dict[str, str]]:
    """The rows of an FT.SEARCH with fields, each with its key."""
    return [{"key": key.decode(), **pairs(flat)} for key, flat in zip(reply[1::2], reply[2::2], strict=True)]


def rows(reply: Sequence[Any]) -> list[dict[str, str]]:
    """The rows of an FT.AGGREGATE."""
    return [pairs(flat) for flat in reply[1:]]


def entries(reply: Sequence[Any]) -> list[dict[str, str]]:
    """The entries of a stream."""
    return [pairs(flat) if isinstance(flat, list) else texts(flat) for _, flat in reply]


def pairs(flat: Sequence[bytes]) -> dict[str, str]:
    """Names and values of [name, value, ...]."""
    return {name.decode(): text(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}


def texts(found: "dict[bytes, bytes]") -> dict[str, str]:
    """The same of what a client has paired already."""
    return {name.decode(): text(value) for name, value in found.items()}


def text(value: Any) -> str:
    """A value as text; bytes that are none, such as a vector, with replacements."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
