"""What does a line say, and if it cannot be understood, what exactly is wrong?"""

import json
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from echo_proxy.errors import InputError
from echo_proxy.transfer.lines import Line
from echo_proxy.transfer.rows import SCHEMA_VERSION, Header, Row

_MARK = "echo_proxy_examples"
_SHOWN = 60
"""Characters of a wrong value that a message shows."""


class BadLine(InputError):
    """A line cannot be taken in; the message names file, line, field, what was expected and what came."""


def header_of(line: Line, source: str) -> Header | None:
    """The header; None when the line is none, and the file comes from elsewhere. Raises InputError."""
    try:
        found = object_of(line, source)
    except BadLine:
        return None  # a row, then, and a wrong one
    if _MARK not in found:
        return None
    if found[_MARK] != SCHEMA_VERSION:
        raise InputError(
            f"{source}:{line.number}: {_MARK}: expected version {SCHEMA_VERSION}, got {shown(found[_MARK])}"
        )
    try:
        return Header.model_validate_json(line.content)
    except ValidationError as error:
        raise InputError(f"{source}:{line.number}: {complaint(error.errors()[0])}") from error


def row_from(line: Line, source: str) -> Row:
    """The example of a line of our own file. Raises BadLine."""
    try:
        row = Row.model_validate_json(line.content)
    except ValidationError as error:
        raise BadLine(f"{source}:{line.number}: {complaint(error.errors()[0])}") from error
    if row.gain > row.uses:
        raise BadLine(f"{source}:{line.number}: gain: expected at most uses = {row.uses:g}, got {row.gain:g}")
    if not row.request.strip():
        raise BadLine(f"{source}:{line.number}: request: expected a text that is not blank, got {shown(row.request)}")
    return row


def object_of(line: Line, source: str) -> dict[str, Any]:
    """The JSON object of a line. Raises BadLine."""
    try:
        found = json.loads(line.content)
    except (ValueError, RecursionError) as error:
        raise BadLine(
            f"{source}:{line.number}: expected one JSON object in UTF-8, got {shown(line.content)} ({error})"
        ) from error
    if not isinstance(found, dict):
        raise BadLine(f"{source}:{line.number}: expected a JSON object, got {shown(found)}")
    return found


def complaint(detail: ErrorDetails) -> str:
    """Field, what was expected and what came, of one error of pydantic."""
    place = ".".join(map(str, detail["loc"])) or "the line"
    got = "nothing" if detail["type"] == "missing" else shown(detail["input"])
    expected = "no such field" if detail["type"] == "extra_forbidden" else _lower(detail["msg"])
    return f"{place}: expected {expected}, got {got}"


def _lower(message: str) -> str:
    """pydantic's message without its beginning: `Input should be a valid string`."""
    message = message.replace("String should match pattern", "a text like")
    for begin in ("Input should be ", "Value error, ", "String should have ", "String should "):
        message = message.removeprefix(begin)
    return "a value" if message == "Field required" else message[:1].lower() + message[1:]


def shown(value: object) -> str:
    """A value as a message may show it: short, and without control characters, which could steer a terminal."""
    text = repr(value.decode("utf-8", "replace") if isinstance(value, bytes) else value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
