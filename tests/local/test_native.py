import io
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.local.fleet import Fleet
from echo_proxy.local.native import sift
from tests.local.children import ready_state, small_model, wait_for
from tests.local.parrot_child import COMMAND

ASSERTION = b"/src/ggml.c:12: GGML_ASSERT(a == b) failed\n"
PROGRAM = """
import os, sys
from echo_proxy.local.native import redirect
redirect(os.dup(2))
os.write(1, b"root ::= secret\\n")
os.write(2, b"x" * 10_000_000 + b"\\n")
os.write(2, b"/src/ggml.c:12: GGML_ASSERT(a == b) failed\\n")
os.abort()
"""
"""What llama.cpp does when it ends itself, after it has printed a grammar and much else."""


def _sifted(printed: bytes) -> bytes:
    log = io.BytesIO()
    sift(io.BytesIO(printed), log)
    return log.getvalue()


def test_only_complaints_of_libraries_are_kept() -> None:
    """A grammar quotes what the caller wrote; the log says how much was left out."""
    assert (
        _sifted(b"parse: error\nroot ::= secret\n" + ASSERTION) == ASSERTION + b"2 lines of C libraries were left out\n"
    )
    assert _sifted(b"terminate called after throwing\n  what():  bad\n") == (
        b"terminate called after throwing\n  what():  bad\n"
    )
    assert _sifted(b"") == b""


def test_long_lines_are_cut() -> None:
    """The rest of a line is no line of its own."""
    assert _sifted(b"ggml " + b"x" * 5000 + ASSERTION + ASSERTION) == b"ggml " + b"x" * 495 + b"\n" + ASSERTION
    assert _sifted(b"y" * 500 + ASSERTION) == b"1 lines of C libraries were left out\n"


@given(st.lists(st.tuples(st.sampled_from([b"ggml ", b"secret "]), st.integers(0, 2000)), max_size=50))
def test_the_log_stays_small_and_has_the_last_words(lines: list[tuple[bytes, int]]) -> None:
    """Whatever is printed: at most 64 KiB and twenty lines, and the last complaint is always among them."""
    printed = b"".join(start + b"x" * length + b"\n" for start, length in lines * 20) + ASSERTION
    log = _sifted(printed)

    assert len(log) <= 64 * 2**10 + 21 * 501
    assert ASSERTION in log
    assert b"secret" not in log


def test_last_words_outlive_the_process(tmp_path: Path) -> None:
    """They are read by another process, after a crash and however much came before."""
    log = tmp_path / "log"
    with log.open("wb") as output:
        status = subprocess.run([sys.executable, "-c", PROGRAM], stderr=output, check=False).returncode
    wait_for(lambda: b"left out" in log.read_bytes())

    assert status < 0
    assert log.read_bytes() == ASSERTION + b"2 lines of C libraries were left out\n"


def test_the_log_of_a_model_tells_why_it_ended(tmp_path: Path) -> None:
    """What C printed of a request stays out of it."""
    fleet = Fleet(tmp_path, COMMAND)
    supervisor = fleet.ensure(small_model())
    state = ready_state(supervisor)
    body = {"messages": [{"role": "user", "content": "abort"}]}
    with pytest.raises(httpx.HTTPError):
        httpx.post(
            f"{state.url}/v1/chat/completions",
            json=body,
            headers={"Authorization": f"Bearer {state.token}"},
            trust_env=False,
        )
    wait_for(lambda: "left out" in supervisor.log_path.read_text())
    log = supervisor.log_path.read_text()
    fleet.shutdown()

    assert "GGML_ASSERT(a == b) failed" in log
    assert "Fatal Python error" in log
    assert "secret" not in log
