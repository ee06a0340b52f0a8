"""How good was the answer, and how sure are we?"""

import json

from echo_proxy.policy import JudgePolicy
from echo_proxy.types import Feedback, Outcome, Quality

_CUT_SHORT = frozenset({"length", "max_tokens", "incomplete", "model_context_window_exceeded"})
"""Finish reasons of an answer that hit a limit, over all endpoints."""
_REFUSED = frozenset({"content_filter", "refusal"})
"""Finish reasons of an answer that the model or its provider withheld, over all endpoints."""


def judge(outcome: Outcome, wants_json: bool, rules: JudgePolicy, unjudged_weight: float) -> Quality:
    """Quality from validators, until somebody says more.

    They can only show that an answer is bad: when all are content they weigh `unjudged_weight`, a failed one
    weighs 1.
    """
    signals = validate(outcome, wants_json, rules)
    estimate = min(signals.values())
    return Quality(estimate, unjudged_weight if estimate == 1.0 else 1.0, signals)


def heed(feedback: Feedback) -> Quality:
    """Quality as a reader says it: it replaces every guess, with full weight."""
    return Quality(feedback.score, 1.0, {"feedback": feedback.score})


def validate(outcome: Outcome, wants_json: bool, rules: JudgePolicy) -> dict[str, float]:
    """Each validator's verdict: 1 content, 0 not."""
    if outcome.error is not None:
        return {"answered": 0.0}
    signals = {
        "answered": 1.0,
        "whole": float(outcome.finish_reason not in _CUT_SHORT),
        "length": float(_length(outcome) >= max(rules.min_tokens, 1)),
        "refusal": float(outcome.finish_reason not in _REFUSED and not is_refusal(outcome.text, rules)),
    }
    if wants_json:
        signals["json"] = float(_is_json(outcome.text))
    return signals


def _length(outcome: Outcome) -> int:
    """Tokens of the answer; words where the provider reports no usage."""
    return max(outcome.completion_tokens, len(outcome.text.split())) if outcome.text.strip() else 0


def is_refusal(text: str, rules: JudgePolicy) -> bool:
    """Whether the answer begins as refusals do."""
    beginning = _plain(text)
    return any(beginning.startswith(_plain(refusal)) for refusal in rules.refusals)


def _plain(text: str) -> str:
    return text.strip().lower().replace("\u2019", "'")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
