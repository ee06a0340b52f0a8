"""Who starts the process of a local model, and again when it crashed? The worker that holds the lock; the others wait.

Every worker runs one `Supervisor` per model. A file lock elects the one that leads: it starts the process, writes
where it listens, and starts it again when it ends. When that worker dies, the process sees its input end and exits,
the kernel frees the lock, and the next worker leads.
"""

import fcntl
import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from echo_proxy.errors import LocalModelError
from echo_proxy.local.options import LocalModel, check_model
from echo_proxy.local.order import Order, Reply
from echo_proxy.local.state import ModelState, read_state, write_state

log = logging.getLogger("echo_proxy.local")

_POLL_S = 0.1
"""How soon another worker takes over."""
_FIRST_PAUSE_S = 0.1
_FAILED_PAUSE_S = 1.0
"""A start that failed at once will mostly fail again."""
_LONGEST_PAUSE_S = 10.0
_HEALTHY_S = 30.0
"""A process that lived this long earns the first pause again."""
_STOP_S = 5.0
_MAX_LOG_BYTES = 10_000_000


@dataclass(frozen=True, slots=True)
class LocalModelStatus:
    """A local model as this worker sees it."""

    name: str
    phase: Literal["starting", "ready", "failed"]
    """`failed` = the last start went wrong and is tried again after a pause."""
    n_restarts: int
    """Starts after the process had ended by itself."""
    pid: int | None
    """The model's process."""
    is_leader: bool
    """Whether this worker started it."""
    error: str | None
    """Why it failed, or how it ended last time."""
    log: Path
    """What llama.cpp and the process said."""


class Supervisor:
    """This worker's share in the process of one model."""

    def __init__(self, model: LocalModel, folder: Path) -> None:
        """Nothing starts yet.

        Args:
            model: what to load.
            folder: for its lock, address and log; the same for all workers.
        """
        self.model = model
        self.log_path = folder / f"{model.name}.log"
        self._folder = folder
        self._lock_path = folder / f"{model.name}.lock"
        self._state_path = folder / f"{model.name}.json"
        self._is_stopped = threading.Event()
        self._guard = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._is_leader = False
        self._has_followed = False

    def start(self) -> None:
        """Begin to lead or to follow, in a thread; returns at once."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._thread = threading.Thread(target=self._run, name=f"echo-local-{self.model.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the process, if this worker leads, and give up the lock. Idempotent."""
        self._is_stopped.set()
        with self._guard:
            child = self._child
            if child is not None and child.stdin is not None:
                child.stdin.close()
        if self._thread is not None:
            self._thread.join(_STOP_S)
            if child is not None and self._thread.is_alive():
                child.kill()
                self._thread.join(_STOP_S)

    def state(self) -> ModelState | None:
        """What the leader wrote last; None before its first word."""
        # Before a first look at the lock, the file may be one that a killed worker left behind.
        return read_state(self._state_path) if self._is_leader or self._has_followed else None

    def status(self) -> LocalModelStatus:
        """How the model is."""
        state = self.state() or ModelState("starting", self.model.fingerprint)
        return LocalModelStatus(
            name=self.model.name,
            phase=state.phase,
            n_restarts=state.n_restarts,
            pid=state.pid,
            is_leader=self._is_leader,
            error=state.error,
            log=self.log_path,
        )

    # ------------------------------------------------------------------ thread

    def _run(self) -> None:
        while not self._is_stopped.is_set():
            try:
                self._lead_or_follow()
            except OSError as error:  # a full disk, or no memory for a process: it may pass
                log.error("local model %s: its supervisor is tried again: %s", self.model.name, error)
                self._is_stopped.wait(_FAILED_PAUSE_S)

    def _lead_or_follow(self) -> None:
        lock = _try_lock(self._lock_path)
        if lock is None:
            self._has_followed = True
            self._is_stopped.wait(_POLL_S)
            return
        try:
            self._lead()
        finally:
            self._is_leader = False
            os.close(lock)

    def _lead(self) -> None:
        """Keep a process running until stopped."""
        state = ModelState("starting", self.model.fingerprint, self._n_inherited_restarts(), os.getpid())
        write_state(self._state_path, state)
        self._is_leader = True
        pause_s = _FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            ended = self._run_child(state)
            if self._is_stopped.is_set():
                break
            if time.monotonic() - began > _HEALTHY_S:
                pause_s = _FIRST_PAUSE_S
            if ended.phase == "failed":
                pause_s = max(pause_s, _FAILED_PAUSE_S)
            log.error("local model %s: %s; it is started again in %.1f s", self.model.name, ended.error, pause_s)
            write_state(self._state_path, ended)
            if self._is_stopped.wait(pause_s):
                break
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            state = replace(ended, phase="starting", n_restarts=ended.n_restarts + 1)
        self._state_path.unlink(missing_ok=True)

    def _n_inherited_restarts(self) -> int:
        """Taking over from a worker that died is a restart; a file of an earlier run of the proxy is not."""
        left = read_state(self._state_path)
        return left.n_restarts + 1 if left is not None and self._has_followed else 0

    def _run_child(self, state: ModelState) -> ModelState:
        """Start a process, wait until it ends, and tell how."""
        try:
            check_model(self.model)
        except LocalModelError as error:
            return replace(state, phase="failed", error=str(error))
        order = Order(self.model.name, secrets.token_urlsafe(32), self.model.options)
        child = self._spawn(order)
        try:
            assert child.stdout is not None  # it was asked for
            starting = replace(state, pid=child.pid)
            write_state(self._state_path, starting)
            reply = Reply.from_line(child.stdout.readline())
            if reply.port is not None:
                write_state(self._state_path, replace(starting, phase="ready", port=reply.port, token=order.token))
                child.stdout.read()  # returns when the process ends
            return self._ended(state, reply, child.wait())
        finally:
            self._forget(child)

    def _spawn(self, order: Order) -> "subprocess.Popen[bytes]":
        _rotate(self.log_path)
        with self.log_path.open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "echo_proxy.local.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the proxy; the child follows when its input ends
            )
        with self._guard:
            self._child = child
            assert child.stdin is not None  # it was asked for
            try:
                child.stdin.write(order.to_line())
                child.stdin.flush()
            except BrokenPipeError:
                pass  # it ended already; reading from it will tell
            if self._is_stopped.is_set():
                child.stdin.close()
        return child

    def _forget(self, child: "subprocess.Popen[bytes]") -> None:
        """Close the pipes, so that a child that still runs ends."""
        with self._guard:
            self._child = None
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()

    def _ended(self, state: ModelState, reply: Reply, status: int) -> ModelState:
        how = f"signal {-status}" if status < 0 else f"status {status}"
        if reply.port is not None:
            return replace(state, phase="starting", error=f"its process ended with {how}; see {self.log_path}")
        error = reply.error or f"its process ended with {how} before it was ready; see {self.log_path}"
        return replace(state, phase="failed", error=error)


def _try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock, or None when another holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _rotate(path: Path) -> None:
    if path.exists() and path.stat().st_size > _MAX_LOG_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
