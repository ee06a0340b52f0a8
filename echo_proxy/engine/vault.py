"""Which states that left the model are still to be had? In memory first, on disk what does not fit there.

Used by the engine's thread alone. Memory and disk have a budget in bytes each; what is worth least per byte leaves
first: from memory to disk, from disk for good. A *pinned* state stays until it is unpinned.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from echo_proxy.engine.radix import Radix
from echo_proxy.engine.vault_entry import Entry, Saved
from echo_proxy.engine.vault_files import Files, digest, name_of


class Vault:
    """States by domain and text. No failure of the disk is raised: what cannot be read is not there."""

    def __init__(self, ram_bytes: int, disk_bytes: int, folder: Path | None, fingerprint: str) -> None:
        """
        Args:
            ram_bytes: for states and their tokens; a few that wait to be written come on top.
            disk_bytes: for whole files.
            folder: of this model, made where it is not there; None = nothing goes to disk.
            fingerprint: differs when the states of another process could not be restored into this one.
        """
        self._ram_bytes, self._disk_bytes = ram_bytes, disk_bytes
        self._files = Files(folder, fingerprint) if folder is not None and disk_bytes > 0 else None
        self._entries: dict[str, Entry] = {}
        self._trees: dict[bytes, Radix] = {}
        self._by_number: dict[int, Entry] = {}
        self._now = self._n_numbers = 0
        self.n_ram_bytes = 0
        """In memory now, at most `ram_bytes`."""
        self.n_disk_bytes = 0
        """On disk, or on the way there, at most `disk_bytes`."""
        self.counts: Counter[str] = Counter()
        """Sums since the start: `stored`, `refused`, `loaded`, `read` (those from disk), `broken`, `forgotten`."""
        self._find_files()

    @property
    def is_off(self) -> bool:
        """Whether it can hold nothing at all."""
        return self._ram_bytes <= 0 and not self._can_write

    @property
    def n_states(self) -> int:
        """How many there are."""
        return len(self._entries)

    def find(self, domain: str, key: bytes, *, n_least: int = 1, least_share: float = 1.0) -> Saved | None:
        """The saved state that has most of the beginning of a text; nothing is read from disk for it.

        Args:
            key: the packed tokens.
            n_least: tokens that it must have in common with the text.
            least_share: the part of its own text that these must be; 1 = only states of a whole beginning.
        """
        tree = self._trees.get(digest(domain.encode()))
        if tree is None:
            return None
        last, n_known = tree.find(key)
        for node in last.upwards():
            n_common = min(n_known, node.end)
            if n_common < n_least:
                return None
            entry = min((self._by_number[number] for number in node.holders), key=lambda one: one.n_tokens)
            if n_common >= least_share * entry.n_tokens:
                return Saved(entry.name, entry.n_tokens, n_common)
        return None

    def load(self, saved: Saved) -> bytes | None:
        """Its state; None = it is not there any more."""
        self._hear()
        entry = self._entries.get(saved.name)
        if entry is None:
            return None
        state = entry.state if entry.state is not None else self._read(entry)
        if state is not None:
            self._use(entry)
            self.counts["loaded"] += 1
        return state

    def put(self, domain: str, key: bytes, state: bytes, *, is_pinned: bool = False) -> bool:
        """Save the state of the packed tokens `key`; False = there is no room, or only pinned ones would have to go."""
        self._hear()
        hashed = digest(domain.encode())
        entry = self._entries.get(name_of(hashed, key))
        if entry is None:
            entry = self._admitted(Entry(self._n_numbers, hashed, key, len(state), self._now, state))
            self.counts["refused" if entry is None else "stored"] += 1
            if entry is None:
                return False
            entry.is_passing = is_pinned
        entry.is_passing &= is_pinned
        entry.n_pins += is_pinned
        self._use(entry, 0)
        return True

    def unpin(self, domain: str, key: bytes) -> None:
        """Take back one pin; what nobody pins may leave."""
        entry = self._entries.get(name_of(digest(domain.encode()), key))
        if entry is not None and entry.n_pins > 0:
            entry.n_pins -= 1

    def drain(self) -> None:
        """Return when all that is on the way to disk is there."""
        if self._files is not None:
            self._files.drain()
        self._hear()

    def close(self) -> None:
        """Write to disk what has room there, the best first, and end the thread that writes."""
        if self._files is None:
            return
        self.drain()
        for entry in sorted(self._entries.values(), key=self._worth, reverse=True):
            if entry.is_in_ram and not entry.is_on_disk and not entry.is_passing:
                self._leave_ram(entry)
                self.drain()  # one after the other: the queue is short
        self._files.close()

    # ------------------------------------------------------------------ room

    def _admitted(self, entry: Entry) -> Entry | None:
        if entry.n_state == 0 or not entry.key:
            return None
        if self._has_ram(entry.n_ram_bytes):
            self.n_ram_bytes += entry.n_ram_bytes
        elif not self._is_sent_to_disk(entry):
            return None
        self._add(entry)
        return entry

    def _has_ram(self, n_bytes: int) -> bool:
        """Whether so many bytes are free in memory now; others leave for it."""
        leaving = [one for one in self._entries.values() if one.is_in_ram and (one.is_on_disk or not one.n_pins)]
        n_missing = n_bytes - (self._ram_bytes - self.n_ram_bytes)
        for entry in self._least(leaving, n_missing, lambda one: one.n_ram_bytes) or ():
            self._leave_ram(entry)
        return self.n_ram_bytes + n_bytes <= self._ram_bytes

    def _has_disk(self, n_bytes: int) -> bool:
        """Whether so many bytes are free on disk now; others leave for it."""
        leaving = [
            one for one in self._entries.values()
            if one.is_on_disk and not one.is_queued and (one.is_in_ram or not one.n_pins)
        ]  # fmt: skip
        n_missing = n_bytes - (self._disk_bytes - self.n_disk_bytes)
        for entry in self._least(leaving, n_missing, lambda one: one.n_disk_bytes) or ():
            self._leave_disk(entry)
        return self.n_disk_bytes + n_bytes <= self._disk_bytes

    def _least(self, entries: list[Entry], n_bytes: int, size: Callable[[Entry], int]) -> list[Entry]:
        """Those worth least that have so many bytes together; none where all together have less."""
        if sum(map(size, entries)) < n_bytes:
            return []
        leaving = []
        for entry in sorted(entries, key=self._worth):
            if n_bytes <= 0:
                break
            leaving.append(entry)
            n_bytes -= size(entry)
        return leaving

    def _leave_ram(self, entry: Entry) -> None:
        if entry.is_on_disk:
            entry.state = None
        elif entry.is_passing or not self._is_sent_to_disk(entry):
            self._forget(entry)  # which takes its bytes off too
            return
        self.n_ram_bytes -= entry.n_ram_bytes

    def _leave_disk(self, entry: Entry) -> None:
        assert self._files is not None
        if not entry.is_in_ram:
            self._forget(entry)
            return
        self._files.remove(entry.domain, entry.key)
        entry.is_on_disk = False
        self.n_disk_bytes -= entry.n_disk_bytes

    def _is_sent_to_disk(self, entry: Entry) -> bool:
        """Have the entry written; its state is beside the budget of the memory until then."""
        if self._files is None or not self._can_write or not self._has_disk(entry.n_disk_bytes):
            return False
        if entry.state is None or not self._files.write(entry.domain, entry.key, entry.state):
            return False
        entry.is_on_disk = entry.is_queued = True
        self.n_disk_bytes += entry.n_disk_bytes
        return True

    # ------------------------------------------------------------------ entries

    @property
    def _can_write(self) -> bool:
        return self._files is not None and not self._files.is_off

    def _worth(self, entry: Entry) -> float:
        return entry.worth(self._now)

    def _use(self, entry: Entry, n_uses: int = 1) -> None:
        self._now += 1
        entry.used_at = self._now
        entry.n_uses += n_uses

    def _add(self, entry: Entry) -> None:
        self._n_numbers += 1
        self._entries[entry.name] = self._by_number[entry.number] = entry
        self._trees.setdefault(entry.domain, Radix()).hold(entry.number, entry.key)

    def _forget(self, entry: Entry) -> None:
        """It is nowhere any more."""
        self.counts["forgotten"] += 1
        self.n_ram_bytes -= entry.n_ram_bytes if entry.is_in_ram else 0
        if entry.is_on_disk and self._files is not None:
            self._files.remove(entry.domain, entry.key)
            self.n_disk_bytes -= entry.n_disk_bytes
        del self._entries[entry.name], self._by_number[entry.number]
        tree = self._trees[entry.domain]
        tree.leave(entry.number)
        if not tree.leaves:
            del self._trees[entry.domain]

    def _read(self, entry: Entry) -> bytes | None:
        """From disk; into memory too, where that is free."""
        state = self._files.read(entry.domain, entry.key) if self._files is not None else None
        if state is None:
            self.counts["broken"] += 1
            self._forget(entry)
            return None
        self.counts["read"] += 1
        if self.n_ram_bytes + entry.n_ram_bytes <= self._ram_bytes:
            entry.state = state
            self.n_ram_bytes += entry.n_ram_bytes
        return state

    def _hear(self) -> None:
        """What was written since, and what could not be."""
        for name, is_there in self._files.written() if self._files is not None else ():
            entry = self._entries[name]
            entry.is_queued = False
            if is_there:
                entry.state = None
                continue
            entry.is_on_disk, entry.state = False, None
            self.n_disk_bytes -= entry.n_disk_bytes
            self._forget(entry)

    def _find_files(self) -> None:
        for found in self._files.index() if self._files is not None else ():
            self._now += 1
            entry = Entry(self._n_numbers, found.domain, found.key, found.n_state, self._now, is_on_disk=True)
            self.n_disk_bytes += entry.n_disk_bytes
            self._add(entry)
        for entry in sorted(self._entries.values(), key=self._worth):
            if self.n_disk_bytes > self._disk_bytes:
                self._forget(entry)
