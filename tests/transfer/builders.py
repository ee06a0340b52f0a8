"""Stores and files for the tests of import and export."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from echo_proxy.transfer.claims import Claims
from echo_proxy.transfer.exporting import ExportCommand, Exported, export_examples
from echo_proxy.transfer.importing import ImportCommand, Imported, import_examples
from echo_proxy.transfer.rows import Header, row_of
from echo_proxy.types import Example, Observation, Replayed
from tests.builders import NOW, policy
from tests.builders import example as plain
from tests.fakes import FrozenClock, HashingEmbedder, MemoryStore

EMBEDDER = HashingEmbedder()
HEADER: dict[str, Any] = Header(
    model="hashing", dimensions=64, vectors="float32", policy="test", exported_at=NOW, exported_by="a test"
).model_dump()


def example(example_id: str = "e1", request: str = "What is the capital of France?", **changes: Any) -> Example:
    """An example of the fake embedder's model."""
    return plain(example_id, request=request, vector=EMBEDDER.vector(request), **changes)


def full(example_id: str = "full") -> Example:
    """An example of which no field has its default."""
    return example(
        example_id,
        "Wie heißt die Hauptstadt?\n日本の首都は?",
        scope="team:red, blue",
        response='{"answer": "東京\\u2028\x1b[31m"}',
        quality=0.75,
        uses=3.5,
        gain=2.25,
        system="You answer in JSON.",
        wants_json=True,
        n_turns=1,
        answer_key="0" * 32,
        reader="a",
        person="c0de",
        confirmed_by=("b", "c"),
        origin="promoted",
        version=7,
        offloads=1.5,
        regret=0.125,
        counted_at=NOW - 5,
        history=(Replayed(NOW - 9, "large", 3, True, 0.75, "abc"),),
        observations=(Observation(0.25, True, NOW - 8), Observation(0.5, False, NOW - 7)),
    )


def line(one: Example, **changes: Any) -> dict[str, Any]:
    """The row of an example with its vector, some fields changed."""
    return {**row_of(one, "float32"), **changes}


def write(path: Path, *rows: Any) -> Path:
    """A file of JSON lines; texts are written as they are."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


async def filled(examples: Sequence[Example]) -> MemoryStore:
    """A store with these examples."""
    store = MemoryStore()
    await store.add_many(examples)
    return store


async def take(
    source: Path | str,
    store: MemoryStore,
    embedder: HashingEmbedder | None = None,
    now: float = NOW,
    rules: Any = None,
    **changes: Any,
) -> Imported:
    """Import a file, one of our own unless its claims are given."""
    command = replace(ImportCommand(str(source), claims=Claims(is_trusted=True)), **changes)
    console = Console(file=io.StringIO())
    return await import_examples(
        command, rules or policy(), store, embedder or HashingEmbedder(), FrozenClock(now), console
    )


async def give(store: MemoryStore, out: Path | str, console: Console | None = None, **changes: Any) -> Exported:
    """Export a store."""
    command = replace(ExportCommand(str(out)), **changes)
    return await export_examples(
        command, "test", store, EMBEDDER, FrozenClock(NOW), console or Console(file=io.StringIO())
    )
