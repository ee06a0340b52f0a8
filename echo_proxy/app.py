"""The composition root: settings and policies become lanes at work. Only here are adapters built.

A little over 300 lines: what is built, started, reloaded and stopped here belongs to one another.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from echo_proxy.beside import Models
from echo_proxy.clock import SystemClock
from echo_proxy.embedders.cached import CachedEmbedder
from echo_proxy.embedders.local import LocalEmbedder
from echo_proxy.errors import PolicyError, StoreError, StoreUnavailable
from echo_proxy.lane import Lane
from echo_proxy.learning.best_effort import BestEffort, read_values
from echo_proxy.learning.fit_utility import warm_up
from echo_proxy.learning.knowledge import Knowledge
from echo_proxy.learning.utility import BetaUtility
from echo_proxy.pipeline import Parts
from echo_proxy.policy import Policy
from echo_proxy.policy_files import find_policies, load_policies
from echo_proxy.privacy.ready import make_ready
from echo_proxy.protocols import Clock, Embedder, Store, UtilityModel
from echo_proxy.settings import Settings
from echo_proxy.stores.connect import StoreConfig, make_store
from echo_proxy.stores.embedded import EmbeddedRedis
from echo_proxy.types import Load, LocalReport
from echo_proxy.upkeep.periodic import Periodic
from echo_proxy.upkeep.progress import LoggedProgress
from echo_proxy.upkeep.run import Tools

log = logging.getLogger("echo_proxy")

_HOSTED_EMBEDDING_S = 0.3
"""What a hosted embedding easily takes. guess, not yet measured"""
_MAX_BATCH = 8
"""The local model embeds a batch text by text (about 3 ms each): a longer one would keep its first text waiting."""
_MAX_WAITING = 4 * _MAX_BATCH
"""Texts that wait to be embedded; more could not be done within a planning deadline. guess, not yet measured"""


class LocalModels(Protocol):
    """The models that run beside the proxy."""

    async def loads(self) -> Mapping[str, Load]:
        """What their processes have to do (held, wait_s, service_s), by deployment; never raises."""
        ...

    async def reports(self) -> Sequence[LocalReport]:
        """How each model is, by name; never raises."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class _Change:
    """A new version of a policy, with what belongs to it."""

    policy: Policy
    utility: UtilityModel
    values: BestEffort | None


