"""What is known of a saved state?"""

from dataclasses import dataclass, field

from echo_proxy.engine.radix import TOKEN_BYTES
from echo_proxy.engine.vault_files import n_file_bytes, name_of


@dataclass(frozen=True, slots=True)
class Saved:
    """A saved state whose text begins like the one that was asked for."""

    name: str
    n_tokens: int
    """Length of its text."""
    n_common: int
    """How much of it is a beginning of the other."""


@dataclass(eq=False, slots=True)
class Entry:
    """A state, in memory, on disk, in both, or on its way from one to the other."""

    number: int
    domain: bytes
    key: bytes
    n_state: int
    """Bytes of the state."""
    used_at: int
    state: bytes | None = None
    """None = it is only on disk."""
    is_on_disk: bool = False
    """Whether its file is there, or is being written and has its bytes of the budget."""
    is_queued: bool = False
    """Whether it waits to be written; the state is in memory until then, beside the budget."""
    is_passing: bool = False
    """It was saved only to be resumed once, and is worth nothing after that."""
    n_pins: int = 0
    n_uses: int = 0
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = name_of(self.domain, self.key)

    @property
    def n_tokens(self) -> int:
        """Length of its text."""
        return len(self.key) // TOKEN_BYTES

    @property
    def is_in_ram(self) -> bool:
        """Whether it counts there."""
        return self.state is not None and not self.is_queued

    @property
    def n_ram_bytes(self) -> int:
        """What it takes of the memory's budget while it is there."""
        return len(self.key) + self.n_state

    @property
    def n_disk_bytes(self) -> int:
        """What its file takes."""
        return n_file_bytes(self.key, self.n_state)

    def worth(self, now: int) -> float:
        """Tokens a byte saves, by how often and how recently it was used."""
        return (not self.is_passing) * (1 + self.n_uses) * self.n_tokens / self.n_state / (1 + now - self.used_at)
