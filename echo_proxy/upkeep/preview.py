"""What would a round do, and what would it bring? Nobody is asked and nothing is written."""

from dataclasses import dataclass

from echo_proxy.policy import Policy
from echo_proxy.protocols import Clock, Store
from echo_proxy.types import Json
from echo_proxy.upkeep.coverage import Told, clusters_of
from echo_proxy.upkeep.cutoff import CutOff, Findings, price_of
from echo_proxy.upkeep.evict import EvictionPlan, plan_eviction
from echo_proxy.upkeep.fill import reason_to_leave
from echo_proxy.upkeep.replay import NOTE, due_for_replay, price_by_log
from echo_proxy.upkeep.run import RoundOptions
from echo_proxy.upkeep.unaided import unaided_answers

_MOST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Candidate:
    """An example that would be replayed."""

    example_id: str
    regret: float
    chance: float
    """Share of examples with such a regret that were improved, [0, 1]; 1 while nothing is known."""

    @property
    def expected_gain(self) -> float:
        """In regret."""
        return self.chance * self.regret


@dataclass(frozen=True, slots=True)
class ReplayPreview:
    """What replay would do."""

    candidates: tuple[Candidate, ...]
    """Those above the cut-off, most regret first; the budget may end before them."""
    n_due: int
    """With those below the cut-off."""
    usd_each: float | None
    """What one will probably cost; None = not known yet."""
    n_known: int
    """Outcomes that the chances were found from."""

    def to_json(self) -> dict[str, Json]:
        """For the command line."""
        return {
            "n_due": self.n_due,
            "n_above_cutoff": len(self.candidates),
            "expected_gain": sum(one.expected_gain for one in self.candidates),
            "usd_each": self.usd_each,
            "expected_usd": None if self.usd_each is None else self.usd_each * len(self.candidates),
            "outcomes_known": self.n_known,
            "candidates": [
                {"id": one.example_id, "regret": one.regret, "chance": one.chance, "expected_gain": one.expected_gain}
                for one in self.candidates[:_MOST_SHOWN]
            ],
        }


@dataclass(frozen=True, slots=True)
class Preview:
    """What a round would do; None where it is not asked for."""

    eviction: EvictionPlan | None
    replay: ReplayPreview | None
    clusters: tuple[Told, ...] | None
    would_fill: int = 0
    """Clusters whose representatives could be asked for."""

    def to_json(self) -> dict[str, Json]:
        """For the command line."""
        told: dict[str, Json] = {}
        if self.eviction is not None:
            told["evict"] = self.eviction.to_json()
        if self.replay is not None:
            told["replay"] = self.replay.to_json()
        if self.clusters is not None:
            clusters: list[Json] = [{**one.to_json(), "request": one.text} for one in self.clusters]
            told["coverage"] = {"clusters": clusters, "would_fill": self.would_fill}
        return told


async def preview(policy: Policy, store: Store, clock: Clock, options: RoundOptions) -> Preview:
    """What a round would do now. Raises StoreError."""
    rules, now = policy.upkeep, clock.now()
    eviction = await _eviction(policy, store, now) if "evict" in options.work else None
    replay = await _replay(policy, store, now) if "replay" in options.work and rules.replay else None
    clusters = await clusters_of(store, policy) if "coverage" in options.work and rules.coverage else None
    fillable = sum(reason_to_leave(one.record, policy) is None for one in clusters or ())
    return Preview(eviction, replay, clusters, fillable if rules.coverage and rules.coverage.fill else 0)


async def _eviction(policy: Policy, store: Store, now: float) -> EvictionPlan:
    unaided = await unaided_answers(store, policy.to_arms())
    share, utility = policy.admission.writer_share, policy.selection.utility
    return await plan_eviction(store, policy.upkeep, now, share, utility, unaided)


async def _replay(policy: Policy, store: Store, now: float) -> ReplayPreview:
    assert policy.upkeep.replay is not None  # asked for only where it is wanted
    known = Findings.from_text(await store.note(NOTE))
    usd_each = known.usd_each if known.usd_each is not None else await price_by_log(policy, store)
    cutoff = CutOff(known.outcomes, policy.upkeep.replay.min_gain, price_of(usd_each or 0.0, policy))
    due = await due_for_replay(store, policy.upkeep, now, now)
    above = [one for one in due if cutoff.pays(one.regret)]
    candidates = [Candidate(one.example_id, one.regret, cutoff.share_improved(one.regret)) for one in above]
    return ReplayPreview(tuple(candidates), len(due), usd_each, len(known.outcomes))
