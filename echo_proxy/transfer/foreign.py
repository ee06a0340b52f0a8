"""How does a row that did not come from Echo become an example?

Two forms are known: {"request": ..., "response": ...}, and OpenAI's fine-tuning format {"messages": [...]}. Whatever
else stands in such a row is left alone.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from echo_proxy.online.receive import partition_of
from echo_proxy.transfer.lines import Line
from echo_proxy.transfer.parse import BadLine, complaint, object_of, shown
from echo_proxy.transfer.rows import Row

_CHARS_PER_TOKEN = 4
"""As admission estimates it."""


class Unfit(Exception):
    """The row is well-formed, but nothing that could be an example; the message is the reason under which it counts."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What rows take that say nothing about it."""

    scope: str | None = None
    """None = a row must name one."""
    writer: str = "import"
    teacher: str = "import"
    quality: float = 0.7
    """Of answers that nobody has judged. guess, not yet measured"""
    system: str = ""
    wants_json: bool = False
    now: float = 0.0
    """Seconds since the epoch: when they count as written."""
    ttl_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What is asked and answered in a row."""

    system: str
    asked: tuple[str, ...]
    """The user's turns; the last one is the request."""
    response: str
    begins_with_answer: bool = False
    """The assistant speaks first: to a turn that is not shown."""

    @property
    def n_turns(self) -> int:
        """User turns, one that is not shown included."""
        return len(self.asked) + self.begins_with_answer

    @property
    def identity(self) -> str:
        """The text that is embedded; as on the path of a request, with the user's turn before."""
        return "\n".join(self.asked[-2:])


def foreign_row(line: Line, source: str, defaults: Defaults) -> tuple[Row, str]:
    """The row as ours, and the text to embed. Raises BadLine, and Unfit on dialogues that cannot be examples."""
    found = object_of(line, source)
    where = f"{source}:{line.number}"
    dialogue = _dialogue(found, where)
    _check_encodable(dialogue, where)
    if defaults.scope is None:
        raise BadLine(f"{where}: scope: expected --scope, as such rows name none, got nothing")
    system = dialogue.system or defaults.system
    values = {
        "id": _id(defaults.scope, system, dialogue),
        "scope": defaults.scope,
        "partition": partition_of(system, defaults.wants_json),
        "request": dialogue.asked[-1],
        "response": dialogue.response,
        "teacher": defaults.teacher,
        "writer": defaults.writer,
        "decision_id": "",
        "quality": defaults.quality,
        "n_tokens": max(1, (len(dialogue.asked[-1]) + len(dialogue.response)) // _CHARS_PER_TOKEN),
        "created_at": defaults.now,
        "expires_at": defaults.now + defaults.ttl_s,
        "system": system,
        "wants_json": defaults.wants_json,
        "n_turns": dialogue.n_turns,
        "origin": "import",
    }
    try:
        return Row.model_validate(values), dialogue.identity
    except ValidationError as error:
        raise BadLine(f"{where}: {complaint(error.errors()[0])}") from error


def _check_encodable(dialogue: Dialogue, where: str) -> None:
    """JSON may hold half of a surrogate pair, which nothing else can."""
    try:
        "".join((dialogue.system, *dialogue.asked, dialogue.response)).encode()
    except UnicodeEncodeError as error:
        raise BadLine(f"{where}: expected texts that UTF-8 can hold, got half of a surrogate pair") from error


def _dialogue(found: Mapping[str, Any], where: str) -> Dialogue:
    if "messages" in found:
        return _from_messages(found["messages"], where)
    for name in ("request", "response"):
        if not isinstance(found.get(name), str) or not found[name].strip():
            known = "an Echo Proxy header, {request, response} or {messages}"
            got = shown(found[name]) if name in found else f"only {shown(sorted(found))}"
            raise BadLine(f"{where}: {name}: expected a text that is not blank ({known}), got {got}")
    system = found.get("system", "")
    if not isinstance(system, str):
        raise BadLine(f"{where}: system: expected a text, got {shown(system)}")
    return Dialogue(system, (found["request"],), found["response"])


def _from_messages(messages: Any, where: str) -> Dialogue:
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        raise BadLine(f"{where}: messages: expected a list of objects, got {shown(messages)}")
    turns = [_turn(one, f"{where}: messages.{index}") for index, one in enumerate(messages)]
    system = "\n\n".join(text for role, text in turns if role == "system")
    dialogue = [turn for turn in turns if turn[0] != "system"]
    asked = tuple(text for role, text in dialogue if role == "user")
    if [role for role, _ in dialogue[-2:]] != ["user", "assistant"] or not asked[-1].strip():
        raise Unfit("does not end with a user's turn and an answer")
    if not dialogue[-1][1].strip():
        raise Unfit("empty answer")
    return Dialogue(system, asked, dialogue[-1][1], begins_with_answer=dialogue[0][0] == "assistant")


def _turn(message: Mapping[str, Any], where: str) -> tuple[str, str]:
    """Role and text."""
    role = message.get("role")
    if role in ("tool", "function") or message.get("tool_calls") or message.get("function_call"):
        raise Unfit("tools")
    if role not in ("system", "developer", "user", "assistant"):
        raise BadLine(f"{where}.role: expected system, developer, user or assistant, got {shown(role)}")
    return ("system" if role == "developer" else role), _text(message.get("content"), f"{where}.content")


def _text(content: Any, where: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return _joined(content, where)
    raise BadLine(f"{where}: expected a text or a list of parts, got {shown(content)}")


def _joined(parts: Sequence[Mapping[str, Any]], where: str) -> str:
    if any(part.get("type") not in ("text", "input_text", "output_text") for part in parts):
        raise Unfit("not only text")
    texts = [part.get("text") for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise BadLine(f"{where}: expected parts with a text, got {shown(parts)}")
    return "\n".join(str(text) for text in texts)


def _id(scope: str, system: str, dialogue: Dialogue) -> str:
    """The same for the same row in the same scope, so that a second import adds nothing."""
    parts = (scope, system, *dialogue.asked, dialogue.response)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part.encode("utf-8", "surrogatepass")).digest())
    return f"import-{digest.hexdigest()[:32]}"
