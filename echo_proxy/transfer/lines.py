"""How is a long file read and written line by line, so that either can go on where it stopped?"""

import contextlib
import gzip
import hashlib
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from echo_proxy.errors import InputError

MAX_LINE_BYTES = 32 * 2**20
"""A longer line is refused before it fills the memory; two texts of 8,000,000 characters fit, mostly."""
_MOST_BLANK = 10_000
"""Blank lines in a row: a small .gz may hold milliards of them, which would be read for hours without a word."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PRIVATE = 0o600
"""Mode of what is written here: it holds all tenants' texts."""
STANDARD = "-"
"""Names standard input or output."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a file."""

    number: int
    """From 1."""
    content: bytes
    """Without its line break."""


class LineReader:
    """Reads lines of a file, plain or `.gz`; knows how far it is, and a digest of all that it has read."""

    def __init__(self, name: str) -> None:
        self.name = "standard input" if name == STANDARD else name
        self._is_standard = name == STANDARD
        self.n_read = 0
        """Bytes of plain text that were read."""
        self.number = 0
        """Lines that were read."""
        self._digest = hashlib.sha256()
        self._pushed: Line | None = None
        try:
            self._raw: IO[bytes] = sys.stdin.buffer if self._is_standard else open(name, "rb")  # noqa: SIM115 - closed in __exit__
        except OSError as error:
            raise InputError(f"{name}: expected a readable file, got: {error.strerror}") from error
        self._file: Any = gzip.GzipFile(fileobj=self._raw) if name.endswith(".gz") else self._raw

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_standard:
            self._raw.close()

    @property
    def n_total(self) -> int | None:
        """Bytes of the file as it lies on the disk; None for standard input."""
        return None if self._is_standard else os.fstat(self._raw.fileno()).st_size

    @property
    def n_done(self) -> int:
        """Bytes of it that were read."""
        return self.n_read if self._is_standard else self._raw.tell()

    @property
    def digest(self) -> str:
        """SHA-256 of all that was read, in hex."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[Line]:
        """Lines that are not blank, in order. Raises InputError on one that is too long, on many blank ones in a row,
        or a damaged .gz."""
        n_blank = 0
        while (line := self.read()) is not None:
            n_blank = 0 if line.content.strip() else n_blank + 1
            if n_blank > _MOST_BLANK:
                raise InputError(
                    f"{self.name}:{line.number}: expected an example, got {n_blank:,} blank lines in a row"
                )
            if not n_blank:
                yield line

    def read(self) -> Line | None:
        """The next line, None at the end. Raises InputError."""
        if self._pushed is not None:
            line, self._pushed = self._pushed, None
            return line
        try:
            raw: bytes = self._file.readline(MAX_LINE_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:  # gzip raises each of them on damaged files
            raise InputError(f"{self.name}:{self.number + 1}: expected a whole file, got: {error}") from error
        if not raw:
            return None
        self.number += 1
        if len(raw) > MAX_LINE_BYTES:
            raise InputError(f"{self.name}:{self.number}: expected a line of at most {MAX_LINE_BYTES:,} bytes")
        self.n_read += len(raw)
        self._digest.update(raw)
        content = raw.removeprefix(_BYTE_ORDER_MARK) if self.number == 1 else raw
        return Line(self.number, content.rstrip(b"\r\n"))

    def unread(self, line: Line) -> None:
        """The next `read` gives this one again."""
        self._pushed = line

    def skip(self, n_bytes: int, digest: str) -> bool:
        """Read on until n_bytes were read; whether what was read has that digest."""
        self._pushed = None
        while self.n_read < n_bytes:
            if self.read() is None:
                break
        return self.n_read == n_bytes and self.digest == digest


def batches(lines: Iterable[Line], most: int, most_bytes: int) -> Iterator[Sequence[Line]]:
    """Lines in groups that are small enough to be in memory together: a group ends with the line that makes it full."""
    batch, n_bytes = list[Line](), 0
    for line in lines:
        batch.append(line)
        n_bytes += len(line.content)
        if len(batch) == most or n_bytes >= most_bytes:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


class PartFile:
    """Writes a file under another name, and gives it its own once it is whole. `.gz` is written in members, one for
    each call, so that it can be cut off after any of them."""

    def __init__(self, path: Path, n_kept: int = 0) -> None:
        self.path = path
        self.part = part_of(path)
        try:
            self._file = open(self.part, "r+b" if n_kept else "wb", opener=private)  # noqa: SIM115 - `finish`, `close`
            os.fchmod(self._file.fileno(), PRIVATE)
            if n_kept:
                self._file.truncate(n_kept)
                self._file.seek(n_kept)
        except OSError as error:
            raise InputError(f"{self.part}: expected a file that can be written, got: {error.strerror}") from error

    def write(self, lines: bytes) -> int:
        """Bytes on the disk by now; what was written is safe there. Raises InputError when there is no room."""
        try:
            self._file.write(gzip.compress(lines, compresslevel=6, mtime=0) if self.path.suffix == ".gz" else lines)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise InputError(f"{self.part}: expected room for more, got: {error.strerror}; --resume goes on") from error
        return self._file.tell()

    def finish(self) -> None:
        """The file has its own name from now on."""
        self._file.close()  # all was flushed before
        os.replace(self.part, self.path)

    def close(self) -> None:
        """Leave the part as it is; idempotent."""
        with contextlib.suppress(OSError):  # what a full disk has refused is refused again
            self._file.close()


def private(path: str, flags: int) -> int:
    """Opens a file that nobody else may read: for `open`."""
    return os.open(path, flags, PRIVATE)


def part_of(path: Path) -> Path:
    """Name of a file that is not whole yet."""
    return path.with_name(path.name + ".part")
