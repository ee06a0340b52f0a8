import asyncio
import gzip
import json
import sys
from collections.abc import Sequence
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from echo_proxy.errors import EmbedderError, InputError, StoreUnavailable
from echo_proxy.transfer import importing
from echo_proxy.transfer.claims import Claims
from echo_proxy.transfer.foreign import Defaults
from echo_proxy.transfer.importing import ImportCommand, import_examples
from echo_proxy.types import Example
from tests.builders import NOW, policy
from tests.fakes import FrozenClock, HashingEmbedder, MemoryStore
from tests.transfer.builders import HEADER, example, line, take, write


def rows(n: int) -> list[dict[str, Any]]:
    """So many examples of their own."""
    return [line(example(f"e{i}", f"question {i}")) for i in range(n)]


class Failing(MemoryStore):
    """Goes away after so many batches."""

    def __init__(self, n_batches: int) -> None:
        super().__init__()
        self.n_batches = n_batches
        self.batches: list[int] = []

    async def add_many(self, examples: Sequence[Example]) -> None:
        if len(self.batches) == self.n_batches:
            raise StoreUnavailable("the server is away")
        self.batches.append(len(examples))
        await super().add_many(examples)


async def test_vectors_of_the_same_model_are_used(tmp_path: Path) -> None:
    """Only a few are made again, to see that they belong to their texts; the file is read in batches."""
    embedder, store = HashingEmbedder(), Failing(99)
    done = await take(write(tmp_path / "f", HEADER, *rows(1100)), store, embedder)

    assert done.n_kept == 1100
    assert done.n_embedded == 0
    assert embedder.n_texts == 8
    assert store.batches == [500, 500, 100]


