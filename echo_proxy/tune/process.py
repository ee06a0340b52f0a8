"""How are candidates run, each in a process of its own, so that none takes the search with it?"""

import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Self

from echo_proxy.local.options import LocalModelOptions
from echo_proxy.tune.records import CandidateFailed, Load, Round
from echo_proxy.tune.workload import Words, bodies, quality_bodies

_UNHURRIED = {"max_queue": 4096, "max_queue_s": 3600.0}
"""A slow candidate is to be measured, not to refuse requests."""
_WARM_UP_NUMBER = 2**19
"""Of prompts that no round has."""
_WORDS_S = 120.0


class Candidates:
    """The candidates that are loaded. A Measurer."""

    def __init__(self, words: Words, load: Load, fit_together: Callable[[Sequence[LocalModelOptions]], bool]) -> None:
        """
        Args:
            words: what prompts are made of.
            load: of questions about quality.
            fit_together: whether these may be in memory at the same time.
        """
        self._words = words
        self._quality = quality_bodies(words, load)
        self._fit_together = fit_together
        self._open: dict[LocalModelOptions, Child] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for options in list(self._open):
            self.release(options)

    def measure(self, options: LocalModelOptions, load: Load, number: int, limit_s: float) -> Round:
        """See Measurer.measure."""
        return _round(self._ask(options, bodies(self._words, load, number), load.n_clients, limit_s))

    def answers(self, options: LocalModelOptions, limit_s: float) -> Sequence[str]:
        """See Measurer.answers."""
        return [one["text"] for one in self._ask(options, self._quality, 1, limit_s)["answers"]]

    def release(self, options: LocalModelOptions) -> None:
        """See Measurer.release."""
        child = self._open.pop(options, None)
        if child is not None:
            child.close()

    def _ask(
        self, options: LocalModelOptions, asked: Sequence[Mapping[str, Any]], n_clients: int, limit_s: float
    ) -> Mapping[str, Any]:
        until = time.monotonic() + limit_s
        try:
            child = self._loaded(options, until)
            return child.ask({"bodies": asked, "n_clients": n_clients}, until)
        except BaseException:
            self.release(options)
            raise

    def _loaded(self, options: LocalModelOptions, until: float) -> "Child":
        if options not in self._open:
            for other in list(self._open):  # the oldest first
                if not self._fit_together([*self._open, options]):
                    self.release(other)
            child = self._open[options] = Child({"options": options.model_dump(mode="json") | _UNHURRIED})
            child.hear(until)
            warm_up = bodies(self._words, Load(1, 1, 64, 8), _WARM_UP_NUMBER)
            child.ask({"bodies": warm_up, "n_clients": 1}, until)
        return self._open[options]


def read_words(path: Path) -> tuple[Words, str]:
    """What prompts for this model can be made of, and a fingerprint of its vocabulary. Raises CandidateFailed."""
    child = Child({"vocabulary": str(path)})
    try:
        reply = child.hear(time.monotonic() + _WORDS_S)
    finally:
        child.close()
    return Words(tuple(reply["pieces"]), tuple(reply["ends"])), str(reply["fingerprint"])


class Child:
    """A process that was told what to load."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "echo_proxy.tune.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,  # Ctrl-C is the parent's to hear
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._tell(order)

    def ask(self, order: Mapping[str, Any], until: float) -> Mapping[str, Any]:
        """Its reply. Raises CandidateFailed."""
        self._tell(order)
        return self.hear(until)

    def hear(self, until: float) -> Mapping[str, Any]:
        """Its next reply. Raises CandidateFailed: it refused, ended, or said nothing by that time (monotonic)."""
        limit_s = max(until - time.monotonic(), 0.0)
        try:
            line = self._lines.get(timeout=limit_s)
        except queue.Empty:
            raise CandidateFailed(f"too slow: nothing within {limit_s:.1f} s") from None
        if not line:
            raise CandidateFailed(self._why_ended())
        reply: Mapping[str, Any] = json.loads(line)
        if "error" in reply:
            raise CandidateFailed(reply["error"])
        return reply

    def close(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            try:
                if stream is not None:
                    stream.close()
            except BrokenPipeError:
                pass  # an order that nobody has read

    def _tell(self, order: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # `hear` says why

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _why_ended(self) -> str:
        status = self._process.wait()
        if status == -signal.SIGKILL:
            return "it was killed, perhaps because memory ran out"
        if status < 0:
            return f"it crashed: {signal.Signals(-status).name}"
        self._errors.seek(0)
        last = (self._errors.read().strip().splitlines() or ["without a word"])[-1]
        return f"it ended with status {status}: {last[-200:]}"


def _round(reply: Mapping[str, Any]) -> Round:
    answers = reply["answers"]
    return Round(
        tokens_per_s=sum(one["n_tokens"] for one in answers) / reply["seconds"],
        latency_s=median(one["latency_s"] for one in answers),
        first_s=median(one["first_s"] for one in answers),
        prefill_s=median(one["prefill_s"] for one in answers),
        seconds=reply["seconds"],
        n_bytes=reply["n_bytes"],
        n_drafted=sum(one["n_drafted"] for one in answers),
        n_accepted=sum(one["n_accepted"] for one in answers),
    )
