"""The process of one or several local models: `python -m echo_proxy.local.child`, started by a supervisor.

It reads one JSON line from its standard input, loads what is to be loaded at the start, writes one JSON line with its
port to its standard output, and serves until that input ends: when its parent is gone, however it went, so is the
child.
"""

import asyncio
import faulthandler
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import uvicorn
from starlette.types import ASGIApp

from echo_proxy.errors import LocalModelError
from echo_proxy.local.host import Load, ModelHost
from echo_proxy.local.native import redirect
from echo_proxy.local.options import INSTALL, LocalModel, check_model
from echo_proxy.local.order import Order, Reply
from echo_proxy.local.place import LoadedModel
from echo_proxy.local.server import build_server, max_body
from echo_proxy.local.watchdog import watch

_KEEP_ALIVE_S = 3600
"""The client closes idle connections, never we: a request on a connection that is just being closed would be lost."""
_FAILED = 1
_SWITCH_S = 0.0005


def main(loader: Callable[[Path], Load] | None = None) -> None:
    """Serve until the standard input ends.

    Args:
        loader: makes, of the order's folder, what loads a model; None = llama.cpp.
    """
    # The engine's thread and the one that speaks HTTP share the interpreter: with the usual 5 ms each of the engine's
    # steps, which take about 1 ms, could wait for several requests to be parsed.
    sys.setswitchinterval(_SWITCH_S)
    replies, output = _keep_outputs()
    logging.basicConfig(stream=output, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    faulthandler.enable(output)  # after a crash the log says what Python was doing; stacks quote no values
    order = Order.from_line(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, args=(sys.stdin.buffer,), name="echo-parent", daemon=True).start()
    host = ModelHost(order.group.models, (loader or _llama_cpp)(order.folder), order.group.max_loaded)
    host.start()
    watch(host, order.group.models, output)
    error = host.wait_started()
    if error is not None:
        _send(replies, Reply(error=error))
        os._exit(_FAILED)  # the host's thread may just be trying again
    _serve(build_server(host, order.token, max_body(order.group.models)), replies)


def _keep_outputs() -> tuple[IO[bytes], IO[str]]:
    """The pipe to the supervisor, and the log, which is Python's own; C libraries get less of it."""
    replies = os.fdopen(os.dup(1), "wb")
    output = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    redirect(output.fileno())
    sys.stdout = sys.stderr = output
    return replies, output


def _end_with_parent(stdin: IO[bytes]) -> None:
    while stdin.read1(4096):  # type: ignore[attr-defined] # a pipe's reader is buffered and so has it
        pass
    os._exit(0)  # also in the middle of a token


def _llama_cpp(folder: Path) -> Load:
    def load(model: LocalModel) -> LoadedModel:
        check_model(model)
        try:
            from echo_proxy.local.build import build_engine
        except (ImportError, OSError, RuntimeError) as error:  # the last two: its shared library does not load
            raise LocalModelError(f"expected a working llama-cpp-python ({INSTALL}), got: {error}") from error
        return build_engine(model.name, model.options, folder)

    return load


def _serve(app: ASGIApp, replies: IO[bytes]) -> None:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_keep_alive=_KEEP_ALIVE_S,
        backlog=2048,
    )
    # With uvloop, where it is installed, a request costs 0.28 ms of CPU instead of 0.44 (measured, 2 busy cores).
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve_until_killed(uvicorn.Server(config), replies))


async def _serve_until_killed(server: uvicorn.Server, replies: IO[bytes]) -> None:
    # Only sockets that name TCP get TCP_NODELAY from asyncio; without it each answer waits 40 ms for an ACK.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.001)
    _send(replies, Reply(port=listener.getsockname()[1]))
    await serving


def _send(replies: IO[bytes], reply: Reply) -> None:
    replies.write(reply.to_line())
    replies.flush()


if __name__ == "__main__":
    main()
