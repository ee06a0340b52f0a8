import gzip
from pathlib import Path

import pytest

from echo_proxy.errors import InputError
from echo_proxy.transfer import lines
from echo_proxy.transfer.lines import LineReader


def test_lines_are_numbered_as_an_editor_numbers_them(tmp_path: Path) -> None:
    """Blank ones count, and are left out; either line break will do, and the last one may be missing."""
    (tmp_path / "f").write_bytes(b"a\r\n\n  \nb\nc")
    with LineReader(str(tmp_path / "f")) as reader:
        found = [(one.number, one.content) for one in reader]

    assert found == [(1, b"a"), (4, b"b"), (5, b"c")]


@pytest.mark.parametrize("name", ["f", "f.gz"])
def test_where_a_reader_is_can_be_found_again(tmp_path: Path, name: str) -> None:
    """By the bytes of plain text, and a digest of them."""
    content = b"".join(b"line %d\n" % i for i in range(1000))
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with LineReader(str(tmp_path / name)) as first:
        for _ in range(400):
            first.read()
        place = (first.n_read, first.digest)
        expected = first.read()
    with LineReader(str(tmp_path / name)) as second:
        is_found = second.skip(*place)
        found = second.read()
    with LineReader(str(tmp_path / name)) as third:
        is_taken_for_another = third.skip(place[0], "0")

    assert is_found
    assert found == expected
    assert not is_taken_for_another


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it fills the memory."""
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 100)
    (tmp_path / "f").write_bytes(b"short\n" + b"x" * 101 + b"\n")
    with (
        LineReader(str(tmp_path / "f")) as reader,
        pytest.raises(InputError, match="f:2: expected a line of at most 100"),
    ):
        list(reader)


def test_endless_blank_lines_end_the_reading(tmp_path: Path) -> None:
    """A small .gz may hold milliards of them."""
    path = tmp_path / "f.gz"
    path.write_bytes(gzip.compress(b"\n" * 20_000))

    with LineReader(str(path)) as reader, pytest.raises(InputError, match="blank lines in a row"):
        list(reader)
