"""Where in a text does something stand that may not be kept, and how sure is that?"""

from dataclasses import dataclass
from typing import Literal

Certainty = Literal[1, 2, 3]
"""3 = a checksum holds, or nothing else looks like it; 2 = its form or a word beside it; 1 = a guess."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A secret or a piece of personal data in a text."""

    kind: str
    """E.g. `email`; see `SECRET_KINDS` and `PERSONAL_KINDS` of the policy."""
    start: int
    """Place of its first character."""
    end: int
    """Place after its last character, greater than start."""
    certainty: Certainty = 2
    """Of two that overlap, the more certain one gives the kind."""
