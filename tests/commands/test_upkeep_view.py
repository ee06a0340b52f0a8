"""How a round of upkeep looks on a terminal."""

from io import StringIO

from rich.console import Console

from echo_proxy.commands.upkeep_view import show_run
from echo_proxy.types import UpkeepRun


def test_a_stranger_s_words_do_not_steer_the_terminal() -> None:
    """Neither by escape sequences nor by markup."""
    cluster = {"decision_id": "d", "n_requests": 9, "quality": 0.1, "cost_usd": 0.0, "with_examples": 0.0, "lost": 3.0}
    run = UpkeepRun("i", 0.0, 1.0, "h", "done", 0.0, {"coverage": {"clusters": [cluster], "left_out": {"\x1b[2J": 1}}})
    out = StringIO()
    show_run(run, "p", {"d": "hi \x1b]0;owned\x07 \x9b31m [bold]x[/nope]"}, Console(file=out, width=200))

    assert not {"\x1b", "\x07", "\x9b"} & set(out.getvalue())
    assert r"hi \x1b]0;owned\x07 \x9b31m [bold]x[/nope]" in out.getvalue()
