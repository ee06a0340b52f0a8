"""How does a request come to the model's state of its text, and what becomes of that when it must leave?"""

from collections import Counter

from echo_proxy.engine.prefixes import Prefixes
from echo_proxy.engine.sequence import Sequence as Served

_WORTH_WAITING = 32
"""Tokens that another request is reading just now and that are worth waiting for. guess, not yet measured"""


class Seats:
    """The requests' part of what `Prefixes` does with seats. Used by the engine's thread."""

    def __init__(self, prefixes: Prefixes, counts: Counter[str]) -> None:
        """
        Args:
            counts: to which tokens of prompts are added.
        """
        self._prefixes = prefixes
        self._counts = counts

    # ------------------------------------------------------------------ cells

    def n_new_cells(self, served: Served) -> int:
        """Cells that one that has no seat needs for its tokens so far."""
        return self._prefixes.n_new_cells(served.ask.domain, served.tokens)

    def n_promised_cells(self, served: Served) -> int:
        """Cells that one in the batch needs for its tokens so far and has not written yet."""
        if served.seat is not None:
            return served.n_unread - 1  # the next one is counted with its answer
        match = self._prefixes.look(served.ask.domain, served.tokens)
        return len(served.tokens) - max(match.n_coming, match.n_live)

    # ------------------------------------------------------------------ seats

    def take(self, served: Served) -> None:
        """Sit down, if it does not sit yet and there is a seat. Not while another one is just reading the same
        beginning: then its cells can be shared soon."""
        if served.seat is not None:
            return
        domain = served.ask.domain
        match = self._prefixes.look(domain, served.tokens)
        if match.n_coming - match.n_known >= _WORTH_WAITING:
            return
        seating = self._prefixes.seat(domain, served.tokens)
        if seating is None:
            return
        served.seat = seating.seat
        served.n_ready, served.n_shared = seating.n_cached, seating.n_shared
        served.n_to_read = served.n_unread
        self.unpin_if_read(served)
        if not served.n_seatings:
            served.tally.cached = seating.n_cached
            self._counts["prompt_tokens"] += len(served.ask.prompt)
            self._counts["cached_tokens"] += seating.n_cached
        served.n_seatings += 1

    def set_aside(self, served: Served) -> None:
        """Give up its seat for some time; what the model has read of it stays in the vault, if that has room."""
        seat, n_ready = served.seat, served.n_ready
        served.seat, served.n_ready = None, 0
        if seat is None:
            return
        if n_ready <= len(served.pinned):  # it has to leave again before it has read what was saved the last time
            self._prefixes.drop(seat)
            return
        tokens = tuple(served.tokens[:n_ready])
        if self._prefixes.pause(seat, tokens):
            self.unpin(served)
            served.pinned = tokens

    def leave(self, served: Served) -> None:
        """It is over; what the model has read of it is kept as a prefix."""
        if served.seat is not None:
            self._prefixes.retire(served.seat, served.tokens[: served.n_ready])
            served.seat = None

    def drop(self, served: Served) -> None:
        """It is over, and nothing of it is to be used again."""
        if served.seat is not None:
            self._prefixes.drop(served.seat)
            served.seat = None

    # ------------------------------------------------------------------ what was saved of it

    def unpin_if_read(self, served: Served) -> None:
        """What was saved is needed until the model has it again: restored, or read, where there was no room for it."""
        if served.n_ready >= len(served.pinned):
            self.unpin(served)

    def unpin(self, served: Served) -> None:
        """Nobody needs what was saved of it any more."""
        if served.pinned:
            self._prefixes.unpin(served.ask.domain, served.pinned)
            served.pinned = ()
