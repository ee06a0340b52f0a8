import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_proxy.engine.radix import TOKEN_BYTES, pack
from echo_proxy.engine.vault import Vault
from echo_proxy.engine.vault_files import n_file_bytes

MUCH = 1 << 20


@contextmanager
def vault(ram: int = MUCH, disk: int = 0, folder: Path | None = None, fingerprint: str = "model") -> Iterator[Vault]:
    one = Vault(ram, disk, folder, fingerprint)
    try:
        yield one
    finally:
        one.close()


def state_of(key: bytes, n_bytes: int = 50) -> bytes:
    return (key * n_bytes)[:n_bytes]


def put(one: Vault, *tokens: int, domain: str = "a", n_bytes: int = 50, is_pinned: bool = False) -> bool:
    key = pack(tokens)
    return one.put(domain, key, state_of(key, n_bytes), is_pinned=is_pinned)


def got(one: Vault, *tokens: int, domain: str = "a", n_bytes: int = 50) -> int | None:
    """Length of the longest saved beginning, after its state was loaded and found right."""
    saved = one.find(domain, pack(tokens))
    state = one.load(saved) if saved is not None else None
    if saved is None or state is None:
        return None
    assert state == state_of(pack(tokens[: saved.n_tokens]), n_bytes)
    return saved.n_tokens


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.state"))


# ------------------------------------------------------------------ finding


def test_finds_the_longest_whole_beginning() -> None:
    """Of the states whose text is wholly a beginning of the prompt, the longest comes back."""
    with vault() as one:
        put(one, 1, 2)
        put(one, 1, 2, 3, 4)
        put(one, 1, 2, 3, 4, 5, 6, 7, 8)

        assert got(one, 1, 2, 3, 4, 5, 9) == 4
        assert got(one, 1, 2, 3) == 2
        assert got(one, 1, 9) is None


def test_finds_more_for_those_who_can_cut() -> None:
    """Who can forget the rest gets a longer text too, if enough of it is wanted, and only above the least length."""
    with vault() as one:
        put(one, 1, 2, 3, 4, 5, 6)

        saved = one.find("a", pack([1, 2, 3, 4, 9]), least_share=0.5)
        assert saved is not None
        assert (saved.n_tokens, saved.n_common) == (6, 4)
        assert one.find("a", pack([1, 2, 9]), least_share=0.5) is None
        assert one.find("a", pack([1, 2, 3, 4, 9]), least_share=0.5, n_least=5) is None


def test_domains_share_nothing() -> None:
    """A state is found only in the domain it was saved in."""
    with vault() as one:
        put(one, 1, 2, 3, domain="a")

        assert got(one, 1, 2, 3, domain="b") is None
        assert got(one, 1, 2, 3, domain="") is None


# ------------------------------------------------------------------ budgets and pins


def test_the_least_used_leaves_first() -> None:
    """A state that was used stays longer than a newer one of the same size that nobody asked for."""
    with vault(ram=2 * (50 + 2 * TOKEN_BYTES)) as one:
        put(one, 1, 1)
        for _ in range(5):
            got(one, 1, 1)
        put(one, 2, 2)

        put(one, 3, 3)

        assert [got(one, n, n) for n in (1, 2, 3)] == [2, None, 2]


def test_pinned_states_stay_and_count() -> None:
    """What is pinned is not given up; when pins fill the budget, more is refused until one is taken back."""
    with vault(ram=2 * (50 + 2 * TOKEN_BYTES)) as one:
        assert put(one, 1, 1, is_pinned=True)
        assert put(one, 2, 2, is_pinned=True)
        assert not put(one, 3, 3, is_pinned=True)

        one.unpin("a", pack([1, 1]))

        assert got(one, 1, 1) == 2
        assert put(one, 3, 3, is_pinned=True)
        assert [got(one, n, n) for n in (1, 2, 3)] == [None, 2, 2]


def test_two_pins_need_two_unpins() -> None:
    """Two pauses at the same text are two pins on one state."""
    with vault(ram=50 + 2 * TOKEN_BYTES) as one:
        put(one, 1, 1, is_pinned=True)
        put(one, 1, 1, is_pinned=True)
        one.unpin("a", pack([1, 1]))

        assert not put(one, 2, 2)

        one.unpin("a", pack([1, 1]))
        assert put(one, 2, 2)


def test_nothing_is_held_without_a_budget() -> None:
    """No memory and no disk is no vault."""
    with vault(ram=0) as one:
        assert one.is_off
        assert not put(one, 1, 2)


