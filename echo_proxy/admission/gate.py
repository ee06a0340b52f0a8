"""Does an answer become an example, and for whom?

The order of the steps; each that says no ends it, with its reason:

    online/admit.py   at once   opt-out and policy > whole answer > no refusal, no boilerplate > validators
    Gate.admit        later     privacy > near-duplicate > quality floor > writer's share
                                > quarantine, kept, copies for wider scopes

What comes later runs beside the path, from the outbox, and may run again after a failure: it then comes to the same.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from echo_proxy.admission.cleanse import cleansed
from echo_proxy.admission.copies import copy_for
from echo_proxy.admission.floor import worth
from echo_proxy.admission.quarantine import Quarantine, Witness, quarantined
from echo_proxy.admission.refused import Refused
from echo_proxy.admission.twins import merged, standing, twins_of
from echo_proxy.admission.writers import WriterShares
from echo_proxy.policy import Policy
from echo_proxy.privacy.clean import clean
from echo_proxy.protocols import Clock, Embedder, Examples
from echo_proxy.types import Example


@dataclass(frozen=True, slots=True)
class Arrival:
    """An example that wants to be kept."""

    example: Example
    asked: str
    """Text that its vector stands for."""
    wider: tuple[str, ...] = ()
    """Scopes that are to have a copy of it."""
    deviation: float | None = None
    """Standard deviation of its quality; None = its quality is a guess about which nothing more is known."""
    team: str = ""
    """Of its writer; empty = none is known."""
    confirm_right: Callable[[], Awaitable[None]] | None = None
    """Awaited right before it is written: raises LeaseLost where who brings it may no longer write."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What became of it."""

    example_id: str
    """Stored example that holds the answer from now on; empty when none does."""
    refusal: str | None = None
    """Why it was not kept itself; None when it was."""
    counts: tuple[str, ...] = ()
    """What else happened: confirmed, released, shared, unshared:<reason>, each as often as it did."""
    doubted: tuple[Example, ...] = ()
    """In others' quarantine, with another answer to the same request: a judge may be asked about them."""


class Gate:
    """The gate of one policy in one worker. Belongs to one event loop."""

    def __init__(self, store: Examples, embedder: Embedder, clock: Clock) -> None:
        self._store = store
        self._embedder = embedder
        self._clock = clock
        self._shares = WriterShares(store, clock)
        self.quarantine = Quarantine(store, clock)
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def admit(self, arrival: Arrival, policy: Policy) -> Admission:
        """Keep an example, with its copies, or say why not. Raises StoreUnavailable, and what `confirm_right` does."""
        rules = policy.admission
        try:
            example, asked = await cleansed(arrival.example, arrival.asked, rules.privacy, clean, self._embedder)
        except Refused as refused:
            return Admission("", refused.reason)
        made = await self._place(example, arrival, policy)
        if made.refusal is not None:
            return made
        shared = [await self._share(example, asked, scope, arrival, policy) for scope in arrival.wider]
        return Admission(
            made.example_id,
            None,
            (*made.counts, *(name for one in shared for name in one.counts)),
            (*made.doubted, *(example for one in shared for example in one.doubted)),
        )

    async def _share(self, example: Example, asked: str, scope: str, arrival: Arrival, policy: Policy) -> Admission:
        """Put a copy into a wider scope, which has twins, quarantine and shares of its own."""
        try:
            copy = await copy_for(example, asked, scope, policy.admission.privacy, self._embedder)
        except Refused as refused:
            return Admission("", refused.reason, (f"unshared:{refused.reason}",))
        made = await self._place(copy, arrival, policy)
        name = "shared" if made.refusal is None else f"unshared:{made.refusal}"
        return Admission(made.example_id, made.refusal, (*made.counts, name), made.doubted)

    async def _place(self, example: Example, arrival: Arrival, policy: Policy) -> Admission:
        """One at a time of those that might be twins: two that do not see each other would both be kept."""
        lock = self._locks.setdefault((example.scope, example.partition), asyncio.Lock())
        async with lock:
            return await self._placed(quarantined(example, policy.admission.quarantine), arrival, policy)

    async def _placed(self, example: Example, arrival: Arrival, policy: Policy) -> Admission:
        rules = policy.admission
        near = await twins_of(example, policy, self._store)
        stands = standing(example, near, rules.deviations)
        if any(one.id == example.id for one in near):  # written before the store failed, with its twins' counts
            await self._store.remove([one.id for one in stands.replaced])
            return Admission(example.id)
        counts: list[str] = []
        try:
            is_good = worth(example.quality, arrival.deviation, rules.deviations) >= rules.min_quality
            # what nobody's teacher told him, promoted or asked for by upkeep, vouches for nobody
            is_witness = example.origin in ("traffic", "shared")
            if is_good and is_witness and not (stands.holder is not None and stands.holder.reader == ""):
                witness = Witness(example.writer, example.person, arrival.team)
                await self._confirm(stands.confirmed, witness, policy, counts)
            if stands.holder is not None:
                raise Refused("duplicate", stands.holder.id)
            if stands.better is not None:
                raise Refused("worse_than_twin")
            if not is_good:
                raise Refused("quality")
            await self._keep(example, stands.replaced, arrival, policy)
        except Refused as refused:
            return Admission(refused.holder_id, refused.reason, tuple(counts), stands.doubted)
        return Admission(example.id, None, tuple(counts), stands.doubted)

    async def _confirm(self, waiting: Sequence[Example], witness: Witness, policy: Policy, counts: list[str]) -> None:
        """Vouch for those that say the same, the oldest first. One that is released by it serves everybody, and the
        writer needs none of his own."""
        for one in sorted(waiting, key=lambda one: one.created_at):
            if await self.quarantine.confirm(one, witness, policy):
                counts.append("released")
                raise Refused("duplicate", one.id)
            counts.append("confirmed")

    async def _keep(self, example: Example, replaced: Sequence[Example], arrival: Arrival, policy: Policy) -> None:
        """Write it, with the counts of those whose place it takes. Raises Refused when its writer has no room."""
        grown = example.n_bytes - sum(one.n_bytes for one in replaced if one.writer == example.writer)
        if not await self._shares.has_room(example.writer, grown, policy):
            raise Refused("writer_share")
        if replaced:
            example = merged(example, replaced, self._clock.now(), policy.upkeep.offload_decay)
        if arrival.confirm_right is not None:
            await arrival.confirm_right()
        await self._store.add(example)
        self._shares.add(example.writer, grown)
        if replaced:
            await self._store.remove([one.id for one in replaced])
