"""The composition root: start, upkeep, reload, stop; over fakes, driven by events instead of time."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from echo_proxy.app import App, build_app, make_embedder, open_store, store_url
from echo_proxy.embedders.hosted import HostedEmbedder
from echo_proxy.embedders.local import LocalEmbedder
from echo_proxy.errors import PolicyError, SchemaMismatch, SettingsError, StoreError
from echo_proxy.lane import Lane
from echo_proxy.learning.linear_model import LinearModel
from echo_proxy.policy import Retrieval
from echo_proxy.policy_files import load_policies, load_policy
from echo_proxy.settings import Settings
from echo_proxy.stores.embedded import EmbeddedRedis
from echo_proxy.types import ArmKey, ArmSums, Load, LocalReport, Plan, Settlement
from tests.builders import answer, call, lane, policy, served
from tests.fakes import FrozenClock, HashingEmbedder, MemoryStore

RULES = """\
name: test
match: {{model_groups: [{group}]}}
arms: [{{deployment: large, teacher: true}}]
bandit: {{kind: {kind}}}
"""
NO_MODEL = "admission: {privacy: {presidio: {model: en_core_web_none}}}\n"
REFRESH_S = 0.005
OTHER_INDEX = {"flat": "hnsw", "hnsw": "flat"}[Retrieval().index]


def write_policy(folder: Path, group: str = "auto", kind: str = "uniform", more: str = "") -> Path:
    path = folder / "p.yaml"
    path.write_text(RULES.format(group=group, kind=kind) + more)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + len(path.read_text())))
    return path


def app_of(store: MemoryStore, path: Path, one: Lane | None = None) -> App:
    made = one or lane(load_policy(path), store)
    made.is_open = False
    return App(Settings(policy=str(path), refresh_s=REFRESH_S), [made], HashingEmbedder())


async def until(condition: Callable[[], Any], what: str) -> None:
    """Let the upkeep run; fails after a good while."""
    try:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0)
    except TimeoutError:
        pytest.fail(f"{what} did not come true")


async def settle_one(one: Lane) -> str:
    made = await one.plan(call(), {"large"})
    assert isinstance(made, Plan)
    one.settle(made, answer(), [served()])
    return made.request.decision_id


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def app(store: MemoryStore, tmp_path: Path) -> AsyncIterator[App]:
    made = app_of(store, write_policy(tmp_path))
    await made.start()
    yield made
    await made.stop()


async def test_a_lane_is_found_by_its_group(app: App) -> None:
    """Other groups have none."""
    assert app.lane_for("auto") is app.lanes["test"]
    assert app.lane_for("other") is None


async def test_start_opens_the_store_and_reads_what_is_known(store: MemoryStore, tmp_path: Path) -> None:
    """Before the first request."""
    key = ArmKey("large+0", "all")
    store.evidence[key] = ArmSums(3.0, 2.0, 1.0)
    made = app_of(store, write_policy(tmp_path))

    await made.start()
    known = made.lanes["test"].parts.knowledge.sums(key)
    await made.stop()

    assert (made.lanes["test"].is_open, known) == (True, ArmSums(3.0, 2.0, 1.0))


async def test_outcomes_are_written_as_they_come(app: App, store: MemoryStore) -> None:
    """And what others learn is read every refresh_s."""
    decision_id = await settle_one(app.lanes["test"])
    await until(lambda: decision_id in store.records, "the record")
    store.evidence[ArmKey("large+0", "others")] = ArmSums(1.0, 1.0, 1.0)
    clock = app.lanes["test"].parts.clock
    assert isinstance(clock, FrozenClock)
    clock.time += 1

    await until(
        lambda: app.lanes["test"].parts.knowledge.sums(ArmKey("large+0", "others")).weight, "the others' evidence"
    )
    assert store.counts["key:a", "decisions"] == 1.0


async def test_a_store_that_is_away_at_the_start_is_tried_again(store: MemoryStore, tmp_path: Path) -> None:
    """Meanwhile outcomes wait."""
    store.is_away = True
    made = app_of(store, write_policy(tmp_path))
    await made.start()
    was_open = made.lanes["test"].is_open
    decision_id = await settle_one(made.lanes["test"])
    store.is_away = False

    await until(lambda: decision_id in store.records, "the record")
    await made.stop()
    assert was_open is False


class _Misfit(MemoryStore):
    """Holds examples of another embedding model."""

    n_opened = 0

    async def open(self) -> None:
        self._reach()
        self.n_opened += 1
        raise SchemaMismatch("another model")


async def test_a_store_that_does_not_fit_stops_the_start(tmp_path: Path) -> None:
    """Better no start than a wrong one."""
    made = app_of(_Misfit(), write_policy(tmp_path))

    with pytest.raises(SchemaMismatch):
        await made.start()


async def test_a_store_that_turns_out_not_to_fit_later_is_a_complaint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The upkeep goes on: an operator may repair it while the proxy serves."""
    store = _Misfit()
    store.is_away = True
    made = app_of(store, write_policy(tmp_path))
    await made.start()
    store.is_away = False

    await until(lambda: store.n_opened >= 2, "a second try")
    await made.stop()
    assert "the store cannot be used" in caplog.text
    assert "upkeep has ended" not in caplog.text


