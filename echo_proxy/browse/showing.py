"""What is known of one example?"""

from datetime import UTC, datetime

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from echo_proxy.browse.listing import age, state_of
from echo_proxy.browse.visible import visible
from echo_proxy.types import Example


def show_example(one: Example, now: float, console: Console) -> None:
    """Everything but the numbers of its vector."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in _facts(one, now):
        table.add_row(name, Text(visible(value)))
    console.print(table)
    for name, text in (("system", one.system), ("request", one.request), ("response", one.response)):
        if text:
            console.print(Panel(Text(visible(text, keeps_lines=True)), title=name, title_align="left"))
    _show_history(one, console)
    _show_observations(one, console)


def _facts(one: Example, now: float) -> list[tuple[str, str]]:
    state = f"{state_of(one)}, serves {one.reader} alone" if one.reader else state_of(one)
    confirmed = f", confirmed by {', '.join(one.confirmed_by)}" if one.confirmed_by else ""
    return [
        ("id", one.id),
        ("scope", one.scope),
        ("state", state + confirmed),
        ("origin", f"{one.origin}, version {one.version}"),
        ("teacher", one.teacher),
        ("writer", one.writer),
        ("decision", one.decision_id),
        ("created", f"{moment(one.created_at)} ({age(now - one.created_at)} ago)"),
        ("expires", f"{moment(one.expires_at)} (in {age(one.expires_at - now)})"),
        ("quality", f"{one.quality:.3f}"),
        ("uses, gain", f"{one.uses:.2f}, {one.gain:.2f}"),
        ("offloads, regret", f"{one.offloads:.3f}, {one.regret:.4f}, as of {moment(one.counted_at)}"),
        ("size", f"{one.n_bytes:,} bytes, about {one.n_tokens:,} tokens, {len(one.vector)} dimensions"),
        ("asked", f"{one.n_turns} user turn(s), {'a JSON object' if one.wants_json else 'text'} wanted"),
        ("partition", one.partition),
        ("answer key", one.answer_key or "none: never served as an answer by itself"),
    ]


def _show_history(one: Example, console: Console) -> None:
    if not one.history:
        return
    table = Table("replayed", "teacher", "answers", "verdict", "replaced", title="history", title_justify="left")
    for past in one.history:
        replaced = past.replaced or "yes" if past.is_replaced else "no"
        cells = (moment(past.at), past.teacher, str(past.n_answers), f"{past.verdict:.2f}", replaced)
        table.add_row(*(Text(visible(cell)) for cell in cells))
    console.print(table)


def _show_observations(one: Example, console: Console) -> None:
    if not one.observations:
        return
    table = Table("seen", "distance", "its answer was", title="observations", title_justify="left")
    for seen in one.observations:
        table.add_row(moment(seen.at), f"{seen.distance:.4f}", "right" if seen.is_correct else "wrong")
    console.print(table)


def moment(at: float) -> str:
    """UTC, to the second; `never` for 0."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S") if at else "never"
