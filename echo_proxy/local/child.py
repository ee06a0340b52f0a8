"""The process of one local model: `python -m echo_proxy.local.child`, started by a supervisor.

It reads one JSON line from its standard input, loads the model, writes one JSON line with its port to its standard
output, and serves until that input ends: when its parent is gone, however it went, so is the child.
"""

import asyncio
import logging
import os
import socket
import sys
import threading
from typing import IO, Any

import uvicorn

from echo_proxy.errors import LocalModelError
from echo_proxy.local.engine import SequentialEngine
from echo_proxy.local.options import INSTALL
from echo_proxy.local.order import Order, Reply
from echo_proxy.local.server import ServedModel, build_server

_KEEP_ALIVE_S = 3600
"""The client closes idle connections, never we: a request on a connection that is just being closed would be lost."""
_FAILED = 1


def main() -> None:
    """Serve until the standard input ends."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    replies = _keep_stdout()
    order = Order.from_line(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, args=(sys.stdin.buffer,), name="echo-parent", daemon=True).start()
    try:
        app = _load(order)
    except LocalModelError as error:
        logging.getLogger("echo_proxy.local").error("%s", error)
        _send(replies, Reply(error=str(error)))
        sys.exit(_FAILED)
    asyncio.run(_serve(app, replies))


def _keep_stdout() -> IO[bytes]:
    """The pipe to the supervisor; what libraries print goes into the log instead."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return replies


def _end_with_parent(stdin: IO[bytes]) -> None:
    while stdin.read1(4096):  # type: ignore[attr-defined] # a pipe's reader is buffered and so has it
        pass
    os._exit(0)  # also in the middle of a token


def _load(order: Order) -> Any:
    try:
        from echo_proxy.local.llama import LlamaModel
    except (ImportError, OSError, RuntimeError) as error:  # the last two: its shared library does not load
        raise LocalModelError(f"expected a working llama-cpp-python ({INSTALL}), got: {error}") from error
    model = LlamaModel(order.options)
    engine = SequentialEngine(model, order.options.max_queue)
    return build_server(ServedModel(order.name, model.n_ctx), engine, order.token)


async def _serve(app: Any, replies: IO[bytes]) -> None:
    # Only sockets that name TCP get TCP_NODELAY from asyncio; without it each answer waits 40 ms for an ACK.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_keep_alive=_KEEP_ALIVE_S, backlog=2048
    )
    server = uvicorn.Server(config)
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