class App:
    """All lanes of one worker and what keeps them fresh. Belongs to one event loop."""

    def __init__(self, settings: Settings, lanes: Sequence[Lane], embedder: Embedder) -> None:
        self.settings = settings
        self.lanes = {lane.policy.name: lane for lane in lanes}
        self.embedder = embedder
        self.upkeep_error: str | None = None
        """Why nothing more is learned in this worker; None when all is well."""
        self.policy_error: str | None = None
        """Why the last reload of the policies was refused; None when all is well."""
        self.local: LocalModels | None = None
        """None where there are none."""
        self._models: Models | None = None
        self._groups = _by_group(lanes)
        self._stamps = _stamps(settings)
        self._check: Callable[[Policy], None] = _accept
        self._tasks: list[asyncio.Task[None]] = []

    def lane_for(self, model_group: str) -> Lane | None:
        """The lane that serves a model group."""
        return self._groups.get(model_group)

    def must_fit(self, check: Callable[[Policy], None]) -> None:
        """Check the policies now and at every reload; `check` raises PolicyError."""
        self._check = check
        for lane in self.lanes.values():
            check(lane.policy)

    def ask_by(self, models: Models) -> None:
        """Judge and shadow calls, and those of upkeep, are made by these; before `start`."""
        self._models = models
        for lane in self.lanes.values():
            lane.ask_by(models)

    def watch(self, local: LocalModels) -> None:
        """The router is to know how busy these are; before `start`."""
        self.local = local

    async def start(self) -> None:
        """Load the embedder, open the stores, begin the upkeep. Raises SchemaMismatch; a store that is away is
        tried again in the background while calls pass through."""
        if isinstance(self.embedder, CachedEmbedder):
            await self.embedder.embed(["warm up"])
        if any(lane.policy.selection.learned for lane in self.lanes.values()):
            await asyncio.to_thread(warm_up)
        for lane in self.lanes.values():
            self._warn_of_short_deadline(lane.policy)
            await lane.fitting.fit()  # to nothing yet: what the policy's models expect of an arm that was never seen
            await self._open(lane)
            await lane.fitting.fit()
        self._tasks = [asyncio.create_task(self._keep_fresh(lane)) for lane in self.lanes.values()]
        self._tasks += [asyncio.create_task(lane.beside.run()) for lane in self.lanes.values() if lane.beside]
        self._tasks += [asyncio.create_task(self._upkeep_of(lane).run()) for lane in self.lanes.values()]
        self._tasks.append(asyncio.create_task(self._watch_policies()))
        if self.local is not None:
            self._tasks.append(asyncio.create_task(self._watch_queues(self.local)))
        for task in self._tasks:
            task.add_done_callback(self._report_death)

    def _report_death(self, task: asyncio.Task[None]) -> None:
        """Upkeep runs until it is cancelled; a bug that ends it must not go unnoticed."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.upkeep_error = f"upkeep has ended in this worker: {type(error).__name__}: {error}"
            log.critical("upkeep has ended in this worker; restart it", exc_info=error)

    def _warn_of_short_deadline(self, policy: Policy) -> None:
        if self.settings.embedder != "local" and policy.deadline_s < _HOSTED_EMBEDDING_S:
            log.warning(
                "policy %s: deadline_s is %g, but a hosted embedding often takes longer than %g s; raise it or most "
                "new requests will be bypassed",
                policy.name,
                policy.deadline_s,
                _HOSTED_EMBEDDING_S,
            )

    async def stop(self) -> None:
        """Write what waits, then let go."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for lane in self.lanes.values():
            await lane.fitting.stop()
            if not await lane.write():
                log.warning("policy %s: %d outcomes could not be written", lane.policy.name, len(lane.outbox))
            await lane.parts.store.close()
        if self.local is not None:
            await self.local.aclose()

    async def _open(self, lane: Lane) -> None:
        try:
            await lane.parts.store.open()
        except StoreUnavailable as error:
            log.warning("policy %s: the store is away, calls go on without examples: %s", lane.policy.name, error)
            return
        lane.is_open = True
        await lane.read()

    async def _open_again(self, lane: Lane) -> None:
        """Once the proxy is up, a store that does not fit is a complaint, not an end."""
        try:
            await self._open(lane)
        except StoreError as error:
            log.error("policy %s: the store cannot be used, calls go on without examples: %s", lane.policy.name, error)

    async def _keep_fresh(self, lane: Lane) -> None:
        """Write outcomes as they come; read what others learned every refresh_s."""
        refresh_s = self.settings.refresh_s
        due = 0.0
        while True:
            try:
                async with asyncio.timeout(refresh_s):
                    await lane.outbox.arrived.wait()
            except TimeoutError:
                pass
            if not lane.is_open:
                await self._open_again(lane)
            is_written = lane.is_open and await lane.write()
            if is_written and lane.parts.clock.monotonic() >= due:
                await lane.read()
                lane.fitting.begin()
                due = lane.parts.clock.monotonic() + refresh_s
            if not is_written:
                await asyncio.sleep(refresh_s)

    def _upkeep_of(self, lane: Lane) -> Periodic:
        board, clock = lane.parts.knowledge.board, lane.parts.clock

        async def loads() -> Mapping[str, Load]:
            return board.total(clock.now())

        def tools() -> Tools | None:
            if not lane.is_open:
                return None
            progress = LoggedProgress(lane.policy.name)
            return Tools(lane.policy, lane.parts.store, self.embedder, clock, self._models, loads, progress)

        return Periodic(tools, lane.worker, lane.counts)

    async def _watch_queues(self, local: LocalModels) -> None:
        while True:
            loads = await local.loads()
            for lane in self.lanes.values():
                lane.parts.knowledge.board.tell(loads, lane.parts.clock.now())
            await asyncio.sleep(self.settings.refresh_s)

    async def _watch_policies(self) -> None:
        while True:
            await asyncio.sleep(self.settings.refresh_s)
            stamps = await asyncio.to_thread(_stamps, self.settings)
            if stamps != self._stamps:
                self._stamps = stamps
                await self.reload()

    async def reload(self) -> None:
        """Take over changed policies; all stay as they are when one is wrong.

        Files are read in a thread; what requests look at changes on the loop, in one step.
        """
        try:
            changes = await asyncio.to_thread(self._load)
        except PolicyError as error:
            self.policy_error = str(error)
            log.error("policies not reloaded, the old ones stay: %s", error)
            return
        self._adopt(changes)

    def _load(self) -> Sequence[_Change]:
        """Every policy, checked. Raises PolicyError."""
        policies = load_policies(self.settings.policy_places)
        self._refuse_new_lanes(policies)
        for policy in policies:
            self._check(policy)
        make_ready(policies)
        return [_Change(policy, make_utility(policy), read_values(policy)) for policy in policies]

    def _adopt(self, changes: Sequence[_Change]) -> None:
        for change in changes:
            lane = self.lanes[change.policy.name]
            lane.adopt(change.policy, change.utility)
            lane.parts.knowledge.values = change.values
            lane.fitting.begin()
        self._groups = _by_group(list(self.lanes.values()))
        self.policy_error = None
        log.info("policies reloaded: %s", ", ".join(self.lanes))

    def _refuse_new_lanes(self, policies: Sequence[Policy]) -> None:
        """A lane owns a store: which lanes there are, and their index, is settled at the start."""
        names = {policy.name for policy in policies}
        if names != set(self.lanes):
            raise PolicyError(
                f"a running proxy keeps its policies {sorted(self.lanes)}, got {sorted(names)}; restart it"
            )
        for policy in policies:
            held, wanted = _held_by_store(self.lanes[policy.name].policy), _held_by_store(policy)
            changed = [name for name in held if held[name] != wanted[name]]
            if changed:
                raise PolicyError(
                    f"policy {policy.name}: a change of {', '.join(changed)} needs a restart of the proxy"
                )


