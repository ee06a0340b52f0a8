"""Which example does a line of the file stand for?"""

from dataclasses import dataclass, replace

from echo_proxy.policy import Policy
from echo_proxy.protocols import Clock, Embedder
from echo_proxy.stores.keys import tag
from echo_proxy.transfer.claims import Claims, Draft, draft_of
from echo_proxy.transfer.foreign import Defaults, foreign_row
from echo_proxy.transfer.lines import Line
from echo_proxy.transfer.parse import BadLine, row_from
from echo_proxy.transfer.rows import Header
from echo_proxy.transfer.vectors import vector_of
from echo_proxy.types import Embedding, Example

_TAGS = ("scope", "partition", "teacher", "writer", "reader")


@dataclass(frozen=True, slots=True)
class Drafter:
    """Reads the lines of one file."""

    source: str
    """Its name, for errors."""
    header: Header | None
    """None = its rows did not come from Echo."""
    claims: Claims
    defaults: Defaults
    policy: Policy
    embedder: Embedder
    clock: Clock
    reembeds: bool
    """Vectors of the file are not used."""

    def draft(self, line: Line) -> Draft:
        """The example that may be kept. Raises BadLine, Unfit."""
        now, where = self.clock.now(), f"{self.source}:{line.number}"
        if self.header is None:
            defaults = replace(self.defaults, now=now, ttl_s=self.policy.admission.ttl_s)
            row, text = foreign_row(line, self.source, defaults)
            made = draft_of(row, text, None, self.claims, self.policy, now)
        else:
            row = row_from(line, self.source)
            vector = self._vector(row.vector, self.header, where)
            made = draft_of(row, None, vector, self.claims, self.policy, now)
        _check_tags(made.example, where)
        return made

    def _vector(self, text: str | None, header: Header, where: str) -> Embedding | None:
        """The row's vector where it is of the model that the store has."""
        fits = (header.model, header.dimensions) == (self.embedder.model, self.embedder.dimensions)
        if text is None or header.vectors is None or not fits or self.reembeds:
            return None
        try:
            return vector_of(text, header.vectors, header.dimensions)
        except ValueError as error:
            raise BadLine(f"{where}: vector: {error}") from error


def _check_tags(example: Example, where: str) -> None:
    """No store keeps longer ones, whichever letters they are of."""
    for name in _TAGS:
        try:
            tag(getattr(example, name))
        except ValueError as error:
            raise BadLine(f"{where}: {name}: {error}") from error
