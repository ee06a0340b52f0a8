"""Where is a process of local models, and how is it? A small file that all workers of the machine read."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class ModelState:
    """What the supervisor of a process tells the other workers."""

    phase: Literal["starting", "ready", "failed"]
    """`failed` = the last start went wrong; the next one comes after a pause."""
    fingerprint: str
    """Of the models and options it was started with."""
    n_restarts: int = 0
    """How often the process was started again after it ended by itself."""
    supervisor_pid: int = 0
    """The worker that started it."""
    pid: int | None = None
    """The process, when there is one."""
    port: int | None = None
    """On 127.0.0.1; set when ready."""
    token: str = ""
    """Bearer token; another one for each start, so it also tells one start from the next."""
    error: str | None = None
    """Why it failed, or how it ended last time."""

    @property
    def url(self) -> str:
        """Address of a ready process, without a path."""
        return f"http://127.0.0.1:{self.port}"


def read_state(path: Path) -> ModelState | None:
    """The state in the file; None when there is none, or one that an older version wrote."""
    try:
        return ModelState(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def write_state(path: Path, state: ModelState) -> None:
    """Replace the file at once, readable for this user only: it holds the token."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(state), file)
    fresh.replace(path)
