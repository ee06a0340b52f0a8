"""How does somebody who waits see that a round goes on?"""

import logging
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

log = logging.getLogger("echo_proxy")


class Progress(Protocol):
    """Is told what a round does."""

    def begin(self, work: str, total: int) -> None:
        """A kind of work begins; at most so many steps."""
        ...

    def step(self, work: str, n: int = 1) -> None:
        """So many steps are done."""
        ...

    def tell(self, text: str) -> None:
        """Something worth a line."""
        ...


class LoggedProgress:
    """Lines in the proxy's log: what begins, and what is told."""

    def __init__(self, policy: str) -> None:
        self._policy = policy

    def begin(self, work: str, total: int) -> None:
        """A line."""
        log.info("upkeep of %s: %s, up to %d", self._policy, work, total)

    def step(self, work: str, n: int = 1) -> None:
        """Nothing: a line per example would bury the log."""

    def tell(self, text: str) -> None:
        """A line."""
        log.info("upkeep of %s: %s", self._policy, text)


class ShownProgress:
    """A bar for every kind of work. Use it as a context manager."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = RichProgress(*columns, console=console, transient=True)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begin(self, work: str, total: int) -> None:
        """A new bar."""
        self._tasks[work] = self._bars.add_task(work, total=total)

    def step(self, work: str, n: int = 1) -> None:
        """The bar grows."""
        self._bars.advance(self._tasks[work], n)

    def tell(self, text: str) -> None:
        """A line above the bars."""
        self._bars.console.print(text, soft_wrap=True, highlight=False, markup=False)
