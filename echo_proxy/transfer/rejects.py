"""What becomes of lines that cannot be understood, when the import is to go on?"""

from pathlib import Path
from types import TracebackType
from typing import IO, Self

from echo_proxy.errors import InputError
from echo_proxy.transfer.lines import Line, private
from echo_proxy.transfer.parse import BadLine

_MAX_REASONS = 5
"""So many are told; the file has them all."""


class Rejects:
    """A file for rejected lines, with the header before them: once they are put right it can be imported itself."""

    def __init__(self, path: Path | None, is_resumed: bool) -> None:
        self.reasons: list[str] = []
        """Why the first ones were rejected."""
        self._path = path
        self._file: IO[bytes] | None = None
        try:
            if path is not None:
                self._file = open(path, "ab" if is_resumed else "wb", opener=private)  # noqa: SIM115 - closed in __exit__
        except OSError as error:
            raise InputError(f"{path}: expected a file that can be written, got: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def is_wanted(self) -> bool:
        """Whether there is a file for them."""
        return self._file is not None

    def begin(self, header: Line | None) -> None:
        """Write the header of the imported file, where it has one."""
        if self._file is not None and header is not None and not self._file.tell():
            self._file.write(header.content + b"\n")

    def add(self, line: Line, error: BadLine) -> None:
        """Write the line as it came."""
        if self._file is not None:
            self._file.write(line.content + b"\n")
        if len(self.reasons) < _MAX_REASONS:
            self.reasons.append(str(error))
