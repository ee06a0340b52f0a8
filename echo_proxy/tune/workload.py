"""What is a model asked while it is measured?

Prompts of words from its own vocabulary, drawn as often as Zipf's law has it (tokens are numbered about in the order
of how frequent they are), in its own chat template: a user's message of which the first third is the same in all
requests, as with a system prompt or examples, and the rest was never asked before. Answers are drawn at temperature
0.8 and never end by themselves: the tokens that end one are forbidden, so that each has its full length. Everything
follows from the round's number. What it cannot know is how much of an answer stands in the prompt or in a retrieved
answer already: guessing from these (`drafting: lookup`) pays more in real traffic than here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from echo_proxy.tune.records import Load

_SHARED = 1 / 3
"""Share of a prompt that all have in common, guess, not yet measured"""
_TEMPLATE_TOKENS = 16
"""Of the chat template itself, about."""
_FLAT = 2.7
"""Zipf and Mandelbrot's q, for English."""
_SHARED_SEED = 2**31
_N_QUALITY = 4
_QUALITY_TOKENS = 48
_SHORTEST_ANSWER = 16
_SHORTEST_PROMPT = 32
_MOST_REPEATS = 16
PROBE = Load(n_requests=1, n_clients=1, n_prompt_tokens=128, n_answer_tokens=16)
"""Asked first, to learn how much a round can hold."""


@dataclass(frozen=True, slots=True)
class Words:
    """What prompts are made of."""

    pieces: tuple[str, ...]
    """Words of one token, the most frequent first."""
    ends: tuple[int, ...]
    """Tokens that end an answer."""


def pick_words(pieces: Sequence[bytes], ends: Sequence[int]) -> Words:
    """Those pieces of a vocabulary, in the order of its tokens, that look like words; or all that are text."""
    texts = [piece.decode("utf-8", "ignore") for piece in pieces]
    words = [one for one in texts if len(one) > 2 and one[0] == " " and one[1:].isalpha()]
    if len(words) < 32:  # a vocabulary of bytes or characters
        words = [one for one in texts if one.strip() and one.isprintable()]
    return Words(tuple(words[:8192]), tuple(ends))


def bodies(words: Words, load: Load, number: int) -> list[Mapping[str, Any]]:
    """The requests of a round."""
    n_words = max(load.n_prompt_tokens - _TEMPLATE_TOKENS, 2)
    n_shared = int(n_words * _SHARED)
    shared = _text(words, n_shared, _SHARED_SEED)
    return [
        _body(words, f"{shared} {_text(words, n_words - n_shared, number * 4096 + i)}", load.n_answer_tokens)
        | {"temperature": 0.8, "seed": number * 4096 + i}
        for i in range(load.n_requests)
    ]


def quality_bodies(words: Words, load: Load) -> list[Mapping[str, Any]]:
    """Requests for the likeliest answers, which two candidates are compared by."""
    n_words = max(min(load.n_prompt_tokens, 256) - _TEMPLATE_TOKENS, 2)
    n_tokens = min(load.n_answer_tokens, _QUALITY_TOKENS)
    texts = [_text(words, n_words, _SHARED_SEED + 1 + i) for i in range(_N_QUALITY)]
    return [_body(words, text, n_tokens) | {"temperature": 0.0} for text in texts]


def agreement(ours: Sequence[str], theirs: Sequence[str]) -> float:
    """Mean share of an answer up to where it first differs, in [0, 1]."""
    return float(np.mean([_same(one, other) for one, other in zip(ours, theirs, strict=True)]))


def plan_load(wanted: Load, probe_prefill_s: float, probe_s: float, target_s: float) -> Load:
    """A round of about `target_s`: with more requests where the model is fast, with shorter ones where it is slow.

    Args:
        wanted: as the operator wishes; `n_requests` is the fewest.
        probe_prefill_s: time in which PROBE's prompt was read.
        probe_s: time to PROBE's whole answer.
        target_s: wished length of a round.
    """
    read_s = probe_prefill_s / PROBE.n_prompt_tokens
    write_s = max(probe_s - probe_prefill_s, 1e-6) / PROBE.n_answer_tokens
    request_s = wanted.n_prompt_tokens * read_s + wanted.n_answer_tokens * write_s
    n_fitting = int(target_s / request_s)
    if n_fitting >= wanted.n_requests:
        times = min(n_fitting // wanted.n_requests, _MOST_REPEATS)
        return Load(wanted.n_requests * times, wanted.n_clients, wanted.n_prompt_tokens, wanted.n_answer_tokens)
    n_requests = max(wanted.n_clients, min(n_fitting, wanted.n_requests), 1)
    scale = min(target_s / (n_requests * request_s), 1.0)
    return Load(
        n_requests,
        wanted.n_clients,
        max(int(wanted.n_prompt_tokens * scale), min(_SHORTEST_PROMPT, wanted.n_prompt_tokens)),
        max(int(wanted.n_answer_tokens * scale), min(_SHORTEST_ANSWER, wanted.n_answer_tokens)),
    )


def _body(words: Words, text: str, n_tokens: int) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": text}],  # there are templates that take no system message
        "max_tokens": n_tokens,
        "logit_bias": {str(token): -1000.0 for token in words.ends},
    }


def _text(words: Words, n_words: int, seed: int) -> str:
    ranks = np.arange(len(words.pieces))
    weights = 1 / (ranks + _FLAT)
    drawn = np.random.default_rng(seed).choice(ranks, n_words, p=weights / weights.sum())
    return "".join(words.pieces[i] for i in drawn).strip()


def _same(one: str, other: str) -> float:
    longest = max(len(one), len(other))
    n_same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return n_same / longest if longest else 1.0
