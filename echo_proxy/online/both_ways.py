"""Which of two answers does a judge prefer, when it is shown them both ways round?"""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from echo_proxy.online.sample import Ask, Reply
from echo_proxy.online.verdict import Marks, as_share, question, verdict_in
from echo_proxy.types import Prompt

AskModel = Callable[[Ask], Awaitable[Reply]]
"""Asks a model; what it raises is the caller's affair."""

_JUDGE_TOKENS = 1_024
"""A verdict has 20; models that think aloud need the rest."""
EQUAL = (0.5, 0.5)
"""The verdict on an answer that is the other, word by word: nobody need be asked."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one request."""

    dialogue: str
    """What was asked, with the system prompt, as the judge is shown it."""
    answer: str
    """The one that the verdict speaks of."""
    other: str


async def both_ways(pair: Pair, model_group: str, ask: AskModel) -> tuple[float, float] | None:
    """The verdict on the answer when it is shown first, and when it is shown second.

    Each in [0, 1]: 0 = much worse than the other, 0.5 = equal, 1 = much better. None when a reply is no verdict.
    """
    if pair.answer.strip() == pair.other.strip():
        return EQUAL
    first = await _verdict(pair.dialogue, pair.answer, pair.other, model_group, ask)
    if first is None:
        return None
    second = await _verdict(pair.dialogue, pair.other, pair.answer, model_group, ask)
    return None if second is None else (as_share(first), as_share(-second))


async def _verdict(dialogue: str, first: str, second: str, model_group: str, ask: AskModel) -> int | None:
    marks = Marks(secrets.token_hex(8), *_labels())
    messages = question(dialogue, first, second, marks)
    asked = Ask(model_group, "", messages, Prompt(), max_tokens=_JUDGE_TOKENS, temperature=0.0)
    return verdict_in((await ask(asked)).text, marks.token)


def _labels() -> tuple[str, str]:
    """Two names that say nothing and differ."""
    one = secrets.randbelow(900) + 100
    return f"K{one}", f"K{(one - 100 + 1 + secrets.randbelow(899)) % 900 + 100}"
