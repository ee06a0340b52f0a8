"""How is a stored text shown in a terminal without letting it steer that terminal?

Stored text is data of strangers: escape sequences in it could recolour, overwrite or type; marks of writing direction
could make it read as something else.
"""

import json
import unicodedata
from typing import Any

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories of what has no picture of its own, or steers how others are drawn."""
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def visible(text: str, *, keeps_lines: bool = False) -> str:
    """The text with all that has no picture written as escapes, e.g. `\\x1b`; line breaks stay where wanted."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(one if keeps_lines and one == "\n" else _shown(one) for one in text)


def beginning(text: str, n: int) -> str:
    """The first n characters in one line."""
    shown = visible(text[: n + 1])
    return shown if len(shown) <= n else shown[: n - 1] + "…"


def as_json(value: Any, indent: int | None = None) -> str:
    """JSON of ASCII alone, so that a terminal sees no control character either."""
    return json.dumps(value, indent=indent, ensure_ascii=True).replace("\x7f", "\\u007f")


def _shown(one: str) -> str:
    if unicodedata.category(one) not in _HIDDEN:
        return one
    if one in _SHORT:
        return _SHORT[one]
    code = ord(one)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
