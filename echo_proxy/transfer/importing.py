"""How do the examples of a file get into a store?

Line by line and in batches, so that memory stays flat whatever the file's size. Every batch that is kept leaves a note
in the store of how far the import is.
"""

import asyncio
import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress, TaskID

from echo_proxy.errors import EchoProxyError, EmbedderError, InputError
from echo_proxy.policy import Policy
from echo_proxy.protocols import Clock, Embedder, Store
from echo_proxy.transfer.claims import Claims, Draft
from echo_proxy.transfer.drafts import Drafter
from echo_proxy.transfer.foreign import Defaults, Unfit
from echo_proxy.transfer.lines import Line, LineReader, batches
from echo_proxy.transfer.parse import BadLine, header_of
from echo_proxy.transfer.progress import bar
from echo_proxy.transfer.rejects import Rejects
from echo_proxy.transfer.rows import Header
from echo_proxy.types import Example

_BATCH = 500
"""Lines that are read, and examples that are written, at once: about 2 MB of 384 dimensions."""
_BATCH_BYTES = 8 * 2**20
"""Long lines make smaller batches."""
_ASKED = 50
"""Ids that the store is asked for at once: each may take a connection of its own."""
_EMBED = 32
"""Texts that are embedded at once."""
_N_CHECKED = 8
"""Vectors of a file that are compared with what the embedder makes of their texts."""
_MAX_DISTANCE = 0.05
"""How far these may lie apart. float16 moves a vector by less than 0.000001; the nearest other questions of nl2bash
lie at about 0.1. guess, not yet measured for other models"""


@dataclass(frozen=True, slots=True)
class ImportCommand:
    """What the command line asks for."""

    source: str
    """File, or - for standard input; `.gz` is decompressed."""
    claims: Claims = field(default_factory=Claims)
    defaults: Defaults = field(default_factory=Defaults)
    """For rows that did not come from Echo."""
    skip_bad: Path | None = None
    """Lines that cannot be understood are written here; None = the first one ends the import."""
    is_resumed: bool = False
    replaces: bool = False
    """Examples that the store holds already are replaced; else they stay as they are."""
    reembeds: bool = False
    """Vectors of the file are not used."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What one run did."""

    n_kept: int = 0
    n_there: int = 0
    """Left out, because the store has them."""
    n_embedded: int = 0
    """Of those kept; the others brought their vectors."""
    n_bad: int = 0
    """Lines that could not be understood."""
    unfit: Mapping[str, int] = field(default_factory=dict)
    """Left out by the policy, by reason."""
    found: Mapping[str, int] = field(default_factory=dict)
    """Secrets and personal data that were found, by kind."""
    reasons: tuple[str, ...] = ()
    """What was wrong with the first bad lines."""
    resumed_at: int = 0
    """Line behind which this run began; 0 = at the beginning."""
    seconds: float = 0.0


async def import_examples(
    command: ImportCommand,
    policy: Policy,
    store: Store,
    embedder: Embedder,
    clock: Clock,
    console: Console | None = None,
) -> Imported:
    """Keep the file's examples; returns what was done.

    Raises InputError at the first line that cannot be understood, StoreError, EmbedderError: what came before is kept,
    the message says how much, and the same command with `--resume` goes on from there.
    """
    started = time.monotonic()
    with LineReader(command.source) as reader, Rejects(command.skip_bad, command.is_resumed) as rejects:
        work = _Import(command, policy, store, embedder, clock, reader, rejects)
        console = console or Console(stderr=True)
        try:
            with bar(console, of_bytes=True) as progress:
                await work.run(progress)
        except BadLine:
            raise
        except asyncio.CancelledError:  # Ctrl-C
            console.print(f"interrupted: {work.so_far}", highlight=False)
            raise
        except EchoProxyError as error:
            raise type(error)(f"{error}; {work.so_far}") from error
    return replace(work.tally, reasons=tuple(rejects.reasons), seconds=time.monotonic() - started)


