"""What do all workers together know about the arms?"""

from collections.abc import Iterable, Mapping

from echo_proxy.bandits.evidence import merge
from echo_proxy.types import ArmKey, ArmSums, Increment


class Knowledge:
    """Merged evidence as last read from the store, plus what this worker has learned since.

    Not thread safe: it belongs to one event loop.
    """

    def __init__(self) -> None:
        self._sums: dict[ArmKey, ArmSums] = {}

    def sums(self, key: ArmKey) -> ArmSums:
        """Evidence about one arm in one segment; zeros when there is none."""
        return self._sums.get(key, ArmSums())

    def absorb(self, increments: Iterable[Increment]) -> None:
        """Learn at once, without waiting for the store."""
        for increment in increments:
            self._sums[increment.key] = merge(self.sums(increment.key), increment.sums)

    def replace(self, sums: Mapping[ArmKey, ArmSums], unwritten: Iterable[Increment]) -> None:
        """Take over the store's state; what is not written there yet is added."""
        self._sums = dict(sums)
        self.absorb(unwritten)

    def snapshot(self) -> Mapping[ArmKey, ArmSums]:
        """A copy of all evidence."""
        return dict(self._sums)
