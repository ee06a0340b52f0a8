"""How many cells are used, and by whom? Counted, as llama.cpp is too slow to ask in every step.

Cells are written in *spans*: positions that one seat has written, one after the other. Seats that share them hold a
beginning of the span each, so a span uses as many cells as its longest holder has of it.
"""

from collections.abc import Collection


class Cells:
    """The spans that each seat holds."""

    def __init__(self) -> None:
        self._spans: dict[int, list[_Span]] = {}
        self._n_used = 0

    def n_held(self, seat: int) -> int:
        """Positions that the seat has."""
        spans = self._spans.get(seat)
        return spans[-1].ends[seat] if spans else 0

    def write(self, seat: int, n_tokens: int) -> None:
        """The seat has so many positions from now on: it has forgotten some, or written more."""
        spans = self._spans.setdefault(seat, [])
        while spans and spans[-1].start >= n_tokens:
            self._n_used += spans.pop().move(seat, None)
        n_held = self.n_held(seat)
        if n_tokens > n_held and (not spans or len(spans[-1].ends) > 1):
            # Others have the span too: what this seat writes now is not theirs.
            spans.append(_Span(n_held))
        if spans:
            self._n_used += spans[-1].move(seat, n_tokens)

    def share(self, source: int, target: int, n_tokens: int) -> None:
        """The target, which is empty, has the source's first positions too."""
        spans = [span for span in self._spans.get(source, ()) if span.start < n_tokens]
        for span in spans:
            span.move(target, min(span.ends[source], n_tokens))  # uses nothing
        self._spans[target] = spans

    def clear(self, seat: int) -> None:
        """The seat has nothing any more."""
        for span in self._spans.pop(seat, ()):
            self._n_used += span.move(seat, None)

    def n_used(self) -> int:
        """Cells that any seat holds."""
        return self._n_used

    def n_used_by(self, seats: Collection[int]) -> int:
        """Cells that any of these seats holds."""
        spans = {id(span): span for seat in seats for span in self._spans.get(seat, ())}
        return sum(span.n_used_by(seats) for span in spans.values())


class _Span:
    __slots__ = ("ends", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        """Its first position."""
        self.ends: dict[int, int] = {}
        """For each seat that holds some of it, the position after the last that it holds."""

    def move(self, seat: int, end: int | None) -> int:
        """The seat holds it up to there from now on, None = nothing of it; how many cells more are used."""
        before = max(self.ends.values(), default=self.start)
        if end is None:
            del self.ends[seat]
        else:
            self.ends[seat] = end
        return max(self.ends.values(), default=self.start) - before

    def n_used_by(self, seats: Collection[int]) -> int:
        """Of its cells, those that any of these seats holds."""
        return max(end for seat, end in self.ends.items() if seat in seats) - self.start
