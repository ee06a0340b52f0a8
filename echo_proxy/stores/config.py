"""What must a store know about the policy that it serves?"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """One policy's view of the store; the same for every kind of store."""

    policy: str
    """Name of the policy; all its keys carry it."""
    model: str
    """Embedding model that made the vectors."""
    dimensions: int
    """Length of a vector."""
    index: Literal["flat", "hnsw"]
    """flat = exact, quick to rebuild; hnsw = approximate, fast beyond about 50,000 examples."""
    half_life_s: float
    """Evidence counts half after so many seconds; 0 or less = it never fades."""
    decision_ttl_s: float
    """A decision is kept no longer than this after it was taken, whatever its record says."""
    log_length: int
    """About so many decisions can be listed; older ones can still be asked for by id until they expire."""
    memory_length: int = 5000
    """About so many of the newest lessons are kept; amendments count like lessons."""
    offload_decay: float = 0.9
    """Factor per hour on an example's offloads and regret, (0, 1]."""
