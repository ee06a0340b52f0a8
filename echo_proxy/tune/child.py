"""The process of one candidate: `python -m echo_proxy.tune.child`.

It reads a JSON line with what to load, says when that is done, and then answers each further line, a round of requests,
with what every request took. It ends when its input does.
"""

import json
import os
import queue
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from echo_proxy.engine.chat import ChatRejected, parse_chat
from echo_proxy.engine.work import Engine, Failed, Finished, Overloaded
from echo_proxy.errors import LocalModelError
from echo_proxy.local.options import INSTALL, parse_model
from echo_proxy.tune.workload import pick_words

Reply = Mapping[str, Any]


def main() -> None:
    """Serve until the standard input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes elsewhere
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()
    first = json.loads(sys.stdin.readline())
    threading.Thread(target=_read, args=(sys.stdin, orders), daemon=True).start()
    try:
        answer = _open(first, replies)
        while answer is not None:
            _send(replies, answer(json.loads(orders.get())))
    except (LocalModelError, ChatRejected, Overloaded, RuntimeError, MemoryError) as error:
        _send(replies, {"error": str(error) or type(error).__name__})
    os._exit(0)  # nothing is worth being closed in order


def _read(lines: IO[str], orders: "queue.SimpleQueue[str]") -> None:
    for line in lines:
        orders.put(line)
    os._exit(0)  # the parent is gone, also in the middle of a round


def _open(order: Mapping[str, Any], replies: IO[str]) -> Callable[[Mapping[str, Any]], Reply] | None:
    """Load what is wanted and say so; what then answers a round, None when nothing more is to be asked."""
    try:
        from echo_proxy.local.build import build_engine
    except (ImportError, OSError, RuntimeError) as error:  # the last two: its shared library does not load
        raise LocalModelError(f"expected a working llama-cpp-python ({INSTALL}), got: {error}") from error
    if "vocabulary" in order:
        _send(replies, _vocabulary(order["vocabulary"]))
        return None
    model = parse_model("candidate", order["options"])
    began = time.perf_counter()
    built = build_engine(model.name, model.options, Path(tempfile.gettempdir()))
    _send(replies, {"load_s": time.perf_counter() - began})
    return lambda asked: _round(built.engine, asked["bodies"], asked["n_clients"])


def _vocabulary(path: str) -> Reply:
    from echo_proxy.llama.library import WeightOptions, load_weights
    from echo_proxy.llama.vocabulary import Vocabulary

    vocabulary = Vocabulary(load_weights(path, WeightOptions()))
    words = pick_words([vocabulary.piece(token) for token in range(vocabulary.n_vocab)], sorted(vocabulary.ends))
    return {"pieces": words.pieces, "ends": words.ends, "fingerprint": vocabulary.fingerprint}


def _round(engine: Engine, bodies: Sequence[Mapping[str, Any]], n_clients: int) -> Reply:
    """Ask all of them, with so many under way at once."""
    ends: queue.SimpleQueue[tuple[int, object, float]] = queue.SimpleQueue()
    waiting = iter(enumerate(bodies))
    asked_at: dict[int, float] = {}

    def send() -> None:
        for i, body in waiting:
            asked_at[i] = time.perf_counter()
            engine.submit(parse_chat(dict(body)), lambda event, i=i: ends.put((i, event, time.perf_counter())))  # type: ignore[misc]
            return

    began = time.perf_counter()
    for _ in range(n_clients):
        send()
    answers: dict[int, Reply] = {}
    while len(answers) < len(bodies):
        i, event, at = ends.get()
        if isinstance(event, Failed):
            raise event.error
        assert isinstance(event, Finished)
        answers[i] = _answer(event, at - asked_at[i])
        send()
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "n_bytes": _most_bytes(), "answers": [answers[i] for i in range(len(bodies))]}


def _answer(event: Finished, latency_s: float) -> Reply:
    usage = event.usage
    return {
        "text": event.text,
        "latency_s": latency_s,
        "first_s": usage.queue_s + usage.prefill_s,
        "prefill_s": usage.prefill_s,
        "n_tokens": usage.n_completion_tokens,
        "n_prompt_tokens": usage.n_prompt_tokens,
        "n_drafted": usage.n_drafted_tokens,
        "n_accepted": usage.n_accepted_tokens,
    }


def _most_bytes() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _send(replies: IO[str], reply: Reply) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
