"""How does a step of the gate say that an answer must not be kept?"""


class Refused(Exception):
    """A step of the gate stops here; caught by the gate alone."""

    def __init__(self, reason: str, holder_id: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        """As it is counted."""
        self.holder_id = holder_id
        """Stored example that holds the same answer already; empty when none does."""
