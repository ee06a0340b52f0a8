"""Which seats have the beginning of a text, and what would be lost with one of them? Bookkeeping, no model."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from echo_proxy.engine.radix import TOKEN_BYTES, Node, Radix

_HOT_USES: Final = 2
"""A beginning is hot when so many prompts had it."""


@dataclass(slots=True)
class Tenant:
    """Whose text is in a seat."""

    domain: str
    key: bytes
    """The prompt of a live seat, the whole text of a kept one; packed."""
    n_ready: int
    """Its first tokens that are computed."""
    is_live: bool
    """Whether it is being read or answered; else it is kept."""
    used_at: int
    """Number of the seating that used it last."""

    @property
    def n_tokens(self) -> int:
        """Length of its text."""
        return len(self.key) // TOKEN_BYTES

    @property
    def is_reading(self) -> bool:
        """Whether more of its text will be ready soon."""
        return self.is_live and self.n_ready < self.n_tokens


@dataclass(frozen=True, slots=True)
class Resident:
    """What seats have of a prompt's beginning."""

    n_ready: int = 0
    """Tokens that are computed."""
    n_coming: int = 0
    """Tokens that are computed or being read; 0 where that is not more than `n_ready`."""
    source: int | None = None
    """The seat that has the ready ones."""


class Texts:
    """The texts of all seats that are live or kept, a tree for each domain."""

    def __init__(self, is_sliceable: bool) -> None:
        """
        Args:
            is_sliceable: whether a beginning of a seat's state can be used; else only the whole.
        """
        self.tenants: dict[int, Tenant] = {}
        self._is_sliceable = is_sliceable
        self._trees: dict[str, Radix] = {}

    def settle(self, seat: int, tenant: Tenant, n_uses: int = 0) -> None:
        """The seat has this tenant from now on, which is of the same domain as the one before, if there was one."""
        self.tenants[seat] = tenant
        self._trees.setdefault(tenant.domain, Radix()).hold(seat, tenant.key, n_uses)

    def leave(self, seat: int) -> None:
        """The seat has no tenant any more."""
        domain = self.tenants.pop(seat).domain
        tree = self._trees[domain]
        tree.leave(seat)
        if not tree.leaves:
            del self._trees[domain]

    def live(self) -> list[int]:
        """Seats that are read or answered."""
        return [seat for seat, tenant in self.tenants.items() if tenant.is_live]

    def kept(self) -> list[int]:
        """Seats that only keep their text."""
        return [seat for seat, tenant in self.tenants.items() if not tenant.is_live]

    # ------------------------------------------------------------------ what is there of a prompt

    def resident(self, domain: str, key: bytes, n_most: int) -> Resident:
        """What seats of the domain have of the text's first `n_most` tokens."""
        tree = self._trees.get(domain)
        if tree is None or n_most < 1:
            return Resident()
        last, n_known = tree.find(key)
        look = self._longest if self._is_sliceable else self._whole
        return look(last, min(n_known, n_most))

    def _longest(self, last: Node, n_most: int) -> Resident:
        n_ready, n_coming, source = 0, 0, None
        for node in last.upwards():
            n_here = min(n_most, node.end)
            if n_ready >= n_here:
                break  # nodes further up have less
            for seat in node.holders:
                tenant = self.tenants[seat]
                n = min(n_here, tenant.n_ready)
                if n > n_ready or (n == n_ready > 0 and self.can_take_over(seat, n)):
                    n_ready, source = n, seat
                if tenant.is_reading:
                    n_coming = max(n_coming, n_here)
        return Resident(n_ready, n_coming if n_coming > n_ready else 0, source)

    def _whole(self, last: Node, n_most: int) -> Resident:
        for node in last.upwards():
            kept = self._only_kept(node.enders)
            if node.end <= n_most and kept:
                return Resident(node.end, 0, kept[0])
        return Resident()

    def can_take_over(self, seat: int, n_tokens: int) -> bool:
        """Whether the seat is kept and has nothing beyond these tokens, but for the one whose logits are wanted."""
        tenant = self.tenants[seat]
        return not tenant.is_live and tenant.n_tokens <= n_tokens + 1

    # ------------------------------------------------------------------ what would be lost

    def covering(self, seat: int) -> list[int]:
        """Kept seats that make this one superfluous: their text begins with its text."""
        leaf = self._leaf(seat)
        return self._only_kept(leaf.holders if self._is_sliceable else leaf.enders, seat)

    def covered(self, seat: int) -> list[int]:
        """Kept seats that this one makes superfluous."""
        if not self._is_sliceable:
            return []
        return [other for node in self._leaf(seat).upwards() for other in self._only_kept(node.enders, seat)]

    def n_elsewhere(self, seat: int) -> int:
        """Tokens of the seat's text that another seat has computed too."""
        most = 0
        for node in self._leaf(seat).upwards() if self._is_sliceable else ():
            for other in node.holders:
                if most >= node.end:
                    return most
                if other != seat:
                    most = max(most, min(node.end, self.tenants[other].n_ready))
        return most

    def worth(self, seat: int, now: int) -> float:
        """Tokens that would probably be computed again without the seat.

        Those that no other seat has, weighed by how often prompts had them and by how long ago that was, in seatings.
        """
        tenant, floor, n_tokens = self.tenants[seat], self.n_elsewhere(seat), 0
        for node in self._leaf(seat).upwards():
            if node.end <= floor:
                break
            n_lost = min(node.end, tenant.n_ready) - max(node.start, floor)
            n_tokens += max(0, n_lost) * (1 + node.n_uses)
        return n_tokens / (1 + now - tenant.used_at)

    def n_lost(self, seat: int) -> int:
        """Tokens that nobody would have without the seat."""
        return max(0, self.tenants[seat].n_ready - self.n_elsewhere(seat))

    def n_hot(self, seat: int) -> int:
        """Length of the longest beginning of the seat's text that is hot, and computed; 0 = none, or it can only be
        had with what follows."""
        n_ready = self.tenants[seat].n_ready
        for node in self._leaf(seat).upwards():
            if node.n_uses >= _HOT_USES:
                n_tokens = min(node.end, n_ready)
                return n_tokens if self._is_sliceable or n_tokens == n_ready else 0
        return 0

    def _leaf(self, seat: int) -> Node:
        return self._trees[self.tenants[seat].domain].leaves[seat]

    def _only_kept(self, seats: Iterable[int], but: int | None = None) -> list[int]:
        return [seat for seat in seats if seat != but and not self.tenants[seat].is_live]
