"""How is a model in its process? Told as JSON by the process, read by the proxy."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from echo_proxy.engine.work import EngineStatus

Phase = Literal["unloaded", "loading", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class ModelHealth:
    """One model of a process."""

    model: str
    phase: Phase
    """`failed` = the last attempt to load it went wrong; the next one comes after a pause."""
    n_ctx: int | None = None
    """Longest prompt and answer together, in tokens; None before it was loaded once."""
    load_s: float = 0.0
    """How long it took to load it last time; 0 = never loaded."""
    n_loads: int = 0
    """How often it was loaded."""
    error: str | None = None
    """Why it could not be loaded last time."""
    status: EngineStatus = field(default_factory=EngineStatus)
    """Its engine's; sums go on when it is unloaded and loaded again."""

    def to_json(self) -> dict[str, Any]:
        """Flat: the engine's fields stand beside the others."""
        told = asdict(self)
        status = told.pop("status")
        return {**told, **status}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "ModelHealth":
        """Inverse of `to_json`. Raises TypeError."""
        own = {name: value for name, value in told.items() if name not in EngineStatus.__dataclass_fields__}
        status = {name: value for name, value in told.items() if name in EngineStatus.__dataclass_fields__}
        return cls(**own, status=EngineStatus(**status))
