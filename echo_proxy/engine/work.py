"""What is asked of an engine, and what comes back?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from echo_proxy.engine.chat import ChatRejected, ChatRequest

# ------------------------------------------------------------------ what comes back


@dataclass(frozen=True, slots=True)
class TokenChance:
    """A token that was written, and how likely it and its rivals were."""

    text: str
    """Broken where a character has several tokens; `piece` is exact."""
    piece: bytes
    logprob: float
    """Natural logarithm of the model's own probability, before temperature and other samplers; at most 0."""
    rivals: tuple["TokenChance", ...] = ()
    """The likeliest tokens there, best first; as many as were asked for. They have no rivals themselves."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of a streamed answer."""

    text: str
    chances: tuple[TokenChance, ...] = ()
    """Of the tokens since the last piece, when logprobs were asked for."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer took."""

    n_prompt_tokens: int = 0
    n_completion_tokens: int = 0
    n_cached_tokens: int = 0
    """Tokens of the prompt whose state was there already."""
    n_drafted_tokens: int = 0
    """Tokens that were proposed before the model was asked."""
    n_accepted_tokens: int = 0
    """Those that became part of the answer."""
    queue_s: float = 0.0
    """From its arrival until its prompt began to be read."""
    prefill_s: float = 0.0
    """From then until its first token."""
    decode_s: float = 0.0
    """From its first token until its end."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer."""

    text: str
    """All of it."""
    reason: Literal["stop", "length"]
    usage: Usage
    chances: tuple[TokenChance, ...] = ()
    """Of all its tokens, when logprobs were asked for."""


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer, or no more of it."""

    error: "ChatRejected | Overloaded | RuntimeError"


Event = Piece | Finished | Failed


class Overloaded(Exception):
    """There is more to do than can be done in time; nothing of the request was done."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """When there will probably be room, in seconds."""


# ------------------------------------------------------------------ the engine


class Job:
    """A request on its way. `cancel` may be called from any thread, at any time."""

    __slots__ = ("_is_cancelled", "deliver", "request")

    def __init__(self, request: ChatRequest, deliver: Callable[[Event], None]) -> None:
        self.request = request
        self.deliver = deliver
        self._is_cancelled = False

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self._is_cancelled = True

    @property
    def is_cancelled(self) -> bool:
        """Whether to stop at the next token."""
        return self._is_cancelled


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What an engine has to do, and what it has done."""

    n_served: int = 0
    """Requests that ended, whether whole, failed or cancelled."""
    n_waiting: int = 0
    """Requests in the queue, those that were paused included."""
    n_running: int = 0
    """Requests that are being read or answered."""
    wait_s: float = 0.0
    """How long a request of usual priority that comes now will probably wait."""
    service_s: float = 0.0
    """Moving average of the time from leaving the queue to the end of the answer."""
    busy_s: float = 0.0
    """How long the present step has taken so far, admissions before it included; 0 = idle. More than any step takes:
    it hangs, and with it all requests."""
    counts: Mapping[str, float] = field(default_factory=dict)
    """Sums since the start, by Prometheus-like name: `prompt_tokens`, `cached_tokens`, `drafted_tokens`, ..."""


class Engine(Protocol):
    """Answers requests."""

    def submit(self, request: ChatRequest, deliver: Callable[[Event], None], arrived_at: float | None = None) -> Job:
        """Take a request. `deliver` is called from another thread with Pieces, if it is streamed, and then with
        Finished or Failed; never after the job was cancelled and has left the model.

        Args:
            arrived_at: when it came, in seconds of time.monotonic(), if it has waited elsewhere before; its deadline
                and `queue_s` count from there. None = now.

        Raises Overloaded, and ChatRejected for what can be seen before the model is asked.
        """
        ...

    def status(self) -> EngineStatus:
        """What it has to do now. Returns at once, even while the model hangs."""
        ...

    def close(self) -> None:
        """Fail what is under way and free the memory; returns when that is done."""
        ...
