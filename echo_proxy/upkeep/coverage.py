"""Which requests are asked often and answered badly or expensively? Clusters of lessons, worst first.

Lessons hold vectors, quality and cost, and no text; the text of a cluster's representative comes from the record of
its decision. Where the policy's log keeps no texts there are no vectors either, and nothing can be told. Requests
that could never share an example (other scope, other system prompt) are never looked at together.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from echo_proxy.learning.memory import Memory
from echo_proxy.policy import Policy, Reward
from echo_proxy.policy_keeping import CoveragePolicy
from echo_proxy.protocols import Ledger
from echo_proxy.types import DecisionRecord, Json, Lesson
from echo_proxy.upkeep.linkage import average_linkage

_LESSONS = 500
"""Lessons read at once."""
_MOST = 2_000
"""Newest requests of a scope and system prompt that are looked at: their distances take 16 MB, and 0.3 s."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Requests that resemble one another, and how they were answered."""

    decision_id: str
    """Of the request nearest to their middle, which stands for them."""
    n_requests: int
    quality: float
    """Mean, weighted by how much each estimate counts as evidence, [0, 1]."""
    cost_usd: float
    """Mean of an answer."""
    with_examples: float
    """Share that was answered with examples, [0, 1]."""
    lost: float
    """Reward that all of them together fell short of for lack of quality and for their cost."""


@dataclass(frozen=True, slots=True)
class Told:
    """A cluster with what its representative's record says."""

    cluster: Cluster
    record: DecisionRecord | None
    """None when it is forgotten by now."""

    @property
    def text(self) -> str:
        """What the representative asked, perhaps cut; empty when it is not known."""
        text = self.record.explanation.get("request") if self.record else None
        return text if isinstance(text, str) else ""

    def to_json(self) -> dict[str, Json]:
        """For the report, without the text: reports are kept when the record is long forgotten."""
        one = self.cluster
        return {
            "decision_id": one.decision_id,
            "scope": self.record.scope if self.record else "",
            "n_requests": one.n_requests,
            "quality": round(one.quality, 4),
            "cost_usd": one.cost_usd,
            "with_examples": round(one.with_examples, 4),
            "lost": round(one.lost, 4),
        }


async def clusters_of(store: Ledger, policy: Policy) -> tuple[Told, ...]:
    """The clusters that the policy wants to be told of, the most lost reward first. Raises StoreError."""
    assert policy.upkeep.coverage is not None  # asked for only where it is wanted
    lessons = await _lessons(store, policy.bandit.memory)
    found = await asyncio.to_thread(find_clusters, lessons, policy, policy.upkeep.coverage)
    return tuple([Told(one, await store.decision(one.decision_id)) for one in found])


async def _lessons(store: Ledger, most: int) -> tuple[Lesson, ...]:
    """The newest, each as it is known now."""
    memory, cursor = Memory(most), ""
    while True:
        page = await store.lessons(cursor, _LESSONS)
        if not page.lessons:
            return memory.snapshot()
        for one in page.lessons:
            memory.absorb(one)
        cursor = page.cursor


def find_clusters(lessons: Sequence[Lesson], policy: Policy, rules: CoveragePolicy) -> tuple[Cluster, ...]:
    """The clusters of at least `min_requests`, the most lost reward first, `n_clusters` at most."""
    circles: defaultdict[str, list[Lesson]] = defaultdict(list)
    for lesson in lessons:
        if lesson.situation.vector is not None and lesson.circle:
            circles[lesson.circle].append(lesson)
    sizes = {arm.name: arm.n_examples for arm in policy.to_arms()}
    found = [
        _cluster(members, sizes, policy.reward)
        for circle in circles.values()
        if len(circle) >= rules.min_requests
        for members in _alike(circle[-_MOST:], policy.selection.utility.half_distance)
        if len(members) >= rules.min_requests
    ]
    return tuple(sorted(found, key=lambda one: (-one.lost, one.decision_id))[: rules.n_clusters])


def _alike(lessons: Sequence[Lesson], distance: float) -> list[list[Lesson]]:
    """Lessons in groups: on average no farther apart than an example that helps is from its request."""
    groups: defaultdict[int, list[Lesson]] = defaultdict(list)
    labels = average_linkage(_vectors(lessons), max(distance, 1e-6))
    for label, lesson in zip(labels.tolist(), lessons, strict=True):
        groups[label].append(lesson)
    return list(groups.values())


def _vectors(lessons: Sequence[Lesson]) -> NDArray[np.float32]:
    return np.stack([one.situation.vector for one in lessons if one.situation.vector is not None])  # (n, dimensions)


def _cluster(lessons: Sequence[Lesson], sizes: Mapping[str, int], reward: Reward) -> Cluster:
    vectors = _vectors(lessons)
    nearest = int((vectors @ vectors.mean(axis=0)).argmax())
    weights = np.array([max(one.quality_weight, 1e-9) for one in lessons])  # (n,)
    quality = float(np.average([one.quality for one in lessons], weights=weights))
    costs = np.array([one.cost_usd for one in lessons])  # (n,)
    helped = [one.is_acted and one.situation.n_chosen > 0 and sizes.get(one.arm, 0) > 0 for one in lessons]
    dear = float(np.minimum(costs / reward.cost_scale_usd, 1.0).mean())
    total = reward.quality_weight + reward.cost_weight + reward.latency_weight
    lost = len(lessons) * (reward.quality_weight * (1 - quality) + reward.cost_weight * dear) / total
    return Cluster(
        decision_id=lessons[nearest].decision_id,
        n_requests=len(lessons),
        quality=quality,
        cost_usd=float(costs.mean()),
        with_examples=float(np.mean(helped)),
        lost=lost,
    )
