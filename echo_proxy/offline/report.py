"""How is an evaluation told?"""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from echo_proxy.offline.evaluation import Evaluation, Figure, Verdict
from echo_proxy.offline.support import Support

_DECIMALS = {"reward": 4, "quality": 4, "cost_usd": 6, "latency_s": 3}
_COLOURS = {Verdict.SWITCH: "green", Verdict.KEEP: "yellow", Verdict.NOT_PROVEN: "yellow", Verdict.NO_ANSWER: "red"}


def show(made: Evaluation, names: Sequence[str], console: Console) -> None:
    """Tables, notes and the verdict.

    Args:
        made: the evaluation.
        names: of the new and of the running policy.
        console: to print on.
    """
    console.print(f"new: {names[0]}\nrunning: {names[1]}", soft_wrap=True, highlight=False, markup=False)
    console.print(
        f"{made.n_used} of {made.n_logged} decisions; {made.share_judged:.0%} of their answers were judged; quality "
        f"from {'the judged answers' if made.quality_from == 'judged' else 'all answers, as validators found them'}",
        soft_wrap=True,
    )
    if made.comparisons:
        console.print(_measures(made))
    if made.arms:
        console.print(_arms(made))
    if made.support_new and made.support_running:
        console.print(_supports(made.support_new, made.support_running))
    for note in made.notes:
        console.print(f"note: {note}", soft_wrap=True)
    for line in verdict_lines(made):
        console.print(f"[{_COLOURS[made.verdict]}]{line}[/]", soft_wrap=True)


def verdict_lines(made: Evaluation) -> tuple[str, ...]:
    """The verdict in words."""
    if made.verdict is Verdict.NO_ANSWER:
        return ("the log cannot answer:", *(f"  {reason}" for reason in made.reasons))
    reward = made.comparisons[0].difference
    said = f"the new policy's reward differs by {_shown(reward, 4, '+')}"
    if made.verdict is Verdict.SWITCH:
        return (f"switch: {said}",)
    if made.verdict is Verdict.KEEP:
        return (f"keep the running policy: {said}",)
    if made.n_more is None:
        return (f"not proven: {said}; no difference that more decisions would show soon",)
    return (f"not proven: {said}; about {made.n_more:,} more decisions would probably decide it",)


def _measures(made: Evaluation) -> Table:
    table = Table("measure", "known", "new", "running", "difference", title="value per decision, 95 % intervals")
    for one in made.comparisons:
        digits = _DECIMALS[one.measure]
        cells = (_shown(one.new, digits), _shown(one.running, digits), _shown(one.difference, digits, "+"))
        table.add_row(one.measure.replace("_", " "), str(one.n_known), *cells)
    return table


def _arms(made: Evaluation) -> Table:
    table = Table("arm", "drawn", "judged", "share: new", "share: running")
    for arm in made.arms:
        table.add_row(arm.arm, str(arm.n_logged), str(arm.n_judged), f"{arm.new:.1%}", f"{arm.running:.1%}")
    return table


def _supports(new: Support, running: Support) -> Table:
    table = Table("how far the log carries", "new", "running")
    for name, digits in (
        ("effective_size", 0),
        ("mean_weight", 3),
        ("max_weight", 1),
        ("unseen_share", 4),
        ("share_clipped", 4),
        ("clipped_mass", 4),
    ):
        table.add_row(name.replace("_", " "), *(f"{getattr(one, name):.{digits}f}" for one in (new, running)))
    return table


def _shown(figure: Figure, digits: int, sign: str = "") -> str:
    value, lower, upper = (f"{one:{sign}.{digits}f}" for one in (figure.value, figure.lower, figure.upper))
    return f"{value} ({lower} to {upper})"
