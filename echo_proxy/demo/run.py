"""What does `echo-proxy demo` do? It starts everything, sends one stream to all phases, and shows what came of it."""

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from echo_proxy.demo import worked as one_request
from echo_proxy.demo.client import DemoClient
from echo_proxy.demo.phases import Answer, Bandit, Phase, phases_for
from echo_proxy.demo.play import BLOCK, play, warm_up
from echo_proxy.demo.proxy import Connection, new_connection, running, serve_command, serve_environment
from echo_proxy.demo.report import by_kind, summarize
from echo_proxy.demo.setup import PRICES, write_setup
from echo_proxy.demo.stay import stay
from echo_proxy.demo.tables import arm_table, kind_table, summary_table
from echo_proxy.demo.traffic import Mix, stream
from echo_proxy.demo.view import LiveView, PlainView, View
from echo_proxy.demo.world import make_world
from echo_proxy.errors import SettingsError

_TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What `echo-proxy demo` was asked for."""

    requests: int = 900
    """Per phase."""
    seed: int = 20
    """Of the request stream."""
    port: int | None = None
    """Of the proxy; None takes a free one."""
    concurrency: int = 4
    """Requests under way at once."""
    stay: bool = False
    """Leave the proxy up at the end, until Ctrl-C."""
    plain: bool = False
    """Lines instead of the live view; also taken where there is no terminal."""
    bandits: tuple[Bandit, ...] = ("epsilon_greedy", "ucb1")
    state_dir: Path | None = None
    """Keeps store and log; None takes a folder that is removed at the end. A folder that was used before still holds
    its examples and evidence, so nothing is new to Echo then."""
    json_path: Path | None = None
    """Receives the figures."""

    def __post_init__(self) -> None:
        for name, value in (("requests", self.requests), ("concurrency", self.concurrency)):
            if value < 1:
                raise SettingsError(f"{name} must be at least 1, got {value}")


def main(options: DemoOptions) -> int:
    """Run the demo. Returns the exit status; raises DemoFailed, and KeyboardInterrupt on Ctrl-C, after cleaning up."""
    try:
        asyncio.run(_run(options, Console()))
    except asyncio.CancelledError:
        return _TERMINATED
    return 0


async def _run(options: DemoOptions, console: Console) -> None:
    task = asyncio.current_task()
    assert task is not None  # a coroutine under asyncio.run always has one
    # Without this, SIGTERM would end us at once and leave the proxy behind.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    connection = new_connection(options.port)
    with _state_folder(options.state_dir) as folder:
        files = write_setup(folder, options.bandits)
        log = folder / "proxy.log"
        console.print(f"Starting the proxy on {connection.url}; its log is {log}", highlight=False)
        command = serve_command(files, connection.port)
        environment = serve_environment(os.environ, folder, connection.key)
        async with running(command, environment, connection, log), DemoClient(connection) as client:
            await _present(options, console, connection, client)


@contextmanager
def _state_folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="echo-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


async def _present(options: DemoOptions, console: Console, connection: Connection, client: DemoClient) -> None:
    phases = phases_for(options.bandits)
    asks = stream(make_world(), options.requests, options.seed)
    _explain(console, options, phases)
    await warm_up(client, phases)
    view = _view(options, console, phases)
    with view.shown():
        answers = await play(client, phases, asks, options.concurrency, view.note)
    show_results(console, phases, answers, options.requests)
    worked = await one_request.fetch(client, answers)
    one_request.show(console, worked)
    if options.json_path is not None:
        figures = results(options, phases, answers, worked)
        options.json_path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if options.stay:
        last = next((one for one in reversed(answers) if one.decision_id), answers[-1])
        await stay(console, connection, last)


def _explain(console: Console, options: DemoOptions, phases: Sequence[Phase]) -> None:
    console.print(
        f"{options.requests} requests of a synthetic world, seed {options.seed}, to each of: "
        f"{', '.join(phase.name for phase in phases)}.\n"
        f"Blocks of {BLOCK} in turn, {options.concurrency} at once; both models are real and run in llama.cpp here.\n"
        "Correctness is the world's own truth; Echo is told it as feedback after every answer. "
        "Prices are illustrative.",
        highlight=False,
    )


def _view(options: DemoOptions, console: Console, phases: Sequence[Phase]) -> View:
    is_plain = options.plain or not console.is_terminal
    return (PlainView if is_plain else LiveView)(console, phases, options.requests)


def show_results(console: Console, phases: Sequence[Phase], answers: Sequence[Answer], n_requests: int) -> None:
    """Print the final tables, and what went wrong, if anything."""
    console.print(summary_table(phases, answers, "Results"))
    console.print(arm_table(phases, answers))
    console.print(kind_table(phases, answers, n_requests))
    for one in (summarize(phase, answers) for phase in phases):
        if one.n_errors or one.n_lost_feedback:
            console.print(f"{one.phase.name}: {one.n_errors} errors, {one.n_lost_feedback} feedbacks not taken")


def results(
    options: DemoOptions,
    phases: Sequence[Phase],
    answers: Sequence[Answer],
    worked: one_request.WorkedExample | None,
) -> dict[str, Any]:
    """Everything that was shown, for a file."""
    return {
        "requests": options.requests,
        "seed": options.seed,
        "concurrency": options.concurrency,
        "block": BLOCK,
        "mix": asdict(Mix()),
        "prices": {size: asdict(price) for size, price in PRICES.items()},
        "phases": [asdict(summarize(phase, answers)) for phase in phases],
        "kinds": {
            phase.name: [asdict(row) for row in by_kind(phase, answers, options.requests)]
            for phase in phases
            if phase.is_echo
        },
        "worked_example": None if worked is None else asdict(worked),
    }