class _Import:
    """One file on its way into one store."""

    def __init__(
        self,
        command: ImportCommand,
        policy: Policy,
        store: Store,
        embedder: Embedder,
        clock: Clock,
        reader: LineReader,
        rejects: Rejects,
    ) -> None:
        self.tally = Imported()
        self._command = command
        self._policy = policy
        self._store = store
        self._embedder = embedder
        self._clock = clock
        self._reader = reader
        self._rejects = rejects
        self._header: Header | None = None
        self._note = ""
        self._was_empty = False
        self._n_to_check = _N_CHECKED

    @property
    def so_far(self) -> str:
        """What an import that has ended early has done, and what may be done now."""
        resume = "" if self._reader.n_total is None else " with --resume"
        return f"imported {self.tally.n_kept:,}; run again{resume}"

    async def run(self, progress: Progress) -> None:
        """From the header, or where the last run ended, to the end."""
        task = progress.add_task("importing", total=self._reader.n_total, n=0)
        await self._begin()
        self._was_empty = (await self._store.status()).n_examples == 0
        drafter = Drafter(
            self._reader.name,
            self._header,
            self._command.claims,
            self._command.defaults,
            self._policy,
            self._embedder,
            self._clock,
            self._command.reembeds,
        )
        for batch in batches(self._reader, _BATCH, _BATCH_BYTES):
            await self._take(batch, drafter, progress, task)
        if self._note:
            await self._store.put_note(self._note, "")

    # ------------------------------------------------------------------ where to begin

    async def _begin(self) -> None:
        """Read the header, when there is one, and skip what an interrupted run has kept."""
        first = self._reader.read()
        if first is None:
            raise InputError(f"{self._reader.name}: expected a header or an example, got an empty file")
        self._header = header_of(first, self._reader.name)
        if self._header is None:
            self._reader.unread(first)
        if self._reader.n_total is not None:
            self._note = _note_name(first, self._command)
        if self._command.is_resumed:
            await self._skip()
        self._rejects.begin(first if self._header else None)

    async def _skip(self) -> None:
        if not self._note:
            raise InputError("--resume: expected a file, got standard input, which cannot be read again")
        text = await self._store.note(self._note)
        if not text:
            return
        found = json.loads(text)
        if not self._reader.skip(int(found["n_bytes"]), str(found["digest"])):
            raise InputError(
                f"{self._reader.name}: expected the file of which {found['line']:,} lines were imported, got one that "
                "has changed before that; run again without --resume"
            )
        self.tally = replace(self.tally, resumed_at=self._reader.number)

    # ------------------------------------------------------------------ a batch

    async def _take(self, lines: Sequence[Line], drafter: Drafter, progress: Progress, task: TaskID) -> None:
        """Keep what is good of these lines. Raises BadLine once everything before the bad line is kept."""
        drafts: dict[str, Draft] = {}
        bad: BadLine | None = None
        line = lines[0]
        for line in lines:
            try:
                draft = drafter.draft(line)
                drafts[draft.example.id] = draft
            except Unfit as error:
                self._count(str(error))
            except BadLine as error:
                if not self._rejects.is_wanted:
                    bad = error
                    break
                self._rejects.add(line, error)
                self.tally = replace(self.tally, n_bad=self.tally.n_bad + 1)
        await self._keep(list(drafts.values()), progress, task)
        if bad is not None:
            raise BadLine(f"{bad}; imported {self.tally.n_kept:,}; fix line {line.number:,} and run again") from bad
        await self._remember()
        progress.update(task, completed=self._reader.n_done, n=self.tally.n_kept)

    async def _keep(self, drafts: Sequence[Draft], progress: Progress, task: TaskID) -> None:
        fresh = await self._fresh(drafts)
        await self._check_vectors(fresh)
        examples = [one.example for one in fresh if not one.needs_vector]
        missing = [one for one in fresh if one.needs_vector]
        for part in _parts(missing, _EMBED):
            examples += await self._embedded(part)
            progress.update(task, n=self.tally.n_kept + len(examples))
        if examples:
            await self._store.add_many(examples)
        found = Counter(self.tally.found)
        for one in fresh:
            found.update(one.n_found)
        self.tally = replace(
            self.tally,
            n_kept=self.tally.n_kept + len(examples),
            n_there=self.tally.n_there + len(drafts) - len(fresh),
            n_embedded=self.tally.n_embedded + len(missing),
            found=found,
        )

    async def _fresh(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Those that the store does not hold; a store that was empty is not asked."""
        if self._was_empty or self._command.replaces:
            return list(drafts)
        fresh: list[Draft] = []
        for part in _parts(drafts, _ASKED):
            stored = await asyncio.gather(*(self._store.get(one.example.id) for one in part))
            fresh += [one for one, there in zip(part, stored, strict=True) if there is None]
        return fresh

    async def _check_vectors(self, drafts: Sequence[Draft]) -> None:
        """A model's name does not prove that the vectors are its own: the first ones are made again."""
        checked = [one for one in drafts if not one.needs_vector and one.example.n_turns == 1][: self._n_to_check]
        if not checked:
            return
        self._n_to_check -= len(checked)
        rows = await self._embedder.embed([one.text for one in checked])
        for one, row in zip(checked, rows, strict=True):
            distance = float(1 - np.dot(one.example.vector, row))
            if distance > _MAX_DISTANCE:
                raise InputError(
                    f"{self._reader.name}: vector of {one.example.id}: expected at most {_MAX_DISTANCE:g} from what "
                    f"{self._embedder.model} makes of its request, got {distance:.3f}; --reembed makes all anew"
                )

    async def _embedded(self, drafts: Sequence[Draft]) -> list[Example]:
        try:
            rows = await self._embedder.embed([one.text for one in drafts])
        except ValueError as error:  # a text that no embedder takes
            raise EmbedderError(f"expected texts that can be embedded, got: {error}") from error
        return [replace(one.example, vector=row) for one, row in zip(drafts, rows, strict=True)]

    async def _remember(self) -> None:
        """Note how far it is, so that `--resume` begins there."""
        if self._note:
            state = {"n_bytes": self._reader.n_read, "line": self._reader.number, "digest": self._reader.digest}
            await self._store.put_note(self._note, json.dumps(state))

    def _count(self, reason: str) -> None:
        self.tally = replace(self.tally, unfit=Counter(self.tally.unfit) + Counter({reason: 1}))


def _note_name(first: Line, command: ImportCommand) -> str:
    """The same for the same first line and the same claims about the file."""
    said = first.content + repr((command.claims, command.defaults)).encode()
    return f"import:{hashlib.sha256(said).hexdigest()[:16]}"


def _parts(drafts: Sequence[Draft], size: int) -> Iterator[Sequence[Draft]]:
    return (drafts[i : i + size] for i in range(0, len(drafts), size))
