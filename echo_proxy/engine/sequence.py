"""What is known of one request on its way through the engine?"""

from dataclasses import dataclass
from typing import Literal

from echo_proxy.engine.answer import AnswerText
from echo_proxy.engine.runner import Language, Sampler
from echo_proxy.engine.work import Finished, Job, Piece, TokenChance, Usage


@dataclass(frozen=True, slots=True)
class Ask:
    """A request in tokens."""

    number: int
    """Order of arrival."""
    prompt: tuple[int, ...]
    stop: tuple[str, ...]
    """Texts that end the answer, the format's own included."""
    most_tokens: int
    """Longest answer."""
    domain: str
    """Who may share prefixes with it."""
    hints: tuple[tuple[int, ...], ...]
    arrived_at: float
    """Monotonic seconds, as all times here."""


@dataclass(slots=True)
class Timing:
    """When what happened, in monotonic seconds; 0 = not yet."""

    started_at: float = 0.0
    """It left the queue for the first time."""
    resumed_at: float = 0.0
    """It left the queue for the last time."""
    first_at: float = 0.0
    """Its first token."""
    next_at: float = 0.0
    """Its first token since it left the queue for the last time."""


@dataclass(slots=True)
class Tally:
    """Tokens of one request by what became of them."""

    cached: int = 0
    drafted: int = 0
    accepted: int = 0


class Sequence:
    """A request that was admitted: its tokens, how many of them the model has read, and the answer so far.

    `tokens` is prompt and answer. The model's state covers the first `n_ready` of them; what is left is still to be
    read, and the last of it yields the next token. So reading a prompt, continuing an answer and coming back from a
    pause are the same thing.
    """

    __slots__ = (
        "_chances", "_fresh", "_n_told", "ask", "job", "n_pauses", "n_ready", "n_seatings", "n_shared", "n_shortages",
        "n_to_read", "pinned", "sampler", "seat", "tally", "text", "timing", "tokens",
    )  # fmt: skip

    def __init__(self, job: Job, ask: Ask) -> None:
        self.job = job
        self.ask = ask
        self.sampler: Sampler | None = None
        """Since it was admitted for the first time."""
        self.seat: int | None = None
        """None = it waits for a prompt that another one is reading, or it is paused."""
        self.tokens = list(ask.prompt)
        self.n_ready = 0
        self.n_shared = 0
        """Of them, those in cells that another had when it sat down."""
        self.n_to_read = len(ask.prompt)
        """Tokens that it had to read when it sat down."""
        self.n_seatings = 0
        """How often it sat down."""
        self.n_pauses = 0
        """How often it was paused for the sake of another."""
        self.n_shortages = 0
        """How often it had to leave because the cells did not suffice for all."""
        self.pinned: tuple[int, ...] = ()
        """Tokens whose state was saved when it was paused, and is kept until the model has them again."""
        self.text = AnswerText(ask.stop)
        self.timing = Timing()
        self.tally = Tally()
        self._chances: list[TokenChance] = []
        self._n_told = 0
        self._fresh = ""

    @property
    def key(self) -> int:
        """Names it to drafters."""
        return self.ask.number

    @property
    def n_written(self) -> int:
        """Tokens of its answer so far."""
        return len(self.tokens) - len(self.ask.prompt)

    @property
    def n_unread(self) -> int:
        """Tokens that the model must still read before the next one can be drawn; at least 1."""
        return len(self.tokens) - self.n_ready

    @property
    def n_left(self) -> int:
        """Tokens that its answer may still have."""
        return self.ask.most_tokens - self.n_written

    def write(self, token: int, language: Language, chance: TokenChance | None) -> Literal["stop", "length"] | None:
        """Add a drawn token to the answer. Returns why the answer ends with it, if it does."""
        if language.is_end(token):
            return "stop"
        self.tokens.append(token)
        if chance is not None:
            self._chances.append(chance)
        self._fresh += self.text.feed(language.piece(token))
        if self.text.is_stopped:
            return "stop"
        return "length" if self.n_left <= 0 else None

    def piece(self) -> Piece | None:
        """What can be sent since the last piece; None when it is nothing."""
        text, self._fresh = self._fresh, ""
        if not text:
            return None
        told, self._n_told = self._n_told, len(self._chances)
        return Piece(text, tuple(self._chances[told:]))

    def finished(self, reason: Literal["stop", "length"], now: float) -> Finished:
        """The end of the answer; what was held back is in the last `piece`."""
        self._fresh += self.text.finish()
        return Finished(self.text.text, reason, self.usage(now), tuple(self._chances))

    def usage(self, now: float) -> Usage:
        """What it took until now."""
        started, first = self.timing.started_at or now, self.timing.first_at or now
        return Usage(
            n_prompt_tokens=len(self.ask.prompt),
            n_completion_tokens=self.n_written,
            n_cached_tokens=self.tally.cached,
            n_drafted_tokens=self.tally.drafted,
            n_accepted_tokens=self.tally.accepted,
            queue_s=started - self.ask.arrived_at,
            prefill_s=max(first - started, 0.0),
            decode_s=max(now - first, 0.0),
        )
