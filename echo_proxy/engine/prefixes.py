"""Who sits where, with which beginning of its prompt read already, and what is kept when it must leave?

A seat is *free*, *live* (its prompt is being read or answered), *kept* (the state of a text that somebody may ask for
again) or *lent* (for drafts). A prompt takes over what live and kept seats of its domain have computed of its
beginning, or what the vault has saved of it. Kept texts leave when seats or cells are short, the least worth first;
a beginning that two prompts had, or else a whole text, is saved in the vault before its last seat forgets it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from echo_proxy.engine.prefixes_cells import Cells
from echo_proxy.engine.prefixes_records import Match, Seating
from echo_proxy.engine.prefixes_texts import Resident, Tenant, Texts
from echo_proxy.engine.radix import TOKEN_BYTES, pack
from echo_proxy.engine.runner import Runner
from echo_proxy.engine.vault import Vault
from echo_proxy.engine.vault_entry import Saved

__all__ = ["Match", "Prefixes", "Seating"]

_WORTH_OF_A_DRAFT: Final = 4.0
"""Tokens that would probably be read again, below which a kept text leaves for the sake of a draft: what a good draft
saves.  # guess, not yet measured"""
_LEAST_SHARE: Final = 0.5
"""A saved state is restored only if so much of it is wanted.  # guess, not yet measured"""


