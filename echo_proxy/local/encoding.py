"""How does JSON become bytes and back, when a text in it was cut in the middle of an emoji?

Half an emoji is a surrogate, which Python's and JSON's strings may hold and UTF-8 may not. It becomes U+FFFD.
"""

import json
from collections.abc import Callable
from typing import Any


def encode_json(content: object, default: Callable[[Any], Any] | None = None) -> bytes:
    """As JSON in UTF-8, without spaces; default: as of `json.dumps`."""
    text = json.dumps(content, default=default, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _mended(text).encode()


def decode_json(raw: bytes) -> Any:
    """What the JSON says, with texts that can be encoded. Raises ValueError, RecursionError."""
    content = json.loads(raw)
    # Only an escape can bring a surrogate, and few bodies have one.
    return json.loads(encode_json(content)) if b"\\ud" in raw or b"\\uD" in raw else content


def _mended(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
