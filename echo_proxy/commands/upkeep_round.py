"""What does `echo-proxy upkeep` do? One round on a policy's store, or what it would do."""

import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from echo_proxy.app import make_embedder, open_store, store_url
from echo_proxy.beside import Models
from echo_proxy.browse.visible import as_json
from echo_proxy.clock import SystemClock
from echo_proxy.commands.upkeep_view import show_preview, show_run
from echo_proxy.errors import EchoProxyError, SettingsError
from echo_proxy.policy import Policy
from echo_proxy.policy_files import load_policy
from echo_proxy.protocols import Clock, Embedder, Store
from echo_proxy.settings import Settings, read_settings
from echo_proxy.types import UpkeepRun
from echo_proxy.upkeep.asking import teacher_of
from echo_proxy.upkeep.idle import always_idle, loads_in
from echo_proxy.upkeep.preview import preview
from echo_proxy.upkeep.progress import ShownProgress
from echo_proxy.upkeep.run import ALL_WORK, BUSY, LOST, RoundOptions, Tools, Work, run_round

_DONE = ("done", "budget")


@dataclass(frozen=True, slots=True)
class UpkeepCommand:
    """What the command line asks for."""

    policy: Path
    config: Path | None = None
    is_dry: bool = False
    work: frozenset[str] = ALL_WORK
    usd: float | None = None
    seconds: float | None = None
    waits_for_idle: bool = True
    is_json: bool = False


async def upkeep(
    command: UpkeepCommand, console: Console | None = None, clock: Clock | None = None, store: Store | None = None
) -> int:
    """Do the round and print what came of it; returns the exit status.

    Raises PolicyError, SettingsError, StoreError, and EchoProxyError when the round failed.
    """
    console, clock = console or Console(), clock or SystemClock()
    settings, policy = read_settings(), load_policy(command.policy)
    _check(command, policy)
    embedder = make_embedder(settings)
    store = store or open_store(policy, embedder, store_url(settings), settings, clock)
    options = RoundOptions(cast(frozenset[Work], command.work), command.usd, command.seconds)
    await store.open()
    try:
        if command.is_dry:
            found = await preview(policy, store, clock, options)
            _print_json(found.to_json(), console) if command.is_json else show_preview(found, policy.name, console)
            return 0
        async with _models(command, policy, settings, clock) as models:
            run = await _round(command, policy, store, embedder, models, clock, options)
        texts = await _texts(run, store)
    finally:
        await store.close()
    _print_json(asdict(run), console) if command.is_json else show_run(run, policy.name, texts, console)
    return _status(run)


def _check(command: UpkeepCommand, policy: Policy) -> None:
    """Raises SettingsError."""
    for name, given in (("--usd", command.usd), ("--seconds", command.seconds)):
        if given is not None and not 0 <= given < float("inf"):
            raise SettingsError(f"{name} must be a number of at least 0, got {given}")
    if _asks(command, policy) and command.config is None:
        raise SettingsError(
            "--config must name LiteLLM's config where models are asked; got none. To ask nobody: --only evict, or "
            "--dry-run"
        )


def _asks(command: UpkeepCommand, policy: Policy) -> bool:
    rules = policy.upkeep
    wants_replay = "replay" in command.work and rules.replay is not None
    wants_fill = "coverage" in command.work and rules.coverage is not None and rules.coverage.fill
    return not command.is_dry and bool(teacher_of(policy)) and (wants_replay or wants_fill)


@asynccontextmanager
async def _models(
    command: UpkeepCommand, policy: Policy, settings: Settings, clock: Clock
) -> AsyncIterator[Models | None]:
    """None where nobody is asked."""
    if command.config is None or not _asks(command, policy):
        yield None
        return
    # LiteLLM takes seconds to import: eviction alone shall not wait for that
    from echo_proxy.litellm.config import check_policy, read_litellm_config
    from echo_proxy.litellm.standalone import standalone_models

    config = read_litellm_config(command.config)
    check_policy(policy, config)
    async with standalone_models(config, settings, clock) as models:
        yield models


async def _round(
    command: UpkeepCommand,
    policy: Policy,
    store: Store,
    embedder: Embedder,
    models: Models | None,
    clock: Clock,
    options: RoundOptions,
) -> UpkeepRun:
    with ShownProgress(Console(stderr=True)) as progress:
        loads = loads_in(store) if command.waits_for_idle else always_idle()
        tools = Tools(policy, store, embedder, clock, models, loads, progress)
        return await run_round(tools, options, holder_name())


async def _texts(run: UpkeepRun, store: Store) -> Mapping[str, str]:
    """What the representatives of the clusters asked, as far as it is on record."""
    report: Mapping[str, Any] = run.report
    told = [await store.decision(one["decision_id"]) for one in report.get("coverage", {}).get("clusters", ())]
    return {one.id: str(one.explanation.get("request") or "") for one in told if one is not None}


def holder_name() -> str:
    """Who does it, for the note and the lease; different in every process."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def _print_json(told: object, console: Console) -> None:
    console.print(as_json(told, indent=2), soft_wrap=True, highlight=False, markup=False)


def _status(run: UpkeepRun) -> int:
    if run.ending in (BUSY, LOST):
        return 3
    if run.ending not in _DONE:
        raise EchoProxyError(f"upkeep ended with {run.ending}: {run.report.get('error', 'no reason is known')}")
    return 0
