"""How do the examples of a store get into a file?"""

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from echo_proxy import __version__
from echo_proxy.errors import InputError
from echo_proxy.protocols import Clock, Embedder, Store
from echo_proxy.transfer.lines import STANDARD, PartFile, part_of, private
from echo_proxy.transfer.progress import bar
from echo_proxy.transfer.rows import Header, row_of
from echo_proxy.transfer.vectors import VectorType
from echo_proxy.types import Example, Which

_STEERING = re.compile("[\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
"""C1 controls, marks of writing direction and other characters without a picture; JSON escapes C0 itself."""
_PAGE = 500
"""Examples in memory at once: about 2 MB of 384 dimensions."""


@dataclass(frozen=True, slots=True)
class ExportCommand:
    """What the command line asks for."""

    out: str = STANDARD
    """File, or - for standard output; `.gz` is compressed."""
    vectors: VectorType | None = None
    """None = without."""
    which: Which = field(default_factory=Which)
    is_resumed: bool = False
    """Go on with the part that an interrupted export has left."""
    overwrites: bool = False


@dataclass(frozen=True, slots=True)
class Exported:
    """What one run wrote."""

    n_examples: int
    """In the file, those of an earlier run that was resumed included."""
    n_resumed: int
    """Of them, those that stood in it before."""
    n_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _State:
    """How far an export is; beside its part."""

    cursor: str = ""
    n_bytes: int = 0
    n_examples: int = 0
    asked: str = ""
    """What was exported: another file must not be continued with it."""


async def export_examples(
    command: ExportCommand, policy: str, store: Store, embedder: Embedder, clock: Clock, console: Console | None = None
) -> Exported:
    """Write the examples page by page. Raises StoreError, and InputError when the file cannot be written.

    A file has its own name only once it is whole: before, it is `<name>.part`, with `<name>.part.json` beside it that
    says how far it is.
    """
    started = time.monotonic()
    console = console or Console(stderr=True)
    header = Header(
        model=embedder.model,
        dimensions=embedder.dimensions,
        vectors=command.vectors,
        policy=policy,
        exported_at=clock.now(),
        exported_by=f"echo-proxy {__version__}",
    )
    sink = _Standard() if command.out == STANDARD else _File(command, policy, header)
    n_resumed = sink.state.n_examples
    try:
        with bar(console, of_bytes=False) as progress:
            await _write(store, command, header, sink, progress)
        state = sink.finish()
    finally:
        sink.close()
    return Exported(state.n_examples, n_resumed, state.n_bytes, time.monotonic() - started)


class _Standard:
    """Standard output: no resuming."""

    def __init__(self) -> None:
        self.state = _State()

    def write(self, lines: bytes, cursor: str, n_examples: int) -> None:
        """As _File."""
        try:
            sys.stdout.buffer.write(lines)
            sys.stdout.buffer.flush()
        except BrokenPipeError as error:
            with contextlib.suppress(OSError, ValueError):  # what is left is not to be complained about at the end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise InputError("standard output: expected somebody who reads on, got none") from error
        except OSError as error:
            raise InputError(
                f"standard output: expected room for what is written, got: {error.strerror or error}"
            ) from error
        self.state = _State(cursor, self.state.n_bytes + len(lines), self.state.n_examples + n_examples)

    def finish(self) -> _State:
        """As _File."""
        return self.state

    def close(self) -> None:
        """As _File."""


class _File:
    """A file in the making."""

    def __init__(self, command: ExportCommand, policy: str, header: Header) -> None:
        path = Path(command.out)
        if path.exists() and not command.overwrites:
            raise InputError(f"{path}: expected a new file, got one that is there; --force overwrites it")
        self._note = part_of(path).with_name(part_of(path).name + ".json")
        asked = [policy, header.model, header.dimensions, command.vectors, str(command.which)]
        self._asked = json.dumps(asked)
        self.state = self._read() if command.is_resumed else _State(asked=self._asked)
        self._file = PartFile(path, self.state.n_bytes)

    def write(self, lines: bytes, cursor: str, n_examples: int) -> None:
        """Add lines; from now on a resumed run begins behind them."""
        n_bytes = self._file.write(lines)
        self.state = _State(cursor, n_bytes, self.state.n_examples + n_examples, self._asked)
        fresh = self._note.with_name(self._note.name + ".new")
        said = {"cursor": cursor, "n_bytes": n_bytes, "n": self.state.n_examples, "asked": self._asked}
        with open(fresh, "w", opener=private) as file:
            file.write(json.dumps(said))
        fresh.replace(self._note)

    def finish(self) -> _State:
        """Give the file its name."""
        self._file.finish()
        self._note.unlink(missing_ok=True)
        return self.state

    def close(self) -> None:
        """Leave what there is for the next run."""
        self._file.close()

    def _read(self) -> _State:
        try:
            found: dict[str, Any] = json.loads(self._note.read_text())
            state = _State(str(found["cursor"]), int(found["n_bytes"]), int(found["n"]), str(found["asked"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self._note}: expected what an interrupted export leaves, got: {error}") from error
        if state.asked != self._asked:
            raise InputError(f"{self._note}: expected the same policy, model and choice of examples, got {state.asked}")
        return state


async def _write(
    store: Store, command: ExportCommand, header: Header, sink: _Standard | _File, progress: Progress
) -> None:
    n_held = (await store.status()).n_examples
    task = progress.add_task("exporting", total=n_held or None, completed=sink.state.n_examples)
    lines = b"" if sink.state.n_bytes else _line(header.model_dump())
    cursor = sink.state.cursor
    while True:
        page = await store.find(command.which, cursor, _PAGE)
        lines += b"".join(_lines(page.examples, command.vectors))
        if lines:
            sink.write(lines, page.cursor, len(page.examples))
        lines, cursor = b"", page.cursor
        progress.update(task, completed=sink.state.n_examples)
        if not cursor:
            break
    progress.update(task, total=sink.state.n_examples)


def _lines(examples: Sequence[Example], vectors: VectorType | None) -> list[bytes]:
    return [_line(row_of(example, vectors)) for example in examples]


def _line(found: dict[str, Any]) -> bytes:
    """Human-readable: letters of all scripts as they are, but what could steer a terminal escaped, as JSON may. Half
    surrogate pairs, which UTF-8 cannot hold, become ?."""
    text = _STEERING.sub(lambda one: f"\\u{ord(one[0]):04x}", json.dumps(found, ensure_ascii=False))
    return (text + "\n").encode("utf-8", "replace")
