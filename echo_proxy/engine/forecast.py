"""How long will an answer be, and how long will it take? Moving averages of what was served."""

import math
from collections import OrderedDict

from echo_proxy.engine.queue_records import Running, Served, Waiter

_WINDOW = 64
"""Answers that an average remembers. Guess, not yet measured."""
_ENOUGH = 8
"""Answers before a narrow average is believed rather than a broad one. Guess, not yet measured."""
_MAX_KINDS = 2048
"""Averages that are kept; the longest unused is forgotten."""

_ANSWER_TOKENS = 128.0
"""Before anything was heard. Guess: a paragraph."""
_READ_S = 0.001
"""Per prompt token, before anything was heard. Guess: a small model on a few CPU cores."""
_WRITE_S = 0.02
"""Per written token, before anything was heard. Guess, as above."""

_Kind = tuple[str | None, int, int]


class Moving:
    """Mean and deviation: of everything at first, of about the last 64 values later."""

    __slots__ = ("_variance", "mean", "n")

    def __init__(self) -> None:
        self.n = 0
        self.mean = 0.0
        self._variance = 0.0

    def hear(self, value: float) -> None:
        """Count a value in."""
        self.n += 1
        weight = max(1 / self.n, 1 / _WINDOW)
        away = value - self.mean
        self.mean += weight * away
        self._variance = (1 - weight) * (self._variance + weight * away * away)

    @property
    def deviation(self) -> float:
        """Standard deviation, in the values' unit."""
        return math.sqrt(self._variance)


class StepTime:
    """Seconds per written token as a line over the batch size, by least squares over about the last 64 answers.

    A line, because a decode costs something for the weights it reads and something for each sequence.
    """

    __slots__ = ("_n", "_sx", "_sxx", "_sxy", "_sy")

    def __init__(self) -> None:
        self._n = self._sx = self._sy = self._sxx = self._sxy = 0.0

    def hear(self, n_running: int, seconds: float) -> None:
        """Count an answer in: its seconds per token, in a batch of that size."""
        keep = 1 - 1 / _WINDOW
        self._n = keep * self._n + 1
        self._sx = keep * self._sx + n_running
        self._sy = keep * self._sy + seconds
        self._sxx = keep * self._sxx + n_running * n_running
        self._sxy = keep * self._sxy + n_running * seconds

    def at(self, n_running: int) -> float:
        """Seconds per token in a batch of that size."""
        if self._n == 0:
            return _WRITE_S
        mean, mean_size = self._sy / self._n, self._sx / self._n
        spread = self._sxx / self._n - mean_size * mean_size
        if spread < 0.05:  # one batch size only: nothing is known of others
            return mean
        slope = (self._sxy / self._n - mean * mean_size) / spread
        # Neither end of the line may leave what is possible: more work is never faster, nor is it worse than
        # one after the other.
        slope = min(max(slope, 0.0), mean / mean_size)
        return mean + slope * (n_running - mean_size)


class Forecast:
    """Predicts answers from those that ended."""

    def __init__(self) -> None:
        self._lengths: OrderedDict[_Kind, Moving] = OrderedDict()
        self._all = Moving()
        self._read = Moving()
        self._write = StepTime()
        self._service = Moving()
        self._cells = Moving()

    @property
    def is_guess(self) -> bool:
        """Whether nothing was heard yet, so that nobody should be refused because of it."""
        return self._service.n == 0

    @property
    def usual_service_s(self) -> float:
        """Seconds that a request usually spends in the batch."""
        return self._service.mean if self._service.n else _ANSWER_TOKENS * _WRITE_S

    @property
    def usual_cells(self) -> float:
        """Cells that a request usually needs in the end, shared ones not counted; 0 = not known."""
        return self._cells.mean

    def hear(self, served: Served) -> None:
        """Learn from a request that left the batch."""
        waiter = served.waiter
        if not served.is_whole:
            return
        for kind in _kinds(waiter):
            self._length(kind).hear(served.n_written)
        self._all.hear(served.n_written)
        self._cells.hear(served.n_read + served.n_written - waiter.n_done)
        if waiter.n_pauses or waiter.n_shortages:
            return  # a resumed one says little about how long others take
        self._service.hear(served.read_s + served.write_s)
        if waiter.n_prompt_tokens:
            # By all tokens of the prompt: how much of the next one will be there already is not known either.
            self._read.hear(served.read_s / waiter.n_prompt_tokens)
        if served.n_written > 1:
            self._write.hear(served.n_beside, served.write_s / (served.n_written - 1))

    def answer_tokens(self, waiter: Waiter) -> float:
        """Tokens that it will probably still write, at least 1 where it may write any."""
        return self._rest(waiter, waiter.n_done)

    def remaining_tokens(self, running: Running) -> float:
        """Tokens that it will probably still write, at least 1 where it may write any."""
        return self._rest(running.waiter, running.n_written)

    def read_s(self, n_tokens: int) -> float:
        """Seconds until so many tokens are read."""
        return n_tokens * (self._read.mean if self._read.n else _READ_S)

    def service_s(self, waiter: Waiter, n_running: int) -> float:
        """Seconds that it will probably spend in a batch of that size."""
        return self.read_s(waiter.n_prompt_tokens) + self.answer_tokens(waiter) * self._write.at(n_running)

    def least_service_s(self, waiter: Waiter, n_running: int) -> float:
        """The same if its answer is as short as one in six: by one deviation."""
        seen = self._heard_of(waiter)
        n_tokens = max(min(seen.mean - seen.deviation - waiter.n_done, waiter.most_tokens), 1.0) if seen else 1.0
        return self.read_s(waiter.n_prompt_tokens) + n_tokens * self._write.at(n_running)

    def remaining_s(self, running: Running, n_running: int, now: float) -> float:
        """Seconds until it will probably leave a batch of that size."""
        write_s = self._rest(running.waiter, running.n_written) * self._write.at(n_running)
        if running.n_written > running.waiter.n_done:
            return write_s
        return max(self.read_s(running.waiter.n_prompt_tokens) - (now - running.started_at), 0.0) + write_s

    def _rest(self, waiter: Waiter, n_written: int) -> float:
        seen = self._heard_of(waiter)
        most = waiter.most_tokens + waiter.n_done - n_written
        if seen is None:
            return float(max(min(_ANSWER_TOKENS - n_written, most), min(most, 1), 0))
        # One that is already longer than usual is of the long kind: it does not end at once.
        return float(max(min(max(seen.mean - n_written, seen.deviation / 2, 1.0), most), 0))

    def _heard_of(self, waiter: Waiter) -> Moving | None:
        """The narrowest average that has heard enough."""
        for kind in _kinds(waiter):
            seen = self._lengths.get(kind)
            if seen is not None and seen.n >= _ENOUGH:
                return seen
        return self._all if self._all.n else None

    def _length(self, kind: _Kind) -> Moving:
        seen = self._lengths.setdefault(kind, Moving())
        self._lengths.move_to_end(kind)
        if len(self._lengths) > _MAX_KINDS:
            self._lengths.popitem(last=False)
        return seen


def _kinds(waiter: Waiter) -> tuple[_Kind, _Kind, _Kind]:
    """What it is like, narrowest first: scope and sizes, scope, sizes. Sizes are classed by powers of two."""
    most = (waiter.most_tokens + waiter.n_done).bit_length()
    prompt = (waiter.n_prompt_tokens - waiter.n_done).bit_length()
    return (waiter.scope, most, prompt), (waiter.scope, -1, -1), (None, most, prompt)
