"""What did each phase achieve? Plain figures from the answers; no colours here."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from echo_proxy.demo.phases import Answer, Phase
from echo_proxy.demo.traffic import Label


@dataclass(frozen=True, slots=True)
class Summary:
    """One phase in figures."""

    phase: Phase
    n: int
    """Requests answered or failed."""
    correctness: float
    """Mean quality, [0, 1]."""
    mean_s: float
    """Mean latency."""
    p50_s: float
    p99_s: float
    share_small: float
    """Share of requests that the small model answered, [0, 1]."""
    share_with_examples: float
    """Share of requests answered with at least one example in the prompt, [0, 1]."""
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    n_errors: int
    n_lost_feedback: int


@dataclass(frozen=True, slots=True)
class ArmShare:
    """What one arm did within a phase."""

    arm: str
    share: float
    """Share of the phase's requests, [0, 1]."""
    correctness: float
    """Mean quality of its answers, [0, 1]."""


@dataclass(frozen=True, slots=True)
class HalfOfKind:
    """Requests of one label in one half of the stream."""

    label: Label
    is_second_half: bool
    n: int
    correctness: float
    """Mean quality, [0, 1]; 0 when there were none."""
    share_small: float
    """Share that the small model answered, [0, 1]; 0 when there were none."""


def answers_of(phase: Phase, answers: Sequence[Answer]) -> list[Answer]:
    """The phase's answers."""
    return [answer for answer in answers if answer.phase == phase]


def summarize(phase: Phase, answers: Sequence[Answer]) -> Summary:
    """The figures of a phase; all zero before its first answer."""
    ours = answers_of(phase, answers)
    latencies_s = np.array([answer.latency_s for answer in ours] or [0.0])  # (max(n, 1),)
    p50_s, p99_s = np.percentile(latencies_s, (50, 99))
    return Summary(
        phase=phase,
        n=len(ours),
        correctness=mean([answer.quality for answer in ours]),
        mean_s=float(latencies_s.mean()),
        p50_s=float(p50_s),
        p99_s=float(p99_s),
        share_small=mean([answer.is_small for answer in ours]),
        share_with_examples=mean([answer.n_examples > 0 for answer in ours]),
        prompt_tokens=sum(answer.prompt_tokens for answer in ours),
        completion_tokens=sum(answer.completion_tokens for answer in ours),
        cost_usd=sum(answer.cost_usd for answer in ours),
        n_errors=sum(bool(answer.error) for answer in ours),
        n_lost_feedback=sum(answer.is_feedback_lost for answer in ours),
    )


def saved_share(summary: Summary, baseline: Summary) -> float:
    """Share of the baseline's cost per request that was saved; negative when it cost more, 0 when unknown."""
    if not summary.n or not baseline.cost_usd:
        return 0.0
    return 1.0 - (summary.cost_usd / summary.n) / (baseline.cost_usd / baseline.n)


def arm_shares(phase: Phase, answers: Sequence[Answer]) -> list[ArmShare]:
    """The arms that a phase used, most used first."""
    by_arm: dict[str, list[float]] = {}
    for answer in answers_of(phase, answers):
        by_arm.setdefault(answer.arm, []).append(answer.quality)
    n = sum(map(len, by_arm.values()))
    shares = [ArmShare(arm, len(qualities) / n, mean(qualities)) for arm, qualities in by_arm.items()]
    return sorted(shares, key=lambda one: (-one.share, one.arm))


def by_kind(phase: Phase, answers: Sequence[Answer], n_requests: int) -> list[HalfOfKind]:
    """Every label in both halves of a stream of n_requests, so that one sees what was learned."""
    ours = answers_of(phase, answers)
    rows = []
    for label in Label:
        for is_second_half in (False, True):
            some = [
                answer
                for answer in ours
                if answer.ask.label is label and (answer.index >= n_requests / 2) is is_second_half
            ]
            correctness = mean([answer.quality for answer in some])
            share_small = mean([answer.is_small for answer in some])
            rows.append(HalfOfKind(label, is_second_half, len(some), correctness, share_small))
    return rows


def mean(values: Sequence[float]) -> float:
    """The plain mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0