class Prefixes:
    """The seats and cells of one runner. Used by the thread that owns the runner."""

    def __init__(self, runner: Runner, vault: Vault, *, min_saved: int = 64, max_kept: int | None = None) -> None:
        """
        Args:
            min_saved: the shortest beginning that is saved in the vault, in tokens. A saved state is restored when it
                has at least half of that more than the best seat, as restoring copies it.
            max_kept: cells that kept texts may hold: every step looks at all cells in use. None = all.
        """
        self._runner, self._vault, self._min_saved = runner, vault, min_saved
        self._max_kept = runner.n_cells if max_kept is None else max_kept
        self._least_gain = max(1, min_saved // 2)
        """Tokens that a saved state must have more than the seats."""
        self._least_share = _LEAST_SHARE if runner.is_sliceable else 1.0
        self._texts = Texts(runner.is_sliceable)
        self._cells = Cells()
        self._free = list(range(runner.n_seats))
        self._lent: set[int] = set()
        self._now = 0
        """Number of the last seating."""
        self._version = 0
        """Changes whenever a seat changes hands."""
        self._unlendable = -1
        """The version at which no kept text was worth less than a draft."""
        self.counts: Counter[str] = Counter()
        """Sums since the start: `seatings`; `hits`, those that found something, and its `hit_tokens`;
        `restored_states`, `restored_tokens`, `saved_states`, `saved_tokens`; `evicted` and `trimmed` kept texts;
        `pauses`, and `lost_pauses` that could not be saved."""

    # ------------------------------------------------------------------ prompts

    def look(self, domain: str, tokens: Sequence[int]) -> Match:
        """What is known of the prompt's beginning; changes nothing."""
        return self._look(domain, pack(tokens))

    def n_new_cells(self, domain: str, tokens: Sequence[int]) -> int:
        """Cells that a prompt would take, now and for what is still to be read of it.

        Only what live seats have is had for nothing: a restored state is a copy, and cells of kept texts, which count
        as free while nobody uses them, no longer do when a prompt takes them over.
        """
        match = self.look(domain, tokens)
        return len(tokens) - (match.n_live if match.saved is None else 0)

    def seat(self, domain: str, tokens: Sequence[int]) -> Seating | None:
        """A seat for the prompt, with as much of its beginning as is known; None when all are live or lent."""
        if not tokens:
            raise ValueError("expected a prompt with at least one token, got none")
        key = pack(tokens)
        place = self._place(domain, key)
        if place is None:
            return None
        self._now += 1
        self._settle(place.seat, Tenant(domain, key, place.n_cached, True, self._now), n_uses=1)
        self.counts["seatings"] += 1
        self.counts["hits"] += place.n_cached > 0
        self.counts["hit_tokens"] += place.n_cached
        self._has_room(len(tokens) - place.n_cached)  # if not, others may have ended when it is read
        return place

    def advance(self, seat: int, n_ready: int) -> None:
        """So many tokens of its prompt are computed; others may have them from now on."""
        self.grew(seat, max(n_ready, self._cells.n_held(seat)))

    def grew(self, seat: int, n_tokens: int) -> None:
        """The seat has so many positions now, prompt and answer together."""
        tenant = self._texts.tenants[seat]
        tenant.n_ready = max(tenant.n_ready, min(n_tokens, tenant.n_tokens))
        self._cells.write(seat, n_tokens)

    def retire(self, seat: int, tokens: Sequence[int]) -> None:
        """The answer ended or was given up. The state of exactly these tokens is in the seat; it is kept, unless
        a kept text begins with it."""
        if tokens:
            self._keep(seat, pack(tokens), self._now)
            self._limit_kept()
        else:
            self.drop(seat)

    def drop(self, seat: int) -> None:
        """Forget all that the seat holds; nothing of it is saved."""
        self._texts.leave(seat)
        self._vacate(seat)

    def pause(self, seat: int, tokens: Sequence[int]) -> bool:
        """Save the state of exactly these tokens, which is in the seat, until `unpin`, and drop the seat.

        `seat` with these tokens, or more, goes on there; a model that is not sliceable needs at least one more.
        False = it could not be saved; it is only kept like an answer that ended, and may be gone when it is wanted.
        """
        domain, key = self._texts.tenants[seat].domain, pack(tokens)
        self.counts["pauses"] += 1
        if tokens and not self._vault.is_off and self._vault.put(domain, key, self._runner.save(seat), is_pinned=True):
            self.drop(seat)
            return True
        self.counts["lost_pauses"] += 1
        self.retire(seat, tokens)
        return False

    def save(self) -> None:
        """Give up all kept texts; what is worth it goes to the vault. For before the model is unloaded."""
        self.give_up_kept()

    def unpin(self, domain: str, tokens: Sequence[int]) -> None:
        """The paused answer goes on, or nobody wants it any more."""
        self._vault.unpin(domain, pack(tokens))

    # ------------------------------------------------------------------ seats and cells

    def lend(self, n: int) -> tuple[int, ...]:
        """Up to n empty seats for drafts; kept texts leave for them only where they are worth less than a draft."""
        seats = [self._free.pop() for _ in range(min(n, len(self._free)))]
        if len(seats) < n and self._unlendable != self._version:
            for seat in sorted(self._texts.kept(), key=self._worth):
                # Asked again: what it shared with those before it may be its own now.
                if len(seats) < n and self._worth(seat) < _WORTH_OF_A_DRAFT:
                    self._evict(seat)
                    seats.append(self._free.pop())
            self._unlendable = self._version if len(seats) < n else -1
        self._lent.update(seats)
        return tuple(seats)

    def give_back(self, seats: Sequence[int]) -> None:
        """Lent seats are not needed any more; what is in them is forgotten."""
        for seat in seats:
            self._lent.remove(seat)
            self._vacate(seat)

    def make_room(self, n_cells: int) -> bool:
        """Give up kept texts until so many cells are free, all of them if need be; whether it sufficed."""
        while self._n_missing(n_cells) > 0 and (kept := self._texts.kept()):
            for seat in sorted(kept, key=self._worth_of_a_token):
                if seat in self._texts.tenants and self._n_missing(n_cells) > 0:
                    self._shrink(seat)
        return self._n_missing(n_cells) <= 0

    def give_up_kept(self) -> bool:
        """Give up all kept texts; whether there were any."""
        kept = self._texts.kept()
        for seat in kept:
            self._evict(seat)
        return bool(kept)

    @property
    def n_cells_used(self) -> int:
        """Cells that hold anything, without those that were written in lent seats."""
        return self._cells.n_used()

    @property
    def n_cells_kept(self) -> int:
        """Those of them that only kept texts hold: they can be given up."""
        return self._cells.n_used() - self._cells.n_used_by(set(self._texts.live()))

    def _has_room(self, n_cells: int) -> bool:
        """Make room, but give up nothing where all would not suffice."""
        return self._can_have_room(n_cells) and self.make_room(n_cells)

    def _can_have_room(self, n_cells: int) -> bool:
        """Whether so many cells are free, or would be without the kept texts."""
        n_missing = self._n_missing(n_cells)
        return n_missing <= 0 or n_missing <= self.n_cells_kept

    def _n_missing(self, n_cells: int) -> int:
        return n_cells - (self._runner.n_cells - self.n_cells_used)

    def _worth(self, seat: int) -> float:
        return self._texts.worth(seat, self._now)

    def _worth_of_a_token(self, seat: int) -> float:
        return self._worth(seat) / max(1, self._texts.n_lost(seat))

    # ------------------------------------------------------------------ who comes

    def _look(self, domain: str, key: bytes) -> Match:
        n_most = len(key) // TOKEN_BYTES - 1
        here = self._texts.resident(domain, key, n_most)
        match = Match(here.n_ready, here.n_coming, here.source, self._n_live(here))
        # What cannot be cut must leave a token to be read; what can be cut may be longer than needed.
        wanted = key if self._runner.is_sliceable else key[:-TOKEN_BYTES]
        n_least = here.n_ready + self._least_gain
        saved = self._vault.find(domain, wanted, n_least=n_least, least_share=self._least_share)
        n_saved = 0 if saved is None else min(saved.n_common, n_most)
        if n_saved < n_least:
            return match
        return replace(match, saved=saved, n_saved=n_saved, n_coming=here.n_coming if here.n_coming > n_saved else 0)

    def _n_live(self, here: Resident) -> int:
        is_shared = self._runner.is_sliceable and here.source is not None and self._texts.tenants[here.source].is_live
        return here.n_ready if is_shared else 0

    def _place(self, domain: str, key: bytes) -> Seating | None:
        """A seat that holds what is known of the prompt's beginning, and nothing else."""
        match = self._look(domain, key)
        if match.saved is not None:
            if self._can_have_room(match.saved.n_tokens):
                return self._restored(domain, key, match.saved, match.n_saved)
            match = match.without_saved()  # without reading it from the disk in vain
        if match.source is not None and self._texts.can_take_over(match.source, match.n_resident):
            return self._taken_over(match.source, match.n_resident)
        seat = self._empty_seat(match.source)
        if seat is None:
            return None
        if seat == match.source:
            return self._taken_over(seat, match.n_resident)
        return self._shared(seat, Resident(match.n_resident, 0, match.source))

    def _restored(self, domain: str, key: bytes, saved: Saved, n_tokens: int) -> Seating | None:
        """A seat with the saved state; with what is resident, if the state is not there after all."""
        seat = self._empty_seat(None)
        if seat is None:
            return None
        if self._is_restored(seat, saved, n_tokens):
            return Seating(seat, n_tokens)
        return self._shared(seat, self._texts.resident(domain, key, len(key) // TOKEN_BYTES - 1))

    def _empty_seat(self, source: int | None) -> int | None:
        """A seat that is empty now; or the source itself, where nothing kept is worth less."""
        kept = () if self._free else self._texts.kept()
        if kept:
            seat = min(kept, key=self._worth)
            if seat == source:
                return seat
            self._evict(seat)
        return self._free.pop() if self._free else None

    def _taken_over(self, seat: int, n_tokens: int) -> Seating:
        """The kept seat itself, without what it has beyond."""
        self._save_worthwhile(seat, n_tokens)
        self._cut(seat, n_tokens)
        return Seating(seat, n_tokens)

    def _shared(self, seat: int, here: Resident) -> Seating:
        if here.source is None or not self._runner.is_sliceable:
            return Seating(seat, 0)
        self._runner.share(here.source, seat, 0, here.n_ready)
        self._cells.share(here.source, seat, here.n_ready)
        self._texts.tenants[here.source].used_at = self._now + 1
        return Seating(seat, here.n_ready, self._n_live(here))

    def _is_restored(self, seat: int, saved: Saved, n_tokens: int) -> bool:
        if not self._has_room(saved.n_tokens):
            return False
        state = self._vault.load(saved)
        if state is None or not self._runner.restore(seat, state):
            return False
        self._cells.write(seat, saved.n_tokens)
        self._cut(seat, n_tokens)
        self.counts["restored_states"] += 1
        self.counts["restored_tokens"] += n_tokens
        return True

    # ------------------------------------------------------------------ who goes

    def _keep(self, seat: int, key: bytes, used_at: int) -> None:
        """The seat keeps this text, unless another kept one makes it superfluous, and those go that it covers."""
        n_tokens = len(key) // TOKEN_BYTES
        self._settle(seat, Tenant(self._texts.tenants[seat].domain, key, n_tokens, False, used_at))
        self._cells.write(seat, n_tokens)
        covering = self._texts.covering(seat)
        for other in covering:
            self._texts.tenants[other].used_at = max(used_at, self._texts.tenants[other].used_at)
        for superfluous in [seat] if covering else self._texts.covered(seat):
            self.drop(superfluous)

    def _limit_kept(self) -> None:
        """Give up the least worth of the kept texts until they hold no more than they may."""
        while self.n_cells_kept > self._max_kept:
            self._shrink(min(self._texts.kept(), key=self._worth_of_a_token))

    def _shrink(self, seat: int) -> None:
        """Give up what the seat has beyond its hot beginning, or all of it where that is not worth a seat."""
        tenant, n_hot = self._texts.tenants[seat], self._texts.n_hot(seat)
        if not max(self._min_saved - 1, self._texts.n_elsewhere(seat)) < n_hot < tenant.n_tokens:
            self._evict(seat)
            return
        self._cut(seat, n_hot)
        self._keep(seat, tenant.key[: n_hot * TOKEN_BYTES], tenant.used_at)
        self.counts["trimmed"] += 1

    def _evict(self, seat: int) -> None:
        self._save_worthwhile(seat)
        self.drop(seat)
        self.counts["evicted"] += 1

    def _save_worthwhile(self, seat: int, n_staying: int = 0) -> None:
        """Save the seat's hot beginning, or all of its text where none is hot yet, unless others have it; what the
        seat has beyond is gone then. Copying a state takes a hundredth of the time of reading its text.

        Args:
            n_staying: so much stays in the seat and need not be saved.
        """
        tenant, n_hot = self._texts.tenants[seat], self._texts.n_hot(seat)
        n_saved = n_hot if n_hot >= self._min_saved else tenant.n_ready
        n_gained = n_saved - max(n_staying, self._texts.n_elsewhere(seat))
        if n_saved < self._min_saved or n_gained < self._least_gain or self._vault.is_off:
            return
        key = tenant.key[: n_saved * TOKEN_BYTES]
        n_enough = n_saved - self._least_gain + 1
        if self._vault.find(tenant.domain, key, n_least=n_enough, least_share=self._least_share) is not None:
            return
        self._cut(seat, n_saved)
        if self._vault.put(tenant.domain, key, self._runner.save(seat)):
            self.counts["saved_states"] += 1
            self.counts["saved_tokens"] += n_saved

    def _cut(self, seat: int, n_tokens: int) -> None:
        if n_tokens < self._cells.n_held(seat):
            self._runner.cut(seat, n_tokens)
            self._cells.write(seat, n_tokens)

    def _settle(self, seat: int, tenant: Tenant, n_uses: int = 0) -> None:
        self._texts.settle(seat, tenant, n_uses)
        self._version += 1

    def _vacate(self, seat: int) -> None:
        self._runner.cut(seat, 0)
        self._cells.clear(seat)
        self._free.append(seat)
        self._version += 1