def _accept(policy: Policy) -> None:
    """Outside a proxy there is nothing to check a policy against."""


def build_app(settings: Settings, clock: Clock | None = None) -> App:
    """Everything put together, nothing started. Raises PolicyError, StoreError."""
    clock = clock or SystemClock()
    policies = load_policies(settings.policy_places)
    make_ready(policies)
    embedder = CachedEmbedder(make_embedder(settings), max_batch=_MAX_BATCH, max_waiting=_MAX_WAITING)
    url = store_url(settings)
    lanes = [Lane(_parts(policy, embedder, url, settings, clock), settings.max_pending) for policy in policies]
    return App(settings, lanes, embedder)


def _parts(policy: Policy, embedder: Embedder, url: str, settings: Settings, clock: Clock) -> Parts:
    return Parts(
        policy=policy,
        embedder=embedder,
        store=open_store(policy, embedder, url, settings, clock),
        knowledge=_knowledge(policy),
        utility=make_utility(policy),
        clock=clock,
        new_seed=lambda: secrets.randbits(63),
    )


def _knowledge(policy: Policy) -> Knowledge:
    knowledge = Knowledge(policy)
    knowledge.values = read_values(policy)
    return knowledge


def open_store(policy: Policy, embedder: Embedder, url: str, settings: Settings, clock: Clock) -> Store:
    """The store of one policy, not connected yet."""
    return make_store(url, store_config(policy, embedder), clock, settings.store_timeout_s)


def store_config(policy: Policy, embedder: Embedder) -> StoreConfig:
    """What the store must know of a policy and of the embedder."""
    return StoreConfig(
        policy=policy.name,
        model=embedder.model,
        dimensions=embedder.dimensions,
        index=policy.retrieval.index,
        half_life_s=policy.bandit.half_life_s,
        decision_ttl_s=policy.log.ttl_s,
        log_length=policy.log.length,
        memory_length=2 * policy.bandit.memory,
        offload_decay=policy.upkeep.offload_decay,
    )


def make_utility(policy: Policy) -> UtilityModel:
    """The model that values examples."""
    return BetaUtility(policy.selection.utility)


def make_embedder(settings: Settings) -> Embedder:
    """The embedder that the settings name, not loaded yet."""
    if settings.embedder == "local":
        return LocalEmbedder()
    # LiteLLM takes two seconds to import and asks the network for prices: commands without it shall not wait for that
    from echo_proxy.embedders.hosted import HostedEmbedder

    key = settings.embedder_api_key
    return HostedEmbedder(
        settings.embedder,
        settings.embedder_dimensions,
        api_base=settings.embedder_api_base,
        api_key=key.get_secret_value() if key else None,
    )


def store_url(settings: Settings) -> str:
    """The store's URL, or the best embedded one that this machine can run."""
    given = settings.store_url.get_secret_value()
    if given:
        return given
    if EmbeddedRedis.is_available():
        return f"embedded://{settings.folder / 'redis'}"
    return f"sqlite://{settings.folder / 'echo.db'}"


def _held_by_store(policy: Policy) -> Mapping[str, object]:
    """Fields that a store takes over when it is made."""
    return {
        "retrieval.index": policy.retrieval.index,
        "bandit.half_life_s": policy.bandit.half_life_s,
        "bandit.memory": policy.bandit.memory,
        "log.ttl_s": policy.log.ttl_s,
        "log.length": policy.log.length,
        "upkeep.offload_decay": policy.upkeep.offload_decay,
    }


def _by_group(lanes: Sequence[Lane]) -> Mapping[str, Lane]:
    return {group: lane for lane in lanes for group in lane.policy.match.model_groups}


def _stamps(settings: Settings) -> Mapping[str, float]:
    """When each policy file last changed; a folder's list of files counts too."""
    try:
        return {str(path): path.stat().st_mtime for path in find_policies(settings.policy_places)}
    except (PolicyError, OSError):
        return {}
