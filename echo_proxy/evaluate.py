"""Would a new policy do better than the running one? Says it from the log, before anything is switched."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from echo_proxy.app import make_embedder, open_store, store_url
from echo_proxy.clock import SystemClock
from echo_proxy.errors import EchoProxyError, SettingsError
from echo_proxy.offline.compare import compare
from echo_proxy.offline.evaluation import EvaluateOptions, Evaluation, Verdict
from echo_proxy.offline.history import History, read_history
from echo_proxy.offline.plot import plot
from echo_proxy.offline.report import show
from echo_proxy.offline.retrace import Traced, retrace
from echo_proxy.policy import Policy
from echo_proxy.policy_files import load_policy
from echo_proxy.protocols import Clock, Store
from echo_proxy.settings import read_settings
from echo_proxy.types import Arm

_STATUS = {Verdict.SWITCH: 0, Verdict.KEEP: 0, Verdict.NOT_PROVEN: 3, Verdict.NO_ANSWER: 4}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_FIXED_IN_LOG = (
    "scope",
    "retrieval",
    "selection",
    "prompt",
    "admission",
    "judge",
    "deadline",
    "budget",
    "stickiness",
)
"""Lines of a policy whose effect another policy's log cannot show: answers, examples and conditions are as logged."""


@dataclass(frozen=True, slots=True)
class EvaluateCommand:
    """What the command line asks for."""

    policy: Path
    against: Path | None = None
    since: str | None = None
    limit: int | None = None
    options: EvaluateOptions = field(default_factory=EvaluateOptions)
    plot: Path | None = None
    is_json: bool = False


async def evaluate(
    command: EvaluateCommand, console: Console | None = None, clock: Clock | None = None, store: Store | None = None
) -> int:
    """Print the evaluation; returns the exit status.

    Raises PolicyError, SettingsError, StoreError, and EchoProxyError when there are no decisions.
    """
    clock = clock or SystemClock()
    if command.options.clip is not None and not command.options.clip > 0:
        raise SettingsError(f"--clip must be above 0, got {command.options.clip:g}")
    since = _since(command.since, clock.now())
    new = load_policy(command.policy)
    running = load_policy(command.against) if command.against else None
    history = await _read(running or new, clock, store)
    if not history.finals:
        raise EchoProxyError(_no_lessons(running or new, running is None))
    since = max(since, _start_of_newest(history, command.limit))
    with _progress() as progress:
        traced = _traced(history, new, running or new, since, progress)
        before = _traced(history, running, running, since, progress) if running else None
    if not traced:
        raise EchoProxyError(f"expected decisions since {command.since}, got none; the newest is older")
    made = compare(history, traced, before, new, command.options)
    made = _with_notes(made, new, running)
    names = (f"{new.name} ({command.policy})", f"{running.name} ({command.against})" if running else "the log")
    if command.plot:
        plot(made, names, command.plot)
    console = console or Console()
    if command.is_json:
        console.print(_json(made, names, command), soft_wrap=True, highlight=False, markup=False)
    else:
        show(made, names, console)
    return _STATUS[made.verdict]


async def _read(policy: Policy, clock: Clock, store: Store | None) -> History:
    """The log of a policy."""
    settings = read_settings()
    if store is None:
        embedder = make_embedder(settings)
        store = open_store(policy, embedder, store_url(settings), settings, clock)
    await store.open()
    try:
        with _progress() as progress:
            bar = progress.add_task("reading the log", total=None)
            return await read_history(store, lambda n: progress.update(bar, completed=n))
    finally:
        await store.close()


def _traced(history: History, policy: Policy, logger: Policy, since: float, progress: Progress) -> list[Traced]:
    """Every decision since then as the policy would make it."""
    bar = progress.add_task(f"retracing {policy.name}", total=len(history.finals))
    found = []
    for one in retrace(history, policy, known_arms(history, logger), -math.inf):
        progress.advance(bar)
        if one.lesson.at >= since:
            found.append(one)
    return found


def known_arms(history: History, policy: Policy) -> dict[str, Arm]:
    """The policy's arms that the log names, by name."""
    named = {name for lesson in history.finals.values() for name in lesson.arms}
    return {arm.name: arm for arm in policy.to_arms() if arm.name in named}


def _start_of_newest(history: History, limit: int | None) -> float:
    """When the newest `limit` decisions begin."""
    if limit is None:
        return -math.inf
    if limit < 1:
        raise SettingsError(f"--limit must be at least 1, got {limit}")
    return sorted(lesson.at for lesson in history.finals.values())[-limit:][0]


def _since(text: str | None, now: float) -> float:
    """Seconds since the epoch."""
    if text is None:
        return -math.inf
    if found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text):
        return now - float(found[1]) * _UNITS[found[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise SettingsError(f"--since must be like 30m, 24h, 7d or 2026-01-31T12:00, got {text!r}") from error


def _no_lessons(policy: Policy, is_own: bool) -> str:
    hint = "; name the policy whose log is meant with --against" if is_own else ""
    return f"expected logged decisions of policy {policy.name} in the store, got none{hint}"


def _with_notes(made: Evaluation, new: Policy, running: Policy | None) -> Evaluation:
    changed = [name for name in _FIXED_IN_LOG if running and getattr(new, name) != getattr(running, name)]
    if not changed:
        return made
    note = f"the policies differ in {', '.join(changed)} too: a log cannot show what that changes, it is left out"
    return replace(made, notes=(*made.notes, note))


def _json(made: Evaluation, names: Sequence[str], command: EvaluateCommand) -> str:
    shown = {"new": names[0], "running": names[1], **asdict(made), "options": asdict(command.options)}
    return json.dumps(shown, indent=2)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns,
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
