"""How far is an import or export, how fast does it go, and when will it be done?"""

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class RateColumn(ProgressColumn):
    """Examples per second since the start; the task carries their number in its field `n`."""

    def render(self, task: Task) -> Text:
        """The number and the rate."""
        n, elapsed_s = int(task.fields.get("n", task.completed)), task.elapsed
        rate = f", {n / elapsed_s:,.0f}/s" if elapsed_s else ""
        return Text(f"{n:,} examples{rate}")


def bar(console: Console, *, of_bytes: bool) -> Progress:
    """A bar over the bytes of a file, or over examples; where no terminal listens only its end is written."""
    counted: ProgressColumn = DownloadColumn() if of_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), counted, RateColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console)
