"""Is a new policy better than the running one, as far as the log can tell?"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from echo_proxy.offline.evaluation import (
    MEASURES,
    ArmShare,
    Comparison,
    EvaluateOptions,
    Evaluation,
    Figure,
    Progress,
    Verdict,
)
from echo_proxy.offline.history import History
from echo_proxy.offline.logged import IN_UNIT, Logged, as_logged, is_evidence
from echo_proxy.offline.off_policy import Draws, Estimate, Matrix, Outcomes, doubly_robust, interval, ips, snips
from echo_proxy.offline.outcome_model import expected_outcomes
from echo_proxy.offline.retrace import Traced
from echo_proxy.offline.support import support_of
from echo_proxy.policy import Policy

_LEAST_JUDGED = 10
"""Judged answers of an arm below which its judged share is too uncertain to weigh by."""
_MATTERS = 0.05
"""Share of a policy's draws from which on an arm must be known."""
_POINTS = 200
"""Of the plotted line."""


def compare(
    history: History, new: Sequence[Traced], running: Sequence[Traced] | None, policy: Policy, options: EvaluateOptions
) -> Evaluation:
    """The evaluation of `new` against `running` by the reward of `policy`.

    Args:
        history: the log.
        new: its decisions as the new policy would make them.
        running: the same decisions as the running one would; None = as the log made them.
        policy: the new one; its reward counts for both.
        options: how to compare.
    """
    before = running if running is not None else [as_logged(traced.lesson) for traced in new]
    usable = [i for i, traced in enumerate(new) if is_evidence(traced.lesson)]
    if not usable:
        return _no_evidence(len(new), options)
    log = Logged([new[i] for i in usable], [before[i] for i in usable], history, policy)
    return _evaluate(log, len(new), options)


def _no_evidence(n: int, options: EvaluateOptions) -> Evaluation:
    reason = (
        f"in none of the {n} decisions did the drawn arm answer (mode: shadow only decides); let the "
        "running policy act, with its exploration floor, and evaluate on that log"
    )
    return Evaluation(Verdict.NO_ANSWER, (reason,), None, (), (), None, None, n, 0, 0.0, options.quality, ())


# ------------------------------------------------------------------ the figures


def _evaluate(log: Logged, n_logged: int, options: EvaluateOptions) -> Evaluation:
    notes = list(_notes(log, n_logged))
    if options.quality == "judged" and not log.judged[~log.certain & ~log.failed].any():
        options = replace(options, quality="all")
        notes.append("nobody judged an answer: quality is what validators say, which overlook most of what is wrong")
    outcomes = log.outcomes("reward", options.quality)
    support_new = support_of(log.new, outcomes, log.arms, log.unseen_new, options.clip)
    support_running = support_of(log.running, outcomes, log.arms, log.unseen_running, options.clip)
    reasons = (
        *(f"new policy: {problem}" for problem in support_new.problems),
        *(f"running policy: {problem}" for problem in support_running.problems),
        *_unjudged(log, options),
    )
    made = Evaluation(
        verdict=Verdict.NO_ANSWER,
        reasons=reasons,
        n_more=None,
        comparisons=(),
        arms=_shares(log),
        support_new=support_new,
        support_running=support_running,
        n_logged=n_logged,
        n_used=len(log.lessons),
        share_judged=float(log.judged.mean()),
        quality_from=options.quality,
        notes=tuple(notes),
    )
    if reasons:
        return made
    comparisons = tuple(_comparison(log, measure, options) for measure in MEASURES)
    verdict, n_more = judge(comparisons[0].difference, len(log.lessons))
    progress = _progress(log, options)
    return replace(made, verdict=verdict, n_more=n_more, comparisons=comparisons, over_time=progress)


def judge(difference: Figure, n: int) -> tuple[Verdict, int | None]:
    """The verdict on a difference in reward, and how many more decisions would probably settle it."""
    if difference.lower > 0:
        return Verdict.SWITCH, None
    if difference.upper < 0:
        return Verdict.KEEP, None
    half = (difference.upper - difference.lower) / 2
    if abs(difference.value) <= half / 100:
        return Verdict.NOT_PROVEN, None
    more = n * ((half / abs(difference.value)) ** 2 - 1)  # an interval narrows by the square root
    digits = 10 ** max(int(np.log10(max(more, 1))) - 1, 0)
    return Verdict.NOT_PROVEN, int(np.ceil(max(more, 1) / digits) * digits)


