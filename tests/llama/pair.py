"""Short texts from the bundled pair: the simplest way to use a runner."""

from collections.abc import Sequence
from pathlib import Path

import echo_proxy
from echo_proxy.engine.runner import Language, Run, Runner

PAIR = Path(echo_proxy.__file__).parent / "assets" / "pair"
SMALL = str(PAIR / "small-q8_0.gguf")
LARGE = str(PAIR / "large-q8_0.gguf")

QUESTIONS = (
    "What is the capital of Lervaia?",
    "Say the word lamp.",
    "Which number follows 41?",
    "Which river is the longest in Muskeia?",
    "What is the plural of lamp in Klispimish?",
    "Tell me about Lervaia.",
)
"""The pair was taught these: where a model hesitates between two tokens, the order of additions decides."""


def prompts(language: Language) -> list[tuple[int, ...]]:
    """The questions, as the model reads them."""
    return [language.prompt([{"role": "user", "content": one}]).tokens for one in QUESTIONS]


def read(runner: Runner, seat: int, tokens: Sequence[int], start: int = 0) -> int:
    """Read the tokens in one decode; returns what is likeliest to come next."""
    runner.decode([Run(tokens, start, (seat,), 1)])
    return int(runner.logits(len(tokens) - 1).argmax())


def write(runner: Runner, seat: int, token: int, start: int, n_tokens: int = 24) -> list[int]:
    """The likeliest text that begins with the token, which is at position `start`."""
    written = [token]
    while len(written) < n_tokens:
        written.append(read(runner, seat, written[-1:], start + len(written) - 1))
    return written


def answer(runner: Runner, seat: int, prompt: Sequence[int], n_tokens: int = 24) -> list[int]:
    """The likeliest answer to a prompt, read into an empty seat."""
    return write(runner, seat, read(runner, seat, prompt), len(prompt), n_tokens)
