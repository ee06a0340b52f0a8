"""What do all signals together say of an answer's quality?

A pure function of the signals that are known: they may come in any order, minutes or hours apart, and the quality is
computed afresh each time. What knows more replaces what knows less:

1. **feedback**: what a reader says, with weight 1.
2. **verdict** of the sampled judge, with the policy's weight, less as far as its two orders contradict each other.
3. **a failed validator**: quality 0 with weight 1.
4. **guesses** otherwise. Each guess s in [0, 1] of reliability r multiplies the odds that the answer is good by

       (s r + (1 - s)(1 - r)) / (s (1 - r) + (1 - s) r)

   so s = 0.5 or r = 0.5 changes nothing, and s = 1 by r / (1 - r); the odds start at prior / (1 - prior). That is
   naive Bayes over signals that were calibrated one by one. Its limits: signals that err together (an answer copied
   from its example agrees with it) are counted as if they were independent, and the reliabilities are an operator's
   guess until somebody measures them; hence the small weights. The weight is 1 - prod(1 - w) over the guesses and the
   content validators (`unjudged_weight`): more signals, more evidence, never more than 1.

A verdict is relative to the teacher's answer, feedback is not: "as good as the teacher's" earns `prior`, the quality
of an answer that nothing speaks against, and the rest is linear on both sides.
"""

from collections.abc import Mapping
from math import exp, log, prod, sqrt

from echo_proxy.online.validators import VALIDATORS
from echo_proxy.policy import JudgePolicy, Signal
from echo_proxy.types import Quality

FEEDBACK = "feedback"
AGREEMENT = "agreement"
SHADOW_AGREEMENT = "shadow_agreement"
VERDICTS = ("verdict_first", "verdict_second")
"""What the judge said with the answer shown first, and shown second: 0 much worse than the teacher's, 1 much better."""
_SURE = 1e-6
"""A reliability of 1 would let one guess outweigh everything."""


def combine(signals: Mapping[str, float], rules: JudgePolicy, unjudged_weight: float) -> Quality:
    """Quality from every signal known so far.

    Args:
        signals: by name, each in [0, 1]; unknown names are kept for the reader and change nothing.
        rules: how much each is believed.
        unjudged_weight: evidence weight of an answer that only validators have seen.

    Raises:
        ValueError: a signal outside [0, 1].
    """
    _check(signals)
    if FEEDBACK in signals:
        return Quality(signals[FEEDBACK], 1.0, signals)
    if all(name in signals for name in VERDICTS):
        return _by_verdict(signals, rules, unjudged_weight)
    if has_failed(signals):
        return Quality(0.0, 1.0, signals)
    return _by_guesses(signals, rules, unjudged_weight)


def has_failed(signals: Mapping[str, float]) -> bool:
    """Whether a validator has found the answer bad."""
    return any(signals.get(name) == 0 for name in VALIDATORS)


def quality_of_verdict(verdict: float, prior: float) -> float:
    """Quality of an answer by its comparison with the teacher's: 0 at 0, `prior` at 0.5 (equal), 1 at 1."""
    return 2 * verdict * prior if verdict <= 0.5 else prior + (2 * verdict - 1) * (1 - prior)


def _by_verdict(signals: Mapping[str, float], rules: JudgePolicy, unjudged_weight: float) -> Quality:
    one, other = (quality_of_verdict(signals[name], rules.prior) for name in VERDICTS)
    gap = abs(signals[VERDICTS[0]] - signals[VERDICTS[1]])
    weight = rules.sampled.weight if rules.sampled else unjudged_weight
    return Quality((one + other) / 2, max(weight * (1 - gap), unjudged_weight), signals, abs(one - other) / 2)


def _by_guesses(signals: Mapping[str, float], rules: JudgePolicy, unjudged_weight: float) -> Quality:
    told = [(signals[name], rule) for name, rule in _guesses(rules).items() if name in signals and rule.weight > 0]
    if not told:
        return Quality(rules.prior, unjudged_weight, signals, sqrt(rules.prior * (1 - rules.prior)))
    odds = log(rules.prior / (1 - rules.prior)) + sum(_log_ratio(value, rule.reliability) for value, rule in told)
    estimate = 1 / (1 + exp(-odds))
    weight = unjudged_weight + (1 - unjudged_weight) * (1 - prod(1 - rule.weight for _, rule in told))
    return Quality(estimate, weight, signals, sqrt(estimate * (1 - estimate)))


def _guesses(rules: JudgePolicy) -> Mapping[str, Signal]:
    return {AGREEMENT: rules.agreement, SHADOW_AGREEMENT: rules.shadow_agreement}


def _log_ratio(value: float, reliability: float) -> float:
    """Log of P(value | good) / P(value | bad)."""
    sure = min(max(reliability, _SURE), 1 - _SURE)
    return log((value * sure + (1 - value) * (1 - sure)) / (value * (1 - sure) + (1 - value) * sure))


def _check(signals: Mapping[str, float]) -> None:
    for name, value in signals.items():
        if not 0 <= value <= 1:  # also false for nan
            raise ValueError(f"signal {name} must be in [0, 1], got {value}")
