"""`echo-proxy tune`: with which options does this machine serve this model best?"""

import importlib.util
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from echo_proxy.errors import InputError, LocalModelError
from echo_proxy.local.doctor import examine
from echo_proxy.local.options import INSTALL, LocalModelOptions, default_context
from echo_proxy.tune.axes import Machine, all_axes, frugal, n_usable_cores
from echo_proxy.tune.files import ModelFile, one_model, read_file
from echo_proxy.tune.memory import Bounds, MemoryEstimate, free_bytes
from echo_proxy.tune.process import Candidates, read_words
from echo_proxy.tune.race import Deadline, Races, Rules
from echo_proxy.tune.records import CandidateFailed, Goal, Load, Measurer, changed
from echo_proxy.tune.report import as_json, as_yaml, table
from echo_proxy.tune.search import Found, Search, SearchParts
from echo_proxy.tune.units import shown_bytes
from echo_proxy.tune.workload import PROBE, plan_load

_INTERRUPTED = 130
_ROUNDS_PER_BUDGET = 120
"""Rounds that should fit into the time: some 20 candidates, each three times and the incumbent likewise."""
_SHORTEST_ROUND_S, _LONGEST_ROUND_S = 0.1, 20.0
_PROBE_NUMBER = 2**18
_CLIENTS = {"latency": 1, "throughput": 8}
_FILE_WIDTH = 140
"""Columns where no terminal says how many there are."""
_FEWEST_REQUESTS = 3
"""Of a round with one client: their median counts."""


@dataclass(frozen=True, slots=True)
class TuneCommand:
    """What the command line says."""

    paths: tuple[Path, ...]
    goal: Goal = "latency"
    concurrency: int | None = None
    n_memory_bytes: int | None = None
    n_prompt_tokens: int = 300
    n_answer_tokens: int = 100
    budget_s: float = 120.0
    max_threads: int | None = None
    n_ctx: int | None = None
    draft: Path | None = None
    with_siblings: bool = False
    allows_lossy: bool = False
    out: Path | None = None
    overwrites: bool = False
    is_json: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """The model and what it is run on."""

    files: tuple[ModelFile, ...]
    draft: ModelFile | None
    n_ctx: int
    machine: Machine
    bounds: Bounds
    estimate: MemoryEstimate
    starts: tuple[LocalModelOptions, ...]


def tune(command: TuneCommand) -> int:
    """Search and say what was found. Returns the exit status: 0, or 130 after Ctrl-C.

    Raises InputError, LocalModelError.
    """
    talk = Console(stderr=True, highlight=False)
    deadline = Deadline(command.budget_s, time.monotonic)
    subject = _subject(command)
    try:
        found, load = _search(command, subject, deadline, talk)
    except CandidateFailed as error:
        raise LocalModelError(f"{subject.files[0].path}: {error}") from error
    _tell(command, found, load, deadline)
    return _INTERRUPTED if found.ended == "interrupted" else 0


def _subject(command: TuneCommand) -> Subject:
    """Look at everything before anything is run."""
    if command.out is not None and command.out.exists() and not command.overwrites:
        raise InputError(f"{command.out}: expected a file that is not there yet, or --force")
    files = one_model(command.paths, with_siblings=command.with_siblings)
    draft = None if command.draft is None else read_file(command.draft)
    if importlib.util.find_spec("llama_cpp") is None:
        raise LocalModelError(f"expected llama-cpp-python to be installed: {INSTALL}")
    n_ctx = command.n_ctx or default_context(files[0].path)
    n_tokens = command.n_prompt_tokens + command.n_answer_tokens
    if n_tokens >= n_ctx:
        raise InputError(
            f"expected --prompt-tokens and --answer-tokens to fit into a context of {n_ctx} tokens, got {n_tokens}"
        )
    n_free, n_gpu = free_bytes(), _free_gpu_bytes()
    machine = Machine(n_usable_cores(), min(command.max_threads or 1024, n_usable_cores()), n_gpu)
    start = LocalModelOptions(path=str(files[0].path), n_ctx=command.n_ctx)
    return Subject(
        files=files,
        draft=draft,
        n_ctx=n_ctx,
        machine=machine,
        bounds=Bounds(command.n_memory_bytes or n_free, max(n_free, command.n_memory_bytes or 0), n_gpu),
        estimate=MemoryEstimate(files, n_ctx, draft),
        starts=tuple(frugal(_within(start, command.max_threads), files, n_ctx, machine)),
    )


