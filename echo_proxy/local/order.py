"""What do a supervisor and the process of its model say to each other? One line each way."""

import json
from dataclasses import asdict, dataclass

from echo_proxy.local.options import LocalModelOptions


@dataclass(frozen=True, slots=True)
class Order:
    """What the supervisor asks for."""

    name: str
    token: str
    """Bearer token of every call."""
    options: LocalModelOptions

    def to_line(self) -> bytes:
        """One line of JSON."""
        content = {"name": self.name, "token": self.token, "options": self.options.model_dump(mode="json")}
        return json.dumps(content).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Order":
        """Inverse of `to_line`."""
        content = json.loads(line)
        options = LocalModelOptions.model_validate_json(json.dumps(content["options"]))
        return cls(content["name"], content["token"], options)


@dataclass(frozen=True, slots=True)
class Reply:
    """The child's one word."""

    port: int | None = None
    """Where it listens on 127.0.0.1, once the model is loaded."""
    error: str | None = None
    """Why it could not be loaded."""

    def to_line(self) -> bytes:
        """One line of JSON."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Reply":
        """Inverse of `to_line`; an empty reply when the child died before it could say anything."""
        try:
            return cls(**json.loads(line))
        except (ValueError, TypeError):
            return cls()
