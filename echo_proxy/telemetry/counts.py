"""How often did what happen? Additive counts by scope and name, collected here until the store has them."""

from collections.abc import Mapping

EVERYONE = "all"
"""Scope of counts that belong to no tenant, such as calls that were bypassed before their caller was known."""


class Counts:
    """Counts of one worker that the store does not have yet. Belongs to one event loop."""

    def __init__(self) -> None:
        self._pending: dict[tuple[str, str], float] = {}

    def add(self, scope: str, name: str, amount: float = 1.0) -> None:
        """Add to one count."""
        key = (scope, name)
        self._pending[key] = self._pending.get(key, 0.0) + amount

    def take(self) -> Mapping[tuple[str, str], float]:
        """What has gathered; give it back with `restore` when it could not be written."""
        taken, self._pending = self._pending, {}
        return taken

    def restore(self, counts: Mapping[tuple[str, str], float]) -> None:
        """Put back what could not be written."""
        for (scope, name), amount in counts.items():
            self.add(scope, name, amount)
