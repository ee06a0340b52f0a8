"""Who starts a process of local models, and again when it crashed? The worker that holds the lock; the others wait.

Every worker runs one `Supervisor` per process. A file lock elects the one that leads: it starts the process, writes
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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from echo_proxy.errors import LocalModelError
from echo_proxy.local.groups import ModelGroup
from echo_proxy.local.health import ModelHealth
from echo_proxy.local.options import check_model
from echo_proxy.local.order import Order, Reply
from echo_proxy.local.state import ModelState, read_state, write_state
from echo_proxy.local.status import LocalModelStatus, ProcessView, status_of

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


CHILD = (sys.executable, "-m", "echo_proxy.local.child")
"""Command of a process that serves local models."""


class Supervisor:
    """This worker's share in one process."""

    def __init__(self, group: ModelGroup, folder: Path, command: Sequence[str] = CHILD) -> None:
        """Nothing starts yet.

        Args:
            group: the models that live in it.
            folder: for its lock, address and log; the same for all workers.
            command: starts a process that takes an Order.
        """
        self.group = group
        self.fingerprint = group.fingerprint
        """Of the process that this worker expects."""
        self.log_path = folder / f"{group.process}.log"
        self._folder = folder
        self._command = command
        self._lock_path = folder / f"{group.process}.lock"
        self._state_path = folder / f"{group.process}.json"
        self._is_stopped = threading.Event()
        self._guard = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._has_followed = False
        self.is_leader = False
        """Whether this worker has started the process."""

    def start(self) -> None:
        """Begin to lead or to follow, in a thread; returns at once. Idempotent."""
        if self._thread is not None:
            return
        with self._guard:
            if self._thread is None and not self._is_stopped.is_set():
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                name = f"echo-local-{self.group.process}"
                self._thread = threading.Thread(target=self._run, name=name, daemon=True)
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
        return read_state(self._state_path) if self.is_leader or self._has_followed else None

    def statuses(self, healths: Mapping[str, ModelHealth]) -> tuple[LocalModelStatus, ...]:
        """How the models are; healths: what the process said last, by model."""
        view = ProcessView(self.state(), self._thread is not None, self.is_leader, self.log_path)
        return tuple(status_of(model, view, healths.get(model.name)) for model in self.group.models)

    # ------------------------------------------------------------------ thread

    def _run(self) -> None:
        while not self._is_stopped.is_set():
            try:
                self._lead_or_follow()
            except OSError as error:  # a full disk, or no memory for a process: it may pass
                log.error("local models %s: their supervisor is tried again: %s", self.group.process, error)
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
            self.is_leader = False
            os.close(lock)

    def _lead(self) -> None:
        """Keep a process running until stopped."""
        state = ModelState("starting", self.fingerprint, self._n_inherited_restarts(), os.getpid())
        write_state(self._state_path, state)
        self.is_leader = True
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
            log.error("local models %s: %s; started again in %.1f s", self.group.process, ended.error, pause_s)
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
        errors = self._errors()
        if len(errors) == len(self.group.models):  # or else the process tells which of its models it cannot load
            return replace(state, phase="failed", error="; ".join(errors))
        order = Order(self.group, secrets.token_urlsafe(32), self._folder / "prefixes")
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

    def _errors(self) -> list[str]:
        """What is wrong with the models' files."""
        errors: list[str] = []
        for model in self.group.models:
            try:
                check_model(model)
            except LocalModelError as error:
                errors.append(str(error))
        return errors

    def _spawn(self, order: Order) -> "subprocess.Popen[bytes]":
        _rotate(self.log_path)
        with self.log_path.open("ab") as output:
            child = subprocess.Popen(
                self._command,
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