def _within(start: LocalModelOptions, max_threads: int | None) -> LocalModelOptions:
    """The defaults, which take no more threads than are allowed."""
    n_cores = os.cpu_count() or 1
    if max_threads is None or max_threads >= n_cores:
        return start
    return changed(start, n_threads=min(max(n_cores // 2, 1), max_threads), n_threads_batch=max_threads)


def _free_gpu_bytes() -> int:
    diagnosis = examine()
    if not diagnosis.can_offload_to_gpu:
        return 0
    return next((one.n_free_bytes for one in diagnosis.devices if one.is_gpu), 0)


def _search(command: TuneCommand, subject: Subject, deadline: Deadline, talk: Console) -> tuple[Found, Load]:
    words, vocabulary = read_words(subject.files[0].path)
    if subject.draft is not None and read_words(subject.draft.path)[1] != vocabulary:
        raise InputError(f"{subject.draft.path}: expected a model with the same tokens, got another vocabulary")
    n_clients = command.concurrency or _CLIENTS[command.goal]
    fewest = n_clients if n_clients > 1 else _FEWEST_REQUESTS
    wanted = Load(fewest, n_clients, command.n_prompt_tokens, command.n_answer_tokens)
    fit = partial(subject.estimate.fit_together, bounds=subject.bounds)
    with Candidates(words, wanted, fit) as measurer, _progress(talk) as progress:
        bar = progress.add_task("a first look", total=command.budget_s)
        load = _planned(measurer, subject, wanted, deadline)
        parts = SearchParts(
            measurer=measurer,
            races=Races(measurer, command.goal, load, deadline, Rules()),
            estimate=subject.estimate,
            bounds=subject.bounds,
            deadline=deadline,
            goal=command.goal,
            allows_lossy=command.allows_lossy,
            tell=lambda name: progress.update(bar, completed=deadline.spent_s, description=escape(name[:60])),
        )
        draft = None if subject.draft is None else str(subject.draft.path)
        search = Search(parts, all_axes(subject.files, subject.machine, load, subject.n_ctx, draft))
        found = search.start(subject.starts)
        _announce(talk, search, found, load, wanted, deadline)
        return search.improve(found), load


def _planned(measurer: Measurer, subject: Subject, wanted: Load, deadline: Deadline) -> Load:
    """As much in a round as the time allows."""
    target_s = min(max(deadline.budget_s / _ROUNDS_PER_BUDGET, _SHORTEST_ROUND_S), _LONGEST_ROUND_S)
    for options in subject.starts:
        if subject.estimate.need(options).n_bytes > subject.bounds.n_bytes:
            continue
        try:
            probe = measurer.measure(options, PROBE, _PROBE_NUMBER, deadline.left_s)
        except CandidateFailed:
            continue  # the search will say why
        return plan_load(wanted, probe.prefill_s, probe.latency_s, target_s)
    return wanted


def _announce(talk: Console, search: Search, found: Found, load: Load, wanted: Load, deadline: Deadline) -> None:
    talk.print(
        f"A round is {load.n_requests} requests, {load.n_clients} at once: {load.n_prompt_tokens} tokens of prompt, "
        f"{load.n_answer_tokens} of answer, {found.figures.seconds:.1f} s.",
        soft_wrap=True,
    )
    if load.n_answer_tokens < wanted.n_answer_tokens:
        talk.print(
            f"[yellow]That is shorter than {wanted.n_prompt_tokens} and {wanted.n_answer_tokens}, to keep to the "
            "budget: with a larger --budget it is nearer to your traffic.[/]",
            soft_wrap=True,
        )
    talk.print(
        f"About {search.n_candidates(found)} candidates, {search.forecast_s(found):.0f} s; "
        f"there are {deadline.left_s:.0f} s left of the budget. Ctrl-C ends it with what is known by then.",
        soft_wrap=True,
    )


def _tell(command: TuneCommand, found: Found, load: Load, deadline: Deadline) -> None:
    text = as_yaml(found.winner)
    if command.out is not None:
        command.out.write_text(text)
    if command.is_json:
        print(as_json(found, command.goal, load))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    console.print(table(found.rows, command.goal))
    how = {"done": "all of it was tried", "budget": "the time is over", "interrupted": "interrupted"}[found.ended]
    figures = found.figures
    console.print(
        f"{how}, {deadline.spent_s:.0f} s. Chosen: {found.gain:.2f} times as fast as at the start; "
        f"{figures.latency_s * 1000:.0f} ms an answer, {figures.tokens_per_s:.1f} tokens/s, "
        f"{shown_bytes(figures.n_bytes)}.\n",
        soft_wrap=True,
    )
    if found.winner.path != found.rows[0].options.path:
        console.print(
            "[yellow]The winner is another quantisation: its texts are others. See whether they are as good.[/]\n",
            soft_wrap=True,
        )
    console.print(text, markup=False, soft_wrap=True, end="")
    if command.out is not None:
        console.print(f"\nwritten to {command.out}", soft_wrap=True, markup=False)


def _progress(talk: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=talk, transient=True)
