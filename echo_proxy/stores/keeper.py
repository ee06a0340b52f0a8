"""Keeps one Redis running for as long as any worker uses its folder. Started as a process of its own by embedded.py.

Three lock files decide everything, because the kernel lets go of a lock whenever its holder dies, however it dies:
`users.lock` is held shared by every worker, `keeper.lock` by the one keeper, `server.lock` by Redis itself.
So no kill -9 leaves a Redis without a keeper, a keeper without a worker, or two Redis on one folder.

Standard library only: it is run by its path, without the package, so that it starts in a few hundredths of a second.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

_POLL_S = 0.1
_ELECTION_S = 2.0
"""A worker that looks whether there is a keeper holds its lock for a moment; longer means that there is one."""
_STOP_S = 20.0
_MIN_LIFE_S = 1.0
"""A Redis that died sooner is not restarted at once."""
_PR_SET_PDEATHSIG = 1


def lock(path: str, kind: int, timeout_s: float = 0.0) -> int | None:
    """A file descriptor that holds the lock, or None when others hold it for longer than timeout_s."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(_POLL_S / 5)


def keep(folder: str, command: Sequence[str]) -> None:
    """Run Redis in the folder, again whenever it dies, until no worker uses it any more."""
    keeper = lock(os.path.join(folder, "keeper.lock"), fcntl.LOCK_EX, _ELECTION_S)
    if keeper is None:
        return
    server, started = start(folder, command), time.monotonic()
    while lock(os.path.join(folder, "users.lock"), fcntl.LOCK_EX) is None:  # held until this process ends
        if server.poll() is not None and time.monotonic() >= started + _MIN_LIFE_S:
            server, started = start(folder, command), time.monotonic()
        time.sleep(_POLL_S)
    stop(server)


def start(folder: str, command: Sequence[str]) -> "subprocess.Popen[bytes]":
    """A new Redis that holds server.lock, once the one before it is gone."""
    held = lock(os.path.join(folder, "server.lock"), fcntl.LOCK_EX, _STOP_S)
    if held is None:
        raise SystemExit(f"another Redis must be gone from {folder}, it still runs after {_STOP_S} s")
    try:
        # one thread only, so a function between fork and exec is safe here
        return subprocess.Popen(command, pass_fds=(held,), preexec_fn=dies_with_parent(), stdin=subprocess.DEVNULL)
    finally:
        os.close(held)  # Redis has its own copy


def stop(server: "subprocess.Popen[bytes]") -> None:
    """Let Redis write everything and end."""
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def dies_with_parent() -> Callable[[], None]:
    """To be called in a new child: the kernel ends it when the keeper dies, even by kill -9."""
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the kernel was asked
            os._exit(1)

    return ask_kernel


def main() -> None:
    """Arguments: folder, then Redis's command line. Detaches itself, so that no worker has to wait for it."""
    if os.fork():
        os._exit(0)
    keep(sys.argv[1], sys.argv[2:])


if __name__ == "__main__":
    main()
