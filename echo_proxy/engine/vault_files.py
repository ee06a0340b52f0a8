"""How do states survive on disk? One file each, written by a thread of its own; nothing that goes wrong is raised.

Layout of a file: a header (see `_HEADER`), the packed tokens, the state. Files lie in a *slot*, a folder within the
model's folder that one process holds by a lock as long as it lives; another process of the same model takes the next
slot, and after a restart a process finds the slots again in the same order. A file appears whole, by renaming. The
files of a slot are read only by whoever holds its lock, so foreign and broken ones are removed.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import stat
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from echo_proxy.engine.radix import TOKEN_BYTES

log = logging.getLogger("echo_proxy")

_MAGIC: Final = b"echostt1"
_HEADER: Final = struct.Struct("<8s32s32sIQ32s32s")
"""Magic, digests of fingerprint and domain, number of tokens, bytes of state, digests of the state and of everything
before it, the tokens included."""
_MAX_SLOTS: Final = 16
_MAX_QUEUED: Final = 4
"""States that wait to be written; more would be memory that no budget counts."""
_SUFFIX: Final = ".state"


@dataclass(frozen=True, slots=True)
class Found:
    """A file that was there at the start."""

    name: str
    domain: bytes
    """Its digest."""
    key: bytes
    """The packed tokens."""
    n_state: int
    """Bytes of the state."""


def digest(text: bytes) -> bytes:
    """32 bytes that stand for these."""
    return hashlib.blake2b(text, digest_size=32).digest()


def n_file_bytes(key: bytes, n_state: int) -> int:
    """Size of a file with this text and so many bytes of state."""
    return _HEADER.size + len(key) + n_state


def name_of(domain: bytes, key: bytes) -> str:
    """The file of this text."""
    return hashlib.blake2b(domain + key, digest_size=20).hexdigest() + _SUFFIX


class Files:
    """The files of one slot."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._fingerprint = digest(fingerprint.encode())
        self._lock: int | None = None
        self._slot = folder
        self._todo: deque[Callable[[], None]] = deque()
        """Writes and removals, in order: a file is removed before the next may use its bytes."""
        self._has_work = threading.Condition()
        self._n_queued = 0
        self._is_busy = self._is_closing = False
        self._written: deque[tuple[str, bool]] = deque()
        self._thread: threading.Thread | None = None
        self.is_off = False
        """Whether no more files are written: the folder cannot be used, or the disk is full."""
        try:
            self._take_slot(folder)
        except OSError as error:
            self._turn_off(f"{folder} cannot be used: {error}")

    # ------------------------------------------------------------------ used by the engine's thread

    def index(self) -> list[Found]:
        """The files that can be read, the one that was written first at first; all others are removed."""
        found: list[tuple[int, Found]] = []
        for path in self._paths():
            with contextlib.suppress(OSError):
                one = self._indexed(path)
                if one is None:
                    path.unlink()
                else:
                    found.append((path.stat().st_mtime_ns, one))
        return [one for _, one in sorted(found, key=lambda pair: pair[0])]

    def write(self, domain: bytes, key: bytes, state: bytes) -> bool:
        """Write the file soon; False = too much waits to be written, or files are off."""
        if self.is_off or self._n_queued >= _MAX_QUEUED:
            return False
        with self._has_work:
            self._n_queued += 1
        self._do(lambda: self._write(domain, key, state))
        return True

    def remove(self, domain: bytes, key: bytes) -> None:
        """Remove the file soon; it may not be there."""
        path = self._slot / name_of(domain, key)
        self._do(lambda: _unlink(path))

    def read(self, domain: bytes, key: bytes) -> bytes | None:
        """The state, None = the file is broken or gone."""
        try:
            raw = (self._slot / name_of(domain, key)).read_bytes()
        except OSError:
            return None
        start = _HEADER.size + len(key)
        head = self._head(raw[:start], len(raw))
        state = raw[start:]
        if head is None or (head.found.domain, head.found.key) != (domain, key) or digest(state) != head.state_digest:
            return None
        return state

    def written(self) -> Iterator[tuple[str, bool]]:
        """Names of the writes that ended since this was asked last, and whether the file is there."""
        while self._written:
            yield self._written.popleft()

    def drain(self) -> None:
        """Return when nothing waits to be written or removed."""
        with self._has_work:
            self._has_work.wait_for(lambda: not self._todo and not self._is_busy)

    def close(self) -> None:
        """Finish what waits to be written, and give the slot free."""
        with self._has_work:
            self._is_closing = True
            self._has_work.notify_all()
        if self._thread is not None:
            self._thread.join()
        self.is_off = True
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # ------------------------------------------------------------------ the slot

    def _take_slot(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(_MAX_SLOTS):
            slot = folder / f"slot-{number}"
            slot.mkdir(mode=0o700, exist_ok=True)
            seen = slot.lstat()
            if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid():
                raise PermissionError(f"expected {slot} to be a folder of this user")
            slot.chmod(0o700)
            if (lock := _locked(slot / "lock")) is not None:
                self._slot, self._lock = slot, lock
                return
        raise BlockingIOError(f"{_MAX_SLOTS} other processes use it")

    def _paths(self) -> list[Path]:
        if self._lock is None:
            return []
        try:
            return [path for path in self._slot.iterdir() if path.name != "lock"]
        except OSError:
            return []

    def _indexed(self, path: Path) -> Found | None:
        with path.open("rb") as file:
            raw = file.read(_HEADER.size)
            n_tokens = _HEADER.unpack(raw)[3] if len(raw) == _HEADER.size else 0
            n_bytes = os.fstat(file.fileno()).st_size
            if n_bytes < _HEADER.size + n_tokens * TOKEN_BYTES:
                return None
            head = self._head(raw + file.read(n_tokens * TOKEN_BYTES), n_bytes)
        return None if head is None or head.found.name != path.name else head.found

    def _head(self, raw: bytes, n_bytes: int) -> "_Head | None":
        """What the bytes before the state say; None = they are broken, or of another model."""
        if len(raw) < _HEADER.size:
            return None
        magic, fingerprint, domain, n_tokens, n_state, state_digest, head_digest = _HEADER.unpack_from(raw)
        key = raw[_HEADER.size :]
        is_sound = (
            magic == _MAGIC
            and fingerprint == self._fingerprint
            and len(key) == n_tokens * TOKEN_BYTES > 0
            and n_state > 0
            and n_bytes == n_file_bytes(key, n_state)
            and head_digest == digest(raw[: _HEADER.size - 32] + key)
        )
        return _Head(Found(name_of(domain, key), domain, key, n_state), state_digest) if is_sound else None

    # ------------------------------------------------------------------ the writing thread

    def _do(self, task: Callable[[], None]) -> None:
        if self._lock is None:
            return
        with self._has_work:
            self._todo.append(task)
            self._has_work.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="vault", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._has_work:
                self._has_work.wait_for(lambda: self._todo or self._is_closing)
                if not self._todo:
                    return
                task = self._todo.popleft()
                self._is_busy = True
            task()
            with self._has_work:
                self._is_busy = False
                self._has_work.notify_all()

    def _write(self, domain: bytes, key: bytes, state: bytes) -> None:
        name = name_of(domain, key)
        try:
            if not self.is_off:
                self._write_file(name, domain, key, state)
        except OSError as error:
            _unlink(self._slot / f"{name}.tmp")
            self._turn_off(f"{self._slot} cannot be written: {error}")
        self._written.append((name, not self.is_off))
        with self._has_work:
            self._n_queued -= 1

    def _write_file(self, name: str, domain: bytes, key: bytes, state: bytes) -> None:
        packed = _HEADER.pack(
            _MAGIC, self._fingerprint, domain, len(key) // TOKEN_BYTES, len(state), digest(state), b""
        )
        head = packed[:-32] + digest(packed[:-32] + key)
        path = self._slot / f"{name}.tmp"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(head + key)
            file.write(state)
        path.rename(self._slot / name)

    def _turn_off(self, reason: str) -> None:
        if not self.is_off:
            self.is_off = True
            log.warning("states of prefixes are no longer written to disk: %s", reason)


@dataclass(frozen=True, slots=True)
class _Head:
    found: Found
    state_digest: bytes


def _locked(path: Path) -> int | None:
    """The descriptor of the lock file, which holds the lock until it is closed; None = another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()