async def test_vectors_that_do_not_belong_to_their_texts_are_refused(tmp_path: Path) -> None:
    """A model's name proves nothing; --reembed makes them anew."""
    wrong = line(example("e1", "Where is Rome?"), request="How do I sort a list in Python?")
    with pytest.raises(InputError, match=r"vector of e1: expected at most 0.05 .* got 0\.\d+; --reembed"):
        await take(write(tmp_path / "f", HEADER, wrong), MemoryStore())
    store = MemoryStore()
    await take(tmp_path / "f", store, reembeds=True)

    assert np.array_equal(store.examples["e1"].vector, HashingEmbedder().vector(wrong["request"]))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"quality": "high"}, "quality: expected a valid number, got 'high'"),
        ({"quality": 1.5}, "quality: expected less than or equal to 1, got 1.5"),
        ({"quality": None}, "quality: expected a valid number, got None"),
        ({"created_at": 1_700_000_000_000}, "created_at: expected less than or equal to 100000000000, got 17"),
        ({"colour": "red"}, "colour: expected no such field, got 'red'"),
        ({"id": "a b"}, "id: expected a text like "),
        ({"request": ""}, "request: expected at least 1 character, got ''"),
        ({"request": " \n"}, r"request: expected a text that is not blank, got ' \\n'"),
        ({"vector": "AAAA"}, r"vector: expected 64 numbers of float32 \(256 bytes\), got 3 bytes"),
        ({"vector": "A" * 340 + "AA=="}, "vector: expected a vector of length 1, got 0"),
        ({"vector": "%"}, "vector: expected base64, got '%'"),
        ({"uses": 1.0, "gain": 2.0}, "gain: expected at most uses = 1, got 2"),
        ({"history": [{"at": 1}]}, "history.0.teacher: expected a value, got nothing"),
        ({"observations": [{"distance": 3, "is_correct": True, "at": 1}]}, "observations.0.distance: expected less"),
        ({"version": 2**60}, "version: expected less than or equal to 9007199254740992, got 1152921504606846976"),
        ({"scope": "日" * 300}, "scope: a scope or partition must be at most 2000 bytes, got 2700"),
        ({"scope": "\x1b[31m" * 900}, r"scope: expected at most 2000 characters, got '\\x1b"),
    ],
)
async def test_a_wrong_line_says_what_is_wrong(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    """File, line, field, what was expected and what came; nothing that could steer a terminal."""
    path = write(tmp_path / "f", HEADER, line(example()), line(example("e2"), **changes))
    with pytest.raises(InputError, match=rf"^{path}:3: {complaint}") as caught:
        await take(path, MemoryStore())

    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", ['{"id": "e2"', "[1, 2]", "not json", '{"a": "\\ud800"}', "\x00", "[" * 100_000])
async def test_a_line_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    """Cut off, of another kind, no text at all, or nested to exhaust a parser."""
    with pytest.raises(InputError, match=r":3: .*expected"):
        await take(write(tmp_path / "f", HEADER, line(example()), text), MemoryStore())


async def test_what_stands_before_a_wrong_line_is_kept(tmp_path: Path) -> None:
    """And told, with what to do; once it is put right the same command does the rest."""
    good = rows(7)
    store = MemoryStore()
    with pytest.raises(InputError, match=r"f:7: teacher: .*; imported 5; fix line 7 and run again$"):
        await take(write(tmp_path / "f", HEADER, *good[:5], {**good[5], "teacher": 5}, good[6]), store)
    kept = set(store.examples)
    done = await take(write(tmp_path / "f", HEADER, *good), store)

    assert kept == {"e0", "e1", "e2", "e3", "e4"}
    assert (done.n_kept, done.n_there) == (2, 5)


async def test_wrong_lines_can_be_put_aside(tmp_path: Path) -> None:
    """They are written as they came, behind the header; put right, that file is an import of its own."""
    good = rows(4)
    bad = [{**good[1], "quality": 2}, "{"]
    store = MemoryStore()
    source = write(tmp_path / "f", HEADER, good[0], *bad, good[2])
    done = await take(source, store, skip_bad=tmp_path / "bad")
    aside = (tmp_path / "bad").read_text()

    assert (done.n_kept, done.n_bad) == (2, 2)
    assert done.reasons[0].startswith(f"{source}:3: quality: expected less than or equal to 1, got 2")
    assert aside == "".join(f"{text}\n" for text in (json.dumps(HEADER), json.dumps(bad[0]), "{"))


async def test_twice_changes_nothing(tmp_path: Path) -> None:
    """What the store has learned about an example since then is worth more than the file; --replace says otherwise."""
    path = write(tmp_path / "f", HEADER, *rows(3))
    store = MemoryStore()
    await take(path, store)
    store.examples["e1"] = example("e1", "question 1", uses=9.0)
    again = await take(path, store)
    uses = store.examples["e1"].uses
    replaced = await take(path, store, replaces=True)

    assert (again.n_kept, again.n_there, uses) == (0, 3, 9.0)
    assert (replaced.n_kept, store.examples["e1"].uses) == (3, 0.0)


async def test_an_interrupted_import_goes_on(tmp_path: Path) -> None:
    """Behind the last batch that was kept, also when the rest of the file was changed meanwhile."""
    made = rows(1300)
    store = Failing(2)
    with pytest.raises(StoreUnavailable, match="away; imported 1,000; run again with --resume"):
        await take(write(tmp_path / "f", HEADER, *made), store)
    store.n_batches = 99
    write(tmp_path / "f", HEADER, *made[:1200], {**made[1200], "response": "changed"}, *made[1201:])
    done = await take(tmp_path / "f", store, is_resumed=True)

    assert (done.resumed_at, done.n_kept, done.n_there) == (1001, 300, 0)
    assert store.batches == [500, 500, 300]
    assert store.examples["e1200"].response == "changed"
    assert len(store.examples) == 1300


async def test_another_file_is_not_taken_for_the_rest(tmp_path: Path) -> None:
    """What was kept stands before where it would go on: when that has changed, nobody knows what is kept."""
    made = rows(600)
    store = Failing(1)
    with pytest.raises(StoreUnavailable):
        await take(write(tmp_path / "f", HEADER, *made), store)
    write(tmp_path / "f", HEADER, {**made[0], "response": "other"}, *made[1:])

    with pytest.raises(InputError, match="501 lines were imported, got one that has changed before that"):
        await take(tmp_path / "f", store, is_resumed=True)


async def test_a_finished_import_is_not_resumed(tmp_path: Path) -> None:
    """The same command begins at the beginning, and finds everything there."""
    store = MemoryStore()
    path = write(tmp_path / "f", HEADER, *rows(2))
    await take(path, store)
    done = await take(path, store, is_resumed=True)

    assert (done.resumed_at, done.n_kept, done.n_there) == (0, 0, 2)


async def test_other_claims_are_another_import(tmp_path: Path) -> None:
    """What was kept for one scope says nothing of another."""
    store = Failing(1)
    path = write(tmp_path / "f", HEADER, *rows(600))
    with pytest.raises(StoreUnavailable):
        await take(path, store)
    store.n_batches = 99
    done = await take(path, store, is_resumed=True, claims=Claims(scope="key:b"), replaces=True)

    assert (done.resumed_at, done.n_kept) == (0, 600)


async def test_an_embedder_that_fails_loses_nothing(tmp_path: Path) -> None:
    """What was embedded before is kept batch by batch."""

    class Tired(HashingEmbedder):
        model = "tired"

        async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
            if self.n_texts + len(texts) > 600:
                raise EmbedderError("the provider is away")
            return await super().embed(texts)

    store = MemoryStore()
    with pytest.raises(EmbedderError, match="away; imported 500; run again with --resume"):
        await take(write(tmp_path / "f", HEADER, *rows(700)), store, Tired())

    assert len(store.examples) == 500


async def test_standard_input_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be read again, so it cannot be resumed."""

    def given() -> TextIOWrapper:
        return TextIOWrapper(BytesIO("\n".join(map(json.dumps, (HEADER, *rows(3)))).encode()))

    monkeypatch.setattr(sys, "stdin", given())
    done = await take("-", MemoryStore())
    monkeypatch.setattr(sys, "stdin", given())

    assert done.n_kept == 3
    with pytest.raises(InputError, match="--resume: expected a file, got standard input"):
        await take("-", MemoryStore(), is_resumed=True)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"echo_proxy_examples": 2}, "echo_proxy_examples: expected version 1, got 2"),
        ({"dimensions": 0}, "dimensions: expected greater than or equal to 1, got 0"),
        ({"vectors": "int8"}, "vectors"),
        ({"secret": 1}, "secret: expected no such field"),
    ],
)
async def test_a_header_that_is_not_understood_ends_it(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    """Also where wrong lines are put aside: every row would be read in the light of it."""
    path = write(tmp_path / "f", {**HEADER, **changes}, line(example()))
    with pytest.raises(InputError, match=f":1: {complaint}"):
        await take(path, MemoryStore(), skip_bad=tmp_path / "bad")


async def test_a_missing_and_an_empty_file_are_told(tmp_path: Path) -> None:
    """By name."""
    with pytest.raises(InputError, match="none: expected a readable file, got: No such file"):
        await take(tmp_path / "none", MemoryStore())
    with pytest.raises(InputError, match="f: expected a header or an example, got an empty file"):
        await take(write(tmp_path / "f"), MemoryStore())


async def test_rows_of_others_are_embedded_and_kept(tmp_path: Path) -> None:
    """With what the command line says of them; a second import adds nothing."""
    path = write(tmp_path / "f", {"request": "Where is Rome?", "response": "In Italy."})
    store = MemoryStore()
    asked = Defaults(scope="key:a", writer="a", teacher="gpt", quality=0.9)
    first = await take(path, store, defaults=asked, claims=Claims(asked.scope, asked.writer))
    again = await take(path, store, defaults=asked, claims=Claims(asked.scope, asked.writer))
    (kept,) = store.examples.values()

    assert (first.n_kept, first.n_embedded, again.n_kept, again.n_there) == (1, 1, 0, 1)
    assert (kept.request, kept.response, kept.teacher, kept.quality) == ("Where is Rome?", "In Italy.", "gpt", 0.9)
    assert kept.origin == "import"


async def test_a_damaged_gz_is_told(tmp_path: Path) -> None:
    """What was whole is kept."""
    whole = gzip.compress("\n".join(map(json.dumps, (HEADER, *rows(50)))).encode())
    (tmp_path / "f.gz").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(InputError, match=r"f\.gz:\d+: expected a whole file, got: "):
        await take(tmp_path / "f.gz", MemoryStore())


async def test_an_interrupted_import_says_how_far_it_is(tmp_path: Path) -> None:
    """Ctrl-C cancels it; what was kept is kept."""

    class Stuck(Failing):
        async def add_many(self, examples: Sequence[Example]) -> None:
            if len(self.batches) == self.n_batches:
                raise asyncio.CancelledError
            await super().add_many(examples)

    console = Console(file=StringIO(), width=200)
    source = write(tmp_path / "f", HEADER, *rows(700))
    store = Stuck(1)
    command = ImportCommand(str(source), claims=Claims(is_trusted=True))
    with pytest.raises(asyncio.CancelledError):
        await import_examples(command, policy(), store, HashingEmbedder(), FrozenClock(NOW), console)

    assert "interrupted: imported 500; run again with --resume" in console.file.getvalue()  # type: ignore[attr-defined]
    assert len(store.examples) == 500


async def test_long_lines_make_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So memory stays flat, however long the texts are."""
    monkeypatch.setattr(importing, "_BATCH_BYTES", 4000)
    store = Failing(99)
    await take(write(tmp_path / "f", HEADER, *({**one, "response": "x" * 1500} for one in rows(9))), store)

    assert sum(store.batches) == 9
    assert max(store.batches) <= 2


async def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    """Some editors write one."""
    (tmp_path / "f").write_bytes(b"\xef\xbb\xbf" + write(tmp_path / "g", HEADER, line(example())).read_bytes())

    assert (await take(tmp_path / "f", MemoryStore())).n_kept == 1
