"""What is known of a prompt's beginning, and where does the prompt sit?"""

from dataclasses import dataclass, replace

from echo_proxy.engine.vault_entry import Saved


@dataclass(frozen=True, slots=True)
class Match:
    """What is known of a prompt's beginning."""

    n_resident: int
    """Tokens whose state is in a seat; at most all but the last, whose logits are wanted."""
    n_coming: int
    """Longest common beginning with a prompt that a live seat is still reading, so that waiting makes it resident; 0
    where that is not more than is known now."""
    source: int | None = None
    """The seat that has the resident tokens."""
    n_live: int = 0
    """Of the resident tokens, those whose cells a live seat holds and will share."""
    saved: Saved | None = None
    """A state in the vault that has so much more than the seats that it is used in place of them."""
    n_saved: int = 0
    """Tokens that it has; at most all but the last."""

    @property
    def n_known(self) -> int:
        """Tokens that need not be read, whether they are resident or must be restored first."""
        return max(self.n_resident, self.n_saved)

    def without_saved(self) -> "Match":
        """What it is when the vault's state cannot be used."""
        return replace(self, saved=None, n_saved=0)


@dataclass(frozen=True, slots=True)
class Seating:
    """Where a prompt sits."""

    seat: int
    n_cached: int
    """Tokens of the prompt whose state is in the seat."""
    n_shared: int = 0
    """Of them, those in cells that are a live seat's too."""
