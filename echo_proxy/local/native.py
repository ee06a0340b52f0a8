"""Where does the output of C libraries go? Into the log, but little of it: they may quote prompts, without end.

llama.cpp prints a whole grammar, with what the caller put into it, whenever it refuses one. So what it prints goes
through this script, in a process of its own: it outlives a crash, whose last words are what the log is for. Only lines
that look like a library's own are passed on, cut, and up to an amount; of the rest the last ones, when it ends.
"""

import os
import re
import sys
from collections import deque
from typing import IO

_IS_OWN = re.compile(
    rb"\s*(/\S+\.\w+:\d+: |/\S+\(|GGML_|ggml|gguf_|llama_|CUDA|terminate called|what\(\)|malloc|free\(\)|double free"
    rb"|corrupt|munmap_chunk|\*\*\* |Fatal |Illegal |Segmentation )"
)
"""The beginnings of complaints of ggml, llama.cpp, CUDA, C++ and the C library."""
_MOST_PER_LINE = 500
_MOST_BYTES = 64 * 2**10
"""In the life of a process."""
_N_LAST = 20


def redirect(log: int) -> None:
    """From now on what this process writes to its standard outputs takes this way to the log, a descriptor."""
    reading, writing = os.pipe()
    os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", __file__],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, reading, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
    )
    for standard in (1, 2):
        os.dup2(writing, standard)
    os.close(reading)
    os.close(writing)


def sift(lines: IO[bytes], log: IO[bytes]) -> None:
    """Write what is kept of the lines to the log, until they end."""
    n_left, n_dropped, last = _MOST_BYTES, 0, deque[bytes](maxlen=_N_LAST)
    while line := _next(lines):
        if not _IS_OWN.match(line):
            n_dropped += 1
        elif len(line) <= n_left:
            n_left -= len(line)
            log.write(line)
            log.flush()
        else:
            n_dropped += len(last) == _N_LAST
            last.append(line)
    if n_dropped:
        log.write(b"%d lines of C libraries were left out\n" % n_dropped)
    log.writelines(last)
    log.flush()


def _next(lines: IO[bytes]) -> bytes:
    """The next line, cut; b"" at the end."""
    line = rest = lines.readline(_MOST_PER_LINE)
    while rest and not rest.endswith(b"\n"):
        rest = lines.readline(_MOST_PER_LINE)
    return line if line.endswith(b"\n") or not line else line + b"\n"


if __name__ == "__main__":
    sift(sys.stdin.buffer, sys.stdout.buffer)
