"""A Language without a model: one character is one token, and token 0 ends the answer."""

from collections.abc import Mapping, Sequence

import numpy as np

from echo_proxy.engine.chat import ChatRejected, ChatRequest
from echo_proxy.engine.runner import PromptTokens
from tests.engine.runner_fake import FakeRunner

ALPHABET = "\0abcdefghijklmnopqrstuvwxyz .,:?"
END = 0


class FakeSampler:
    """Greedy at temperature 0, else drawn from the softmax with the request's seed; one random number a draw."""

    def __init__(self, runner: FakeRunner, request: ChatRequest) -> None:
        self.is_greedy = request.sampling.temperature == 0
        self.seen: list[int] = []
        self.is_closed = False
        self._runner = runner
        self._random = np.random.default_rng(request.sampling.seed)

    def draw(self, row: int) -> int:
        """See Sampler."""
        logits = self._runner.logits(row)
        token = int(logits.argmax())
        if not self.is_greedy:
            chances = np.exp(logits - logits.max(), dtype=np.float64)
            token = int(self._random.choice(logits.size, p=chances / chances.sum()))
        self.seen.append(token)
        return token

    def accept(self, token: int) -> None:
        """See Sampler."""
        self.seen.append(token)

    def close(self) -> None:
        """See Sampler."""
        assert not self.is_closed
        self.is_closed = True


class FakeLanguage:
    """Characters of ALPHABET; a dialogue is the texts of its turns, one after the other."""

    n_vocab = len(ALPHABET)
    fingerprint = "characters"
    most_bytes_per_token = 1

    def __init__(self, runner: FakeRunner) -> None:
        self._runner = runner
        self.samplers: list[FakeSampler] = []

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> PromptTokens:
        """See Language."""
        return PromptTokens(self.tokenize("".join(one["content"] for one in messages)), ())

    def tokenize(self, text: str) -> tuple[int, ...]:
        """See Language."""
        return tuple(ALPHABET.index(character) for character in text)

    def piece(self, token: int) -> bytes:
        """See Language."""
        return b"" if token == END else ALPHABET[token].encode()

    def is_end(self, token: int) -> bool:
        """See Language."""
        return token == END

    def check(self, request: ChatRequest) -> None:
        """See Language; JSON is refused here, a schema only when its sampler is made."""
        if request.grammar == "json" and request.json_schema is None:
            raise ChatRejected("response_format: expected no JSON", "response_format")

    def sampler(self, request: ChatRequest) -> FakeSampler:
        """See Language; a grammar is refused."""
        if request.grammar != "text":
            raise ChatRejected("response_format: expected text", "response_format")
        self.samplers.append(FakeSampler(self._runner, request))
        return self.samplers[-1]
