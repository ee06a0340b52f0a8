"""Which words does a call hold? The dialogue of three endpoints as turns of text."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from echo_proxy.types import Message

_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_OF_MESSAGE = frozenset({"role", "content", "type", "cache_control"})
"""Fields of a message that stand in our turns, or that change no answer."""
_OF_PART = frozenset({"text", "type", "cache_control"})
"""Likewise, of a part of its content."""

Kwargs = Mapping[str, Any]
Items = Sequence[Any]
"""Messages as the client sent them."""


def items_of(endpoint: str, messages: Sequence[Mapping[str, Any]] | None, kwargs: Kwargs) -> Items | None:
    """What the client sent, system first where the endpoint keeps it apart; None when it holds something else."""
    given: Any = messages or kwargs.get("messages")
    system: Any = kwargs.get("system") if endpoint == "messages" else None
    if endpoint == "responses":
        given, system = kwargs.get("input"), kwargs.get("instructions")
        given = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(given, Sequence) or isinstance(given, str):
        return None
    return [*([{"role": "system", "content": system}] if system else []), *given]


def turns_of(items: Items | None) -> tuple[Message, ...] | None:
    """The dialogue as text; None when it holds something else."""
    turns = [_message(item) for item in items or ()]
    return None if items is None or None in turns else tuple(turn for turn in turns if turn is not None)


def is_told_by_turns(items: Items) -> bool:
    """Whether two calls with the same turns would be given the same answer: no message has a name or another field
    beside role and words, and no system message stands within the dialogue, where our turns do not keep its place."""
    n_system = next((at for at, item in enumerate(items) if _role(item.get("role")) != "system"), len(items))
    return all(map(_is_plain, items)) and all(_role(item.get("role")) != "system" for item in items[n_system:])


def text_of(content: Any) -> str | None:
    """The text of a message's content; None when a part is not text."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return None
    parts = [_part_text(part) for part in content]
    return None if any(part is None for part in parts) else "\n".join(part for part in parts if part)


def _message(item: Any) -> Message | None:
    if not isinstance(item, Mapping) or item.get("tool_calls") or item.get("function_call"):
        return None
    if item.get("type") not in (None, "message"):
        return None
    role = _role(item.get("role"))
    text = text_of(item.get("content"))
    return None if role is None or text is None else Message(role, text)


def _role(role: Any) -> Literal["system", "user", "assistant"] | None:
    if role in ("system", "developer"):
        return "system"
    if role == "user":
        return "user"
    return "assistant" if role == "assistant" else None


def _part_text(part: Any) -> str | None:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and part.get("type") in _TEXT_PARTS and isinstance(part.get("text"), str):
        return str(part["text"])
    return None


def _is_plain(item: Mapping[str, Any]) -> bool:
    """Fields without a value count as absent: clients send answers back as they came, empty fields and all."""
    content = item.get("content")
    parts = [part for part in content if isinstance(part, Mapping)] if isinstance(content, list | tuple) else []
    return not _has_more(item, _OF_MESSAGE) and not any(_has_more(part, _OF_PART) for part in parts)


def _has_more(fields: Mapping[str, Any], known: frozenset[str]) -> bool:
    return any(value for name, value in fields.items() if name not in known)
