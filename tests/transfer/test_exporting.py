import json
import sys
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest
from rich.console import Console

from echo_proxy.errors import InputError, StoreUnavailable
from echo_proxy.types import ExamplePage, Which
from tests.fakes import MemoryStore
from tests.transfer.builders import example, filled, give


class Leaving(MemoryStore):
    """Goes away after so many pages."""

    n_pages = 2

    async def find(self, which: Which, cursor: str, limit: int) -> ExamplePage:
        if self.n_pages == 0:
            raise StoreUnavailable("away")
        self.n_pages -= 1
        return await super().find(which, cursor, limit)


async def test_only_what_is_meant_is_written(tmp_path: Path) -> None:
    """By scope and all else that a choice may name."""
    store = await filled([example("e1"), example("e2", scope="team:red"), example("e3", scope="team:red", reader="a")])
    done = await give(store, tmp_path / "f", which=Which(scope="team:red", in_quarantine=False))
    lines = [json.loads(text) for text in (tmp_path / "f").read_text().splitlines()]

    assert done.n_examples == 1
    assert [one["id"] for one in lines[1:]] == ["e2"]


@pytest.mark.parametrize("name", ["f.jsonl", "f.jsonl.gz"])
async def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path, name: str) -> None:
    """An interrupted export is gone on with: what lies in the part is not written again."""
    store = Leaving()
    await store.add_many([example(f"e{i}") for i in range(1700)])
    with pytest.raises(StoreUnavailable):
        await give(store, tmp_path / name)
    left = sorted(path.name for path in tmp_path.iterdir())
    with open(tmp_path / f"{name}.part", "ab") as part:
        part.write(b"half a li")  # what a crash may leave
    store.n_pages = 99
    done = await give(store, tmp_path / name, is_resumed=True)
    fresh = await give(store, tmp_path / f"again-{name}")

    assert left == [f"{name}.part", f"{name}.part.json"]
    assert (done.n_resumed, done.n_examples) == (1000, 1700)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"again-{name}", name]
    assert (tmp_path / name).read_bytes() == (tmp_path / f"again-{name}").read_bytes()
    assert fresh.n_resumed == 0


async def test_a_part_is_not_gone_on_with_as_something_else(tmp_path: Path) -> None:
    """Rows with and without vectors, or of other scopes, do not belong into one file."""
    store = Leaving()
    await store.add_many([example(f"e{i}") for i in range(1700)])
    with pytest.raises(StoreUnavailable):
        await give(store, tmp_path / "f")
    store.n_pages = 99

    with pytest.raises(InputError, match="expected the same policy, model and choice of examples"):
        await give(store, tmp_path / "f", is_resumed=True, vectors="float16")
    with pytest.raises(InputError, match=r"other\.part\.json: expected what an interrupted export leaves"):
        await give(store, tmp_path / "other", is_resumed=True)


async def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    """Unless it is asked for."""
    (tmp_path / "f").write_text("precious")
    store = await filled([example()])
    with pytest.raises(InputError, match="f: expected a new file, got one that is there; --force overwrites it"):
        await give(store, tmp_path / "f")
    kept = (tmp_path / "f").read_text()
    await give(store, tmp_path / "f", overwrites=True)

    assert kept == "precious"
    assert (tmp_path / "f").read_text().startswith('{"echo_proxy_examples": 1')


async def test_standard_output_gets_nothing_but_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar is drawn elsewhere."""
    out = TextIOWrapper(BytesIO())
    monkeypatch.setattr(sys, "stdout", out)
    console = Console(file=StringIO(), force_terminal=True)
    done = await give(await filled([example("e1"), example("e2")]), "-", console)
    written = out.buffer.getvalue()  # type: ignore[attr-defined]

    assert [next(iter(json.loads(text))) for text in written.splitlines()] == ["echo_proxy_examples", "id", "id"]
    assert done.n_bytes == len(written)
    assert "2 examples" in console.file.getvalue()  # type: ignore[attr-defined]


async def test_an_empty_store_is_a_header(tmp_path: Path) -> None:
    """A file all the same: the next step of a script finds it."""
    done = await give(MemoryStore(), tmp_path / "f")

    assert done.n_examples == 0
    assert len((tmp_path / "f").read_text().splitlines()) == 1


async def test_a_reader_that_leaves_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `| head` does; no traceback."""

    class Closed(BytesIO):
        def write(self, data: object) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", TextIOWrapper(Closed()))
    with pytest.raises(InputError, match="standard output: expected somebody who reads on"):
        await give(MemoryStore(), "-")


async def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """With what to do; what was written before stays."""
    (tmp_path / "f.part").symlink_to("/dev/full")

    with pytest.raises(InputError, match=r"f\.part: expected room for more, got: No space left on device; --resume"):
        await give(MemoryStore(), tmp_path / "f")


async def test_standard_output_on_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback."""

    class Full(BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", TextIOWrapper(Full()))
    with pytest.raises(InputError, match="standard output: expected room for what is written, got: No space left"):
        await give(MemoryStore(), "-")


async def test_nobody_else_may_read_a_file_of_all_tenants(tmp_path: Path) -> None:
    """Whatever the umask; nor does a line of it steer the terminal that shows it, and it loses nothing."""
    store = await filled([example("e1", response="\x9b31m \u202e \u200b \xad Grüße")])
    await give(store, tmp_path / "f")
    text = (tmp_path / "f").read_text()

    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600
    assert not {"\x9b", "\u202e", "\u200b", "\xad"} & set(text)
    assert "Grüße" in text
    assert json.loads(text.splitlines()[1])["response"] == "\x9b31m \u202e \u200b \xad Grüße"
