"""What is seen while the demo runs? A live table, or plain lines where there is no terminal."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from echo_proxy.demo.phases import Answer, Phase
from echo_proxy.demo.report import summarize
from echo_proxy.demo.tables import arm_table, milliseconds, percent, summary_table

_REFRESH_S = 0.25
"""Drawing costs processor time that the models need."""
_N_RECENT = 8
_PLAIN_EVERY = 100


class View(Protocol):
    """Shows answers as they come."""

    def shown(self) -> AbstractContextManager[object]:
        """The time during which it is on the screen."""
        ...

    def note(self, answer: Answer) -> None:
        """One more answer."""
        ...


class PlainView:
    """A line now and then, for logs."""

    def __init__(self, console: Console, phases: Sequence[Phase], n_requests: int) -> None:
        self._console = console
        self._phases = phases
        self._n_total = n_requests * len(phases)
        self._answers: list[Answer] = []

    def shown(self) -> AbstractContextManager[object]:
        """Nothing to set up."""
        return nullcontext()

    def note(self, answer: Answer) -> None:
        """Print the phases' correctness after every hundred answers."""
        self._answers.append(answer)
        if len(self._answers) % _PLAIN_EVERY and len(self._answers) != self._n_total:
            return
        figures = [summarize(phase, self._answers) for phase in self._phases]
        shares = ", ".join(f"{one.phase.name} {percent(one.correctness)}" for one in figures)
        self._console.print(f"{len(self._answers)}/{self._n_total} answers; correct: {shares}", highlight=False)


class LiveView:
    """Progress, figures, arms and the latest requests, redrawn four times a second."""

    def __init__(self, console: Console, phases: Sequence[Phase], n_requests: int) -> None:
        self._phases = phases
        self._n_requests = n_requests
        self._answers: list[Answer] = []
        self._drawn_s = 0.0
        # Without a thread of its own: drawn only between answers, so nothing is read while it changes.
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def shown(self) -> AbstractContextManager[object]:
        """While the stream runs; disappears then, because the final tables say the same."""
        return self._live

    def note(self, answer: Answer) -> None:
        """Take the answer in, and redraw when it is time."""
        self._answers.append(answer)
        if time.monotonic() - self._drawn_s >= _REFRESH_S:
            self._live.update(self.render(), refresh=True)
            self._drawn_s = time.monotonic()

    def render(self) -> RenderableType:
        """The whole screen."""
        n_total = self._n_requests * len(self._phases)
        return Group(
            Text(f"{len(self._answers)} of {n_total} answers"),
            ProgressBar(total=n_total, completed=len(self._answers), width=100),
            summary_table(self._phases, self._answers, "So far"),
            arm_table(self._phases, self._answers),
            recent_table(self._answers[-_N_RECENT:]),
        )


def recent_table(answers: Sequence[Answer]) -> Table:
    """The latest answers, newest last."""
    table = Table(title="Latest", title_justify="left", title_style="bold", box=None)
    for name in ("policy", "kind", "request", "answer", "arm", "time", ""):
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for answer in answers:
        table.add_row(
            answer.phase.name,
            answer.ask.label,
            escape(answer.ask.item.question),
            escape(answer.text or answer.error),
            answer.arm,
            milliseconds(answer.latency_s),
            "[green]right[/]" if answer.quality == 1.0 else "[red]wrong[/]",
        )
    return table