async def test_stop_writes_what_waits(store: MemoryStore, tmp_path: Path) -> None:
    """Then lets go; twice does no harm."""
    made = app_of(store, write_policy(tmp_path))
    await made.start()
    decision_id = await settle_one(made.lanes["test"])

    await made.stop()
    await made.stop()

    assert decision_id in store.records


class _Slow(MemoryStore):
    """Holds the first settlement up until it is cancelled."""

    is_writing = False

    async def settle(self, settlement: Settlement) -> bool:
        if not self.is_writing:
            self.is_writing = True
            await asyncio.Event().wait()
        return await super().settle(settlement)


async def test_stop_loses_nothing_that_is_being_written(tmp_path: Path) -> None:
    """The upkeep is cut off in the middle of a write."""
    store = _Slow()
    made = app_of(store, write_policy(tmp_path))
    await made.start()
    decision_id = await settle_one(made.lanes["test"])
    await until(lambda: store.is_writing, "a write")

    await made.stop()

    assert list(store.records) == [decision_id]


class _Buggy(MemoryStore):
    async def sums(self) -> Mapping[ArmKey, ArmSums]:
        if self.records:
            raise KeyError("a bug")
        return {}


async def test_an_upkeep_that_dies_does_not_die_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A bug of ours must not end learning unnoticed."""
    made = app_of(_Buggy(), write_policy(tmp_path))
    await made.start()
    clock = made.lanes["test"].parts.clock
    assert isinstance(clock, FrozenClock)
    clock.time += 1
    await settle_one(made.lanes["test"])

    await until(lambda: "upkeep has ended" in caplog.text, "the complaint")
    await made.stop()
    assert made.upkeep_error == "upkeep has ended in this worker: KeyError: 'a bug'"


class _Refusing(MemoryStore):
    """Answers, but refuses counts and sums until it is repaired."""

    n_counted = n_summed = 0
    is_repaired = True

    async def count(self, counters: Mapping[tuple[str, str], float]) -> None:
        self.n_counted += 1
        if not self.is_repaired:
            raise StoreError("no room")
        await super().count(counters)

    async def sums(self) -> Mapping[ArmKey, ArmSums]:
        self.n_summed += 1
        if not self.is_repaired:
            raise StoreError("no room")
        return await super().sums()


async def test_the_upkeep_outlives_a_store_that_refuses_counts(tmp_path: Path) -> None:
    """It tries again until the store takes them; each is written once."""
    store = _Refusing()
    made = app_of(store, write_policy(tmp_path))
    await made.start()
    store.is_repaired = False
    await settle_one(made.lanes["test"])
    await until(lambda: store.n_counted >= 2, "a second try")
    store.is_repaired = True

    await until(lambda: store.counts, "the counts")
    await made.stop()
    assert store.counts["key:a", "decisions"] == 1.0
    assert made.upkeep_error is None


async def test_the_upkeep_outlives_a_store_that_does_not_tell_what_was_learned(tmp_path: Path) -> None:
    """It asks again at the next refresh."""
    store = _Refusing()
    store.is_repaired = False
    made = app_of(store, write_policy(tmp_path))
    await made.start()
    clock = made.lanes["test"].parts.clock
    assert isinstance(clock, FrozenClock)
    await until(lambda: store.n_summed >= 2, "a second try")
    store.is_repaired = True
    key = ArmKey("large+0", "all")
    store.evidence[key] = ArmSums(3.0, 2.0, 1.0)
    clock.time += 1

    await until(lambda: made.lanes["test"].parts.knowledge.sums(key).weight, "the evidence")
    await made.stop()
    assert made.upkeep_error is None


# ------------------------------------------------------------------ reload


async def test_a_changed_policy_is_adopted_while_running(app: App, tmp_path: Path) -> None:
    """Its lane, store and knowledge stay; its groups may change."""
    before = app.lanes["test"]
    write_policy(tmp_path, group="more", kind="ucb1")

    await until(lambda: app.lane_for("more"), "the new group")
    assert app.lane_for("more") is before
    assert (before.policy.bandit.kind, app.lane_for("auto"), app.policy_error) == ("ucb1", None, None)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ("modee: act\n", ":5: modee: no such key is known here"),
        ("mode: !!bool x\n", ":5: expected YAML, got: a value that cannot be read"),
        (f"retrieval: {{index: {OTHER_INDEX}}}\n", "policy test: a change of retrieval.index needs a restart"),
        ("log: {ttl_s: 86399}\n", "policy test: a change of log.ttl_s needs a restart"),
        ("log: {length: 1234}\n", "policy test: a change of log.length needs a restart"),
        ("log: {ttl_s: 86399, length: 1234}\n", "policy test: a change of log.ttl_s, log.length needs a restart"),
        (NO_MODEL, "policy test: admission.privacy.presidio.model: expected an installed spaCy model"),
    ],
)
async def test_a_wrong_policy_is_refused_while_running(app: App, tmp_path: Path, more: str, complaint: str) -> None:
    """The old one stays in force, the reason is shown, and a repair is taken."""
    before = app.lanes["test"].policy
    path = write_policy(tmp_path, more=more)
    await until(lambda: app.policy_error, "the complaint")
    refused, kept = app.policy_error, app.lanes["test"].policy
    path.write_text(RULES.format(group="auto", kind="ucb1"))
    os.utime(path, ns=(0, 77))

    await until(lambda: app.policy_error is None, "the repair")
    assert complaint in str(refused)
    assert kept is before
    assert app.lanes["test"].policy.bandit.kind == "ucb1"


async def test_a_policy_file_that_vanishes_changes_nothing(app: App, tmp_path: Path) -> None:
    """It is a mistake like any other."""
    (tmp_path / "p.yaml").unlink()

    await until(lambda: app.policy_error, "the complaint")
    assert "got nothing there" in str(app.policy_error)
    assert app.lane_for("auto") is not None


async def test_a_running_proxy_keeps_its_set_of_policies(store: MemoryStore, tmp_path: Path) -> None:
    """Each owns a store."""
    made = app_of(store, write_policy(tmp_path))
    path = tmp_path / "p.yaml"
    path.write_text(path.read_text().replace("name: test", "name: another"))

    await made.reload()

    assert "keeps its policies ['test'], got ['another']; restart it" in str(made.policy_error)


async def test_a_change_of_the_memory_needs_a_restart(app: App, tmp_path: Path) -> None:
    """The store's own length hangs on it."""
    write_policy(tmp_path, kind="uniform, memory: 100")

    await until(lambda: app.policy_error, "the complaint")
    assert "a change of bandit.memory needs a restart" in str(app.policy_error)