actions = st.tuples(
    st.sampled_from(["put", "pin", "unpin", "load", "drain"]),
    st.lists(st.integers(0, 1), min_size=1, max_size=4),
    st.integers(1, 120),
)


@settings(max_examples=100, deadline=None)
@given(ram=st.integers(0, 400), disk=st.integers(0, 1200), history=st.lists(actions, max_size=40))
def test_budgets_hold_exactly(ram: int, disk: int, history: list[tuple[str, list[int], int]]) -> None:
    """Whatever is saved, pinned and loaded: neither budget is exceeded, the sums are true, pins are found, and a state
    is the one that was saved."""
    sizes: dict[bytes, int] = {}
    pins: dict[bytes, int] = {}
    with TemporaryDirectory() as name, vault(ram, disk, Path(name)) as one:
        for action, tokens, n_bytes in history:
            key = pack(tokens)
            saved = one.find("a", key)
            is_known = saved is not None and saved.n_common == len(tokens)
            if action in ("put", "pin"):
                is_put = one.put("a", key, state_of(key, n_bytes), is_pinned=action == "pin")
                sizes[key] = sizes[key] if is_known else n_bytes
                pins[key] = pins.get(key, 0) + (is_put and action == "pin")
            elif action == "unpin":
                one.unpin("a", key)
                pins[key] = max(0, pins.get(key, 0) - 1)
            elif action == "load" and saved is not None:
                text = key[: saved.n_tokens * TOKEN_BYTES]
                assert one.load(saved) == state_of(text, sizes[text])
            elif action == "drain":
                one.drain()
                on_disk = files(Path(name))
                assert sum(path.stat().st_size for path in on_disk) == one.n_disk_bytes
            assert 0 <= one.n_ram_bytes <= ram
            assert 0 <= one.n_disk_bytes <= disk
            for text, n_pins in pins.items():
                found = one.find("a", text)
                assert not n_pins or (found is not None and found.n_common == len(text) // TOKEN_BYTES)


# ------------------------------------------------------------------ disk


def test_what_leaves_memory_goes_to_disk(tmp_path: Path) -> None:
    """A state that memory has no room for is read back from its file."""
    with vault(ram=50 + 2 * TOKEN_BYTES, disk=MUCH, folder=tmp_path) as one:
        put(one, 1, 1)
        put(one, 2, 2)
        one.drain()

        assert len(files(tmp_path)) == 1
        assert one.n_disk_bytes == n_file_bytes(pack([1, 1]), 50)
        assert [got(one, n, n) for n in (1, 2)] == [2, 2]


def test_a_state_is_there_while_it_waits_to_be_written(tmp_path: Path) -> None:
    """Between memory and disk a state is never missing."""
    with vault(ram=0, disk=MUCH, folder=tmp_path) as one:
        put(one, 1, 1)

        assert got(one, 1, 1) == 2


def test_survives_a_restart(tmp_path: Path) -> None:
    """What was in memory or on disk at the end is found by the next process of the same model, in its domain only."""
    with vault(ram=MUCH, disk=MUCH, folder=tmp_path) as one:
        put(one, 1, 2, 3)
        put(one, 1, 2, 3, 4)

    with vault(ram=MUCH, disk=MUCH, folder=tmp_path) as one:
        assert one.n_states == 2
        assert got(one, 1, 2, 3, 4, 5) == 4
        assert got(one, 1, 2, 3, 4, 5, domain="b") is None


def test_a_paused_answer_does_not_outlive_its_process(tmp_path: Path) -> None:
    """A state that was pinned to be resumed is of no use to the next process, and is not written."""
    with vault(ram=MUCH, disk=MUCH, folder=tmp_path) as one:
        put(one, 1, 2, 3, is_pinned=True)

    assert files(tmp_path) == []


def test_a_smaller_disk_budget_removes_files(tmp_path: Path) -> None:
    """After a restart with less room, the oldest files go until the budget holds."""
    with vault(ram=0, disk=MUCH, folder=tmp_path) as one:
        for n in range(3):
            put(one, n, n)
            one.drain()
            os.utime(max(files(tmp_path), key=lambda path: path.stat().st_mtime_ns), (n, n))

    with vault(ram=0, disk=2 * n_file_bytes(pack([1, 1]), 50), folder=tmp_path) as one:
        one.drain()
        assert len(files(tmp_path)) == 2
        assert [got(one, n, n) for n in range(3)] == [None, 2, 2]


def test_only_this_user_can_read_the_files(tmp_path: Path) -> None:
    """Files are 0600 in a folder 0700, whatever the umask; nothing else is left there."""
    before = os.umask(0)
    try:
        with vault(ram=0, disk=MUCH, folder=tmp_path / "new") as one:
            put(one, 1, 2)
            one.drain()
    finally:
        os.umask(before)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").rglob("*")}
    (name,) = [path.name for path in files(tmp_path / "new")]
    assert modes == {"slot-0": 0o700, "lock": 0o600, name: 0o600}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


@given(at=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_a_broken_file_is_a_miss(at: float, flip: int) -> None:
    """One wrong byte anywhere, seen at the start or when the state is wanted, and the state is not there; the file
    goes."""
    with TemporaryDirectory() as name:
        with vault(ram=0, disk=MUCH, folder=Path(name)) as one:
            put(one, 1, 2, 3)
        (path,) = files(Path(name))
        raw = bytearray(path.read_bytes())
        raw[int(at * len(raw))] ^= flip
        path.write_bytes(raw)

        with vault(ram=0, disk=MUCH, folder=Path(name)) as one:
            assert got(one, 1, 2, 3) is None
            assert one.n_disk_bytes == 0
        assert files(Path(name)) == []


def test_a_cut_or_foreign_file_is_removed_at_the_start(tmp_path: Path) -> None:
    """Half a file, a file of another program and one that was never finished are gone after the start."""
    with vault(ram=0, disk=MUCH, folder=tmp_path) as one:
        put(one, 1, 2, 3)
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    (tmp_path / "slot-0" / "other.state").write_bytes(b"what is this")
    (tmp_path / "slot-0" / "1234.state.tmp").write_bytes(b"half")

    with vault(ram=0, disk=MUCH, folder=tmp_path) as one:
        assert one.n_states == 0
        assert [entry.name for entry in (tmp_path / "slot-0").iterdir()] == ["lock"]


def test_a_vanished_file_is_a_miss(tmp_path: Path) -> None:
    """Somebody removed the folder under a running process: nothing is found, nothing is raised."""
    with vault(ram=0, disk=MUCH, folder=tmp_path / "x") as one:
        put(one, 1, 2, 3)
        one.drain()
        shutil.rmtree(tmp_path / "x")

        assert got(one, 1, 2, 3) is None
        assert one.n_states == 0
        assert put(one, 4, 5)
        one.drain()
        assert one.is_off


def test_another_model_finds_nothing(tmp_path: Path) -> None:
    """States of another fingerprint are not used, and their files are removed."""
    with vault(ram=0, disk=MUCH, folder=tmp_path, fingerprint="q8") as one:
        put(one, 1, 2, 3)

    with vault(ram=0, disk=MUCH, folder=tmp_path, fingerprint="q4") as one:
        assert got(one, 1, 2, 3) is None
    assert files(tmp_path) == []


def test_processes_do_not_touch_each_others_files(tmp_path: Path) -> None:
    """A second process with the same folder gets a slot of its own, whatever its model."""
    with vault(ram=0, disk=MUCH, folder=tmp_path, fingerprint="q8") as one:
        put(one, 1, 2, 3)
        one.drain()
        with vault(ram=0, disk=MUCH, folder=tmp_path, fingerprint="q4") as other:
            put(other, 1, 2, 3)
            other.drain()

        assert got(one, 1, 2, 3) == 3
        assert len(files(tmp_path)) == 2


def test_a_full_disk_ends_writing_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """When the disk is full, states are kept in memory only; what is on disk can still be read."""
    with vault(ram=50 + 2 * TOKEN_BYTES, disk=MUCH, folder=tmp_path) as one:
        put(one, 1, 1)
        put(one, 2, 2)
        one.drain()

        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
            patched.setattr(os, "open", full)
            for n in (3, 4, 5):
                put(one, n, n)
                one.drain()

        assert [got(one, n, n) for n in (1, 2, 3, 4, 5)] == [2, None, None, None, 2]
        assert len(caplog.records) == 1
        assert "No space left" in caplog.text
        assert one.n_disk_bytes == n_file_bytes(pack([1, 1]), 50)
        assert not list(tmp_path.glob("*/*.tmp"))


def test_a_folder_that_cannot_be_used_is_no_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where a file stands in the folder's place, memory is all there is, and one line says so."""
    (tmp_path / "file").write_text("in the way")

    with vault(ram=MUCH, disk=MUCH, folder=tmp_path / "file") as one:
        put(one, 1, 2)

        assert got(one, 1, 2) == 2
        assert len(caplog.records) == 1
