"""Does an answer say the same as others? Lexical, because it must be cheap: it is a weak signal and treated as one."""

import re
from collections import Counter
from collections.abc import Sequence
from math import sqrt

from echo_proxy.types import Candidate, Names

_MAX_TEXT = 8_000
"""Characters compared."""
_WORD = re.compile(r"\w+(?:[.,]\d+)*")
_EMPTY = frozenset(
    ["a", "an", "the", "is", "are", "was", "were", "be", "of", "to", "in", "and", "or", "it", "that", "this"]
)
"""English words that say nothing; other languages lose a little sharpness."""
_OTHER_NUMBERS = 0.5
"""Factor when two texts hold different numbers: mostly one of them is then wrong. # guess, not yet measured"""
_SAME_QUESTION = frozenset({Names.NONE, Names.HELD})


def agreement_with_examples(text: str, chosen: Sequence[Candidate]) -> float | None:
    """How well an answer agrees with the answers of the chosen examples, [0, 1]; None when none asks the same.

    The best agreement counts, drawn towards 0.5 (tells nothing) as far as the example's utility u falls short of 1:
    0.5 + u * (agreement - 0.5). Examples that lack a name or number of the request are left out: the right answer
    differs from theirs.

    An answer that was given with the example in its prompt may have copied it, so this must stay a weak signal.
    """
    told = [
        0.5 + one.utility * (agreement(text, one.example.response) - 0.5)
        for one in chosen
        if one.names in _SAME_QUESTION
    ]
    return max(told, default=None)


def agreement(one: str, other: str) -> float:
    """How well two answers agree, [0, 1]: the root of their words' F1, halved when their numbers differ.

    Good answers to one question often share only a quarter of their words (F1 of 0.25): the root makes that 0.5,
    which tells nothing. # guess, not yet measured

    Source of the F1: Rajpurkar et al. 2016, https://arxiv.org/abs/1606.05250
    """
    ours, theirs = _words(one), _words(other)
    shared = (ours & theirs).total()
    if shared == 0:
        return float(one.strip().casefold() == other.strip().casefold())
    f1 = 2 * shared / (ours.total() + theirs.total())
    return sqrt(f1) * (1.0 if _numbers(ours) == _numbers(theirs) else _OTHER_NUMBERS)


def _words(text: str) -> Counter[str]:
    words = (word.replace(",", "") for word in _WORD.findall(text[:_MAX_TEXT].casefold()))
    return Counter(word for word in words if word not in _EMPTY)


def _numbers(words: Counter[str]) -> frozenset[str]:
    return frozenset(word for word in words if word[0].isdigit())
