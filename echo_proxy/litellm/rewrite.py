"""How do examples get into the caller's request? The prompt's additions, in each endpoint's own shape."""

from collections.abc import Mapping, Sequence
from typing import Any

from echo_proxy.types import Message, Prompt

Kwargs = dict[str, Any]


def rewrite(endpoint: str, kwargs: Kwargs, prompt: Prompt) -> Kwargs:
    """The same call with examples; the given dict and its lists stay as they are.

    LiteLLM's response cache is left out of such calls: its key would hold the examples, so the same question with
    other examples would miss, and its semantic form would take two questions with the same examples for one.
    """
    changed = uncached(kwargs)
    if endpoint == "responses":
        return _rewrite_responses(changed, prompt)
    if endpoint == "messages":
        if prompt.system_notice:
            changed["system"] = _with_notice(kwargs.get("system"), prompt.system_notice)
        changed["messages"] = _insert(kwargs["messages"], 0, prompt)
        return changed
    changed["messages"] = _rewrite_chat(kwargs["messages"], prompt)
    return changed


def uncached(kwargs: Kwargs) -> Kwargs:
    """The same call past LiteLLM's response cache."""
    return {**kwargs, "cache": {**(kwargs.get("cache") or {}), "no-cache": True, "no-store": True}}


def _rewrite_responses(changed: Kwargs, prompt: Prompt) -> Kwargs:
    given = changed["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
    instructions = _with_notice(changed.get("instructions"), prompt.system_notice)
    if instructions:
        changed["instructions"] = instructions
    changed["input"] = _insert(items, _n_leading_system(items), prompt)
    return changed


def _rewrite_chat(messages: Sequence[Mapping[str, Any]], prompt: Prompt) -> list[Mapping[str, Any]]:
    lead = _n_leading_system(messages)
    rest = _insert(messages, lead, prompt)
    if not prompt.system_notice:
        return rest
    if lead == 0:
        return [{"role": "system", "content": prompt.system_notice}, *rest]
    last = dict(rest[lead - 1])
    last["content"] = _with_notice(last.get("content"), prompt.system_notice)
    return [*rest[: lead - 1], last, *rest[lead:]]


def _n_leading_system(items: Sequence[Any]) -> int:
    count = 0
    for item in items:
        if not isinstance(item, Mapping) or item.get("role") not in ("system", "developer"):
            break
        count += 1
    return count


def _insert(items: Sequence[Mapping[str, Any]], at: int, prompt: Prompt) -> list[Mapping[str, Any]]:
    turns = [_as_dict(turn) for turn in prompt.turns]
    rest = list(items[at:])
    if prompt.block:
        first_user = next((i for i, item in enumerate(rest) if item.get("role") == "user"), None)
        if first_user is not None:
            rest[first_user] = _with_block(rest[first_user], prompt.block)
    return [*items[:at], *turns, *rest]


def _as_dict(turn: Message) -> Mapping[str, Any]:
    return {"role": turn.role, "content": turn.content}


def _with_block(item: Mapping[str, Any], block: str) -> Mapping[str, Any]:
    content = item.get("content")
    if isinstance(content, str):
        return {**item, "content": block + content}
    parts = list(content or [])
    kind = parts[0].get("type", "text") if parts and isinstance(parts[0], Mapping) else "text"
    return {**item, "content": [{"type": kind, "text": block}, *parts]}


def _with_notice(content: Any, notice: str) -> Any:
    """System text followed by the notice, in the shape that the caller used."""
    if not notice:
        return content
    if not content:
        return notice
    if isinstance(content, str):
        return f"{content}\n\n{notice}"
    return [*content, {"type": "text", "text": notice}]