async def test_what_requests_look_at_changes_on_the_loop(
    app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are read in another thread, but no request meets half a reload."""
    threads: dict[str, int] = {}
    lane_of_app, read = app.lanes["test"], load_policies
    adopt = lane_of_app.adopt

    def noting_read(places: Any) -> Any:
        threads["read"] = threading.get_ident()
        return read(places)

    def noting_adopt(*changes: Any) -> None:
        threads["adopt"] = threading.get_ident()
        adopt(*changes)

    monkeypatch.setattr("echo_proxy.app.load_policies", noting_read)
    monkeypatch.setattr(lane_of_app, "adopt", noting_adopt)
    write_policy(tmp_path, kind="ucb1")
    await until(lambda: "adopt" in threads, "the reload")

    assert threads["adopt"] == threading.get_ident() != threads["read"]


@pytest.mark.parametrize("is_away", [False, True])
async def test_a_policy_s_own_model_decides_from_the_start(store: MemoryStore, tmp_path: Path, is_away: bool) -> None:
    """Also while the store is away."""
    store.is_away = is_away
    made = app_of(store, write_policy(tmp_path, kind="linear_thompson"))
    await made.start()
    model = made.lanes["test"].parts.knowledge.model
    await made.stop()

    assert isinstance(model, LinearModel)


async def test_a_fit_that_fails_stops_neither_start_nor_upkeep(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outcomes are written all the same."""

    def fail(*given: Any) -> None:
        raise ValueError("odd")

    monkeypatch.setattr("echo_proxy.fitting.fit_outcomes", fail)
    made = app_of(store, write_policy(tmp_path))
    await made.start()
    decision_id = await settle_one(made.lanes["test"])
    await until(lambda: decision_id in store.records, "the record")
    await made.stop()

    assert made.upkeep_error is None


async def test_nothing_waits_for_a_fit(store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is under way, outcomes are written."""
    made = app_of(store, write_policy(tmp_path))
    await made.start()
    gate, begun = threading.Event(), threading.Event()

    def hang(*given: Any) -> None:
        begun.set()
        gate.wait()

    monkeypatch.setattr("echo_proxy.fitting.fit_outcomes", hang)
    try:
        write_policy(tmp_path, kind="ucb1")
        await until(begun.is_set, "the fit after the reload")
        decision_id = await settle_one(made.lanes["test"])
        await until(lambda: decision_id in store.records, "the record")
    finally:
        gate.set()
        await made.stop()


# ------------------------------------------------------------------ building


def test_the_parts_are_built_from_settings_and_policies(tmp_path: Path) -> None:
    """A lane per policy, nothing opened yet."""
    settings = Settings(
        policy=str(write_policy(tmp_path)), state_dir=tmp_path, store_url=f"sqlite://{tmp_path}/echo.db"
    )  # type: ignore[arg-type]

    made = build_app(settings)

    assert list(made.lanes) == ["test"]
    assert made.embedder.model == "all-minilm-l6-v2-int8"
    assert made.lanes["test"].is_open is False
    assert not (tmp_path / "echo.db").exists()


def test_a_wrong_policy_stops_the_start(tmp_path: Path) -> None:
    """With the place of the mistake."""
    with pytest.raises(PolicyError, match=r"p\.yaml:5: modee"):
        build_app(Settings(policy=str(write_policy(tmp_path, more="modee: act\n"))))


def test_privacy_rules_that_cannot_be_applied_stop_the_start(tmp_path: Path) -> None:
    """Instead of a proxy that keeps nothing."""
    with pytest.raises(PolicyError, match=r"policy test: admission\.privacy\.presidio\.model: expected an installed"):
        build_app(Settings(policy=str(write_policy(tmp_path, more=NO_MODEL))))


def test_a_wrong_store_url_stops_the_start() -> None:
    """Without telling the URL, which may hold a password."""
    with pytest.raises(SettingsError) as caught:
        open_store(policy(), HashingEmbedder(), "http://:secret@x", Settings(), FrozenClock())

    assert "ECHO_STORE_URL" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_embedder_is_local_unless_one_is_named() -> None:
    """Anything else is LiteLLM's."""
    hosted = make_embedder(Settings(embedder="openai/text-embedding-3-small", embedder_dimensions=1536))

    assert isinstance(make_embedder(Settings()), LocalEmbedder)
    assert isinstance(hosted, HostedEmbedder)
    assert (hosted.model, hosted.dimensions) == ("openai/text-embedding-3-small", 1536)


@pytest.mark.parametrize(
    ("given", "has_wheels", "expected"),
    [
        ("redis://there", True, "redis://there"),
        ("", True, "embedded:///state/redis"),
        ("", False, "sqlite:///state/echo.db"),
    ],
)
def test_the_best_store_of_this_machine_is_taken(
    monkeypatch: pytest.MonkeyPatch, given: str, has_wheels: bool, expected: str
) -> None:
    """Unless the settings name one."""
    monkeypatch.setattr(EmbeddedRedis, "is_available", staticmethod(lambda: has_wheels))

    assert store_url(Settings(store_url=given, state_dir=Path("/state"))) == expected  # type: ignore[arg-type]


class _Local:
    """One model whose queue grows each time it is asked."""

    def __init__(self) -> None:
        self.held = 0.0
        self.is_closed = False

    async def loads(self) -> Mapping[str, Load]:
        self.held += 1
        return {"large": Load(held=self.held, wait_s=2.0, service_s=0.5)}

    async def reports(self) -> tuple[LocalReport, ...]:
        return ()

    async def aclose(self) -> None:
        self.is_closed = True


async def test_the_router_knows_how_busy_local_models_are(store: MemoryStore, tmp_path: Path) -> None:
    """Asked again and again; other workers hear of it by the store; at the end the connections are closed."""
    made, local = app_of(store, write_policy(tmp_path)), _Local()
    made.watch(local)
    await made.start()
    board = made.lanes["test"].parts.knowledge.board
    await until(lambda: "large" in board.total(0.0) and board.total(0.0)["large"].held >= 3, "the queue's length")
    found = board.total(made.lanes["test"].parts.clock.now())["large"]
    await made.lanes["test"].read()
    await made.stop()
    ((told, _),) = store.reports.values()

    assert (found.waiting, found.wait_s, found.service_s) == (found.held, 2.0, 0.5)
    assert told["large"].held >= 3
    assert local.is_closed