def _comparison(log: Logged, measure: str, options: EvaluateOptions) -> Comparison:
    outcomes = log.outcomes(measure, options.quality)
    new, running = _estimates(log, outcomes, options)
    is_bounded = measure in IN_UNIT
    unseen = [sum(one.values()) if is_bounded else 0.0 for one in (log.unseen_new, log.unseen_running)]
    return Comparison(
        measure,
        int((outcomes.counts > 0).sum()),
        _figure(new, unseen[0], options),
        _figure(running, unseen[1], options),
        _figure(new.minus(running), sum(unseen), options),
    )


def _estimates(log: Logged, outcomes: Outcomes, options: EvaluateOptions) -> tuple[Estimate, Estimate]:
    """Of the new and of the running policy."""
    expected = expected_outcomes(log.new, outcomes, log.contexts) if options.estimator == "dr" else log.new.target
    return (
        _estimate(log.new, outcomes, expected, options),
        _estimate(log.running, outcomes, expected, options),
    )


def _estimate(draws: Draws, outcomes: Outcomes, expected: Matrix, options: EvaluateOptions) -> Estimate:
    if options.estimator == "dr":
        return doubly_robust(draws, outcomes, expected, options.clip)
    return (snips if options.estimator == "snips" else ips)(draws, outcomes, options.clip)


def _figure(estimate: Estimate, unseen: float, options: EvaluateOptions) -> Figure:
    """With what the log cannot know added to both ends: there the measure may be anything from 0 to 1."""
    found = interval(estimate, options.seed)
    return Figure(estimate.value, estimate.standard_error, found.lower - unseen, found.upper + unseen)


def _progress(log: Logged, options: EvaluateOptions) -> tuple[Progress, ...]:
    estimates = _estimates(log, log.outcomes("reward", options.quality), options)
    n = len(log.lessons)
    new, running = ((one.value + one.influences).cumsum() / np.arange(1, n + 1) for one in estimates)  # (n,)
    picked = np.unique(np.linspace(min(n, 50), n, min(n, _POINTS)).astype(int))
    return tuple(Progress(int(i), float(new[i - 1]), float(running[i - 1])) for i in picked)


# ------------------------------------------------------------------ in words


def _unjudged(log: Logged, options: EvaluateOptions) -> Iterator[str]:
    """Arms that matter and of which nobody has said how good their answers are."""
    if options.quality == "all":
        return
    known = log.outcomes("quality", "judged").counts > 0
    for i, arm in enumerate(log.arms):
        share = max(float(draws.target[:, i].mean()) for draws in (log.new, log.running))
        n_judged = int((known & (log.drawn == i)).sum())
        if share >= _MATTERS and n_judged < _LEAST_JUDGED:
            yield (
                f"only {n_judged} answers of {arm} were judged, at least {_LEAST_JUDGED} are needed; gather feedback, "
                "or take what validators say with --quality all"
            )


def _notes(log: Logged, n_logged: int) -> Iterator[str]:
    n_left_out = n_logged - len(log.lessons)
    if n_left_out:
        yield (
            f"{n_left_out} of {n_logged} decisions are left out: something else than the drawn arm answered. If that "
            "happens more often with some arms, those look better than they are"
        )
    n_retried = sum(
        any(not one.is_served and one.key.arm != lesson.arm for one in lesson.evidence) for lesson in log.lessons
    )
    if n_retried:
        yield (
            f"in {n_retried} decisions another arm had failed before: only the last draw is judged, so arms that fail "
            "often look better than they are"
        )
    unseen = sum(log.unseen_new.values()) + sum(log.unseen_running.values())
    if unseen > 0:
        yield f"{unseen:.1%} of the draws go to what the log never did; intervals of reward and quality allow for it"


def _shares(log: Logged) -> tuple[ArmShare, ...]:
    known = log.judged | log.failed
    return tuple(
        ArmShare(
            arm,
            int((log.drawn == i).sum()),
            int((known & (log.drawn == i)).sum()),
            float(log.new.target[:, i].mean()),
            float(log.running.target[:, i].mean()),
        )
        for i, arm in enumerate(log.arms)
    )
