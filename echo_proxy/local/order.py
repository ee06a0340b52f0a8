"""What do a supervisor and the process of its models say to each other? One line each way."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from echo_proxy.local.groups import ModelGroup
from echo_proxy.local.options import LocalModel, LocalModelOptions


@dataclass(frozen=True, slots=True)
class Order:
    """What the supervisor asks for."""

    group: ModelGroup
    """The models that live in the process."""
    token: str
    """Bearer token of every call."""
    folder: Path
    """For files that outlive the process, such as states of prefixes."""

    def to_line(self) -> bytes:
        """One line of JSON."""
        models = {model.name: model.options.model_dump(mode="json") for model in self.group.models}
        content = {"process": self.group.process, "token": self.token, "folder": str(self.folder), "models": models}
        return json.dumps(content).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Order":
        """Inverse of `to_line`."""
        content = json.loads(line)
        models = tuple(
            LocalModel(name, LocalModelOptions.model_validate_json(json.dumps(options)))
            for name, options in content["models"].items()
        )
        return cls(ModelGroup(content["process"], models), content["token"], Path(content["folder"]))


@dataclass(frozen=True, slots=True)
class Reply:
    """The child's one word."""

    port: int | None = None
    """Where it listens on 127.0.0.1, once a model is loaded or none needs to be."""
    error: str | None = None
    """Why none could be loaded."""

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
