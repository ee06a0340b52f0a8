"""Which single request shows best what happens? One that the small model got wrong alone and right with an example."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from echo_proxy.demo.client import DemoClient
from echo_proxy.demo.phases import SMALL_ONLY, Answer
from echo_proxy.demo.traffic import Label


@dataclass(frozen=True, slots=True)
class WorkedExample:
    """One request, three ways to see it."""

    alone: Answer
    """The small model without help."""
    taught: Answer
    """The small model with an example, chosen by Echo."""
    example: Mapping[str, Any]
    """What GET /echo/examples/{id} says of the example."""
    decision: Mapping[str, Any]
    """What GET /echo/decisions/{id} says of the decision."""


def choose(answers: Sequence[Answer]) -> tuple[Answer, Answer] | None:
    """The latest rare fact that the small model got wrong alone and right with an example, if possible one asked in
    these words for the first time; None when there is none."""
    alone = {one.index: one for one in answers if one.phase == SMALL_ONLY and one.quality == 0.0 and not one.error}
    taught = [
        one
        for one in answers
        if one.phase.is_echo
        and one.is_small
        and one.n_examples > 0
        and one.quality == 1.0
        and one.ask.label is Label.REPEATED
        and one.index in alone
    ]
    if not taught:
        return None
    first_index = _first_index_by_question(answers)
    best = max(taught, key=lambda one: (first_index[one.ask.item.question] == one.index, one.index))
    return alone[best.index], best


def _first_index_by_question(answers: Sequence[Answer]) -> Mapping[str, int]:
    """Where in the stream each wording stands first; there its example must be in other words."""
    first: dict[str, int] = {}
    for one in answers:
        question = one.ask.item.question
        first[question] = min(one.index, first.get(question, one.index))
    return first


async def fetch(client: DemoClient, answers: Sequence[Answer]) -> WorkedExample | None:
    """The chosen request with its explanation; None when no request of the run shows it. Raises DemoFailed."""
    chosen = choose(answers)
    if chosen is None:
        return None
    alone, taught = chosen
    decision = await client.decision(taught.decision_id)
    used = next(one for one in decision["explanation"]["candidates"] if one["fate"] == "used")
    return WorkedExample(alone, taught, await client.example(used["id"]), decision)


def show(console: Console, worked: WorkedExample | None) -> None:
    """Print it in full."""
    console.rule("One request in full", align="left")
    if worked is None:
        console.print("No request of this run was wrong alone and right with an example; try more requests.")
        return
    question = worked.taught.ask.item.question
    console.print(f"Asked                     {escape(question)}")
    console.print(f"Small model alone         [red]{escape(worked.alone.text)}[/]")
    console.print(f"Example: was asked        {escape(str(worked.example['request']))}")
    console.print(f"Example: {worked.example['teacher']:<16} {escape(str(worked.example['response']))}")
    console.print(f"Small model with example  [green]{escape(worked.taught.text)}[/]")
    show_decision(console, worked.decision)


def show_decision(console: Console, decision: Mapping[str, Any]) -> None:
    """Why it was served like that, as GET /echo/decisions/{id} tells it."""
    made = decision["explanation"]["decision"]
    console.print(f"\nDecision {decision['id']} of policy {decision['policy']}, segment {escape(str(made['segment']))}")
    console.print(_candidate_table(decision["explanation"]["candidates"]))
    console.print(_arm_table(made))
    for adjustment in made["adjustments"]:
        console.print(f"Adjusted: {escape(str(adjustment))}")
    console.print(
        f"Reward {decision['reward']:.3f} from quality {decision['quality']:.2f}, "
        f"cost ${decision['cost_usd']:.7f}, latency {1000 * decision['latency_s']:.0f} ms; "
        f"planned in {1000 * decision['explanation']['plan_s']:.1f} ms"
    )


def _candidate_table(candidates: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(title="Examples found", title_justify="left", title_style="bold")
    for name in ("stored request", "distance", "names", "utility", "fate"):
        table.add_column(name)
    for one in candidates:
        figures = (f"{one['distance']:.3f}", str(one["names"]), f"{one['utility']:.2f}")
        table.add_row(escape(str(one["request"] or "(another key's)")), *figures, escape(str(one["fate"])))
    return table


def _arm_table(made: Mapping[str, Any]) -> Table:
    table = Table(title="Arms that could be drawn", title_justify="left", title_style="bold")
    for name in ("arm", "probability", "mean reward", "evidence", ""):
        table.add_column(name)
    for name, one in made["arms"].items():
        figures = (f"{one['probability']:.3f}", f"{one['mean_reward']:.3f}", f"{one['weight']:.1f}")
        table.add_row(name, *figures, "drawn" if name == made["arm"] else "")
    return table
