import re
from typing import Literal

import pytest

from echo_proxy.online.assemble import assemble
from echo_proxy.online.neutralize import neutralize
from echo_proxy.policy import PromptPolicy
from echo_proxy.types import Arm, Message, Prompt, Selection
from tests.builders import LARGE, SMALL, candidate, selection
from tests.poisoned import POISONED

TWO = selection(candidate("best", request="Q1", response="A1"), candidate("next", request="Q2", response="A2"))


def test_turns_stand_with_the_best_last() -> None:
    """Nearest to the question; the notice follows the system message and holds no stored text."""
    made = assemble(TWO, SMALL, PromptPolicy(notice="Data."))

    assert made.turns == (
        Message("user", "Q2"),
        Message("assistant", "A2"),
        Message("user", "Q1"),
        Message("assistant", "A1"),
    )
    assert (made.system_notice, made.block, made.example_ids) == ("Data.", "", ("next", "best"))


def test_a_block_is_one_fenced_text() -> None:
    """With the notice inside, because no system message is touched."""
    made = assemble(TWO, SMALL, PromptPolicy(format="block", order="best_first", notice="Data."))

    assert made.block == (
        "<examples>\nData.\n<example>\nQ: Q1\nA: A1\n</example>\n<example>\nQ: Q2\nA: A2\n</example>\n</examples>\n\n"
    )
    assert (made.turns, made.system_notice, made.example_ids) == ((), "", ("best", "next"))


def test_a_block_can_do_without_notice() -> None:
    """An empty notice leaves no empty line."""
    made = assemble(selection(candidate(request="Q", response="A")), SMALL, PromptPolicy(format="block", notice=""))

    assert made.block == "<examples>\n<example>\nQ: Q\nA: A\n</example>\n</examples>\n\n"


def test_an_arm_takes_no_more_than_its_examples() -> None:
    """The most useful ones; a strong arm takes none and gets no notice."""
    three = selection(candidate("a"), candidate("b"), candidate("c"))

    assert assemble(three, SMALL, PromptPolicy()).example_ids == ("b", "a")
    assert assemble(three, LARGE, PromptPolicy()) == Prompt()
    assert assemble(Selection(), SMALL, PromptPolicy()) == Prompt()


@pytest.mark.parametrize("form", ["turns", "block"])
@pytest.mark.parametrize(("name", "asked", "answered"), POISONED, ids=[one[0] for one in POISONED])
def test_what_is_shown_is_neutral(name: str, asked: str, answered: str, form: Literal["turns", "block"]) -> None:
    """Request and response, in both formats; the block holds no fence but its own."""
    one = selection(candidate(request=asked, response=answered))

    made = assemble(one, SMALL, PromptPolicy(format=form, notice=""))
    shown = "\n".join([made.block, *(turn.content for turn in made.turns)])

    assert (neutralize(asked) in shown, neutralize(answered) in shown) == (True, True)
    assert len(re.findall(r"</?examples?\b[^>]*>", shown.lower())) == (4 if form == "block" else 0)


def among(*ids: str, familiar: tuple[str, ...] = (), n_backbone: int = 0) -> Selection:
    """These, chosen in this order."""
    return Selection(tuple(candidate(one) for one in ids), familiar=familiar, n_backbone=n_backbone)


FOUR = Arm("small+4", "small", 4)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("best_last", ("x", "z", "c", "a")),
        ("best_first", ("x", "z", "a", "c")),
        ("stable", ("x", "z", "c", "a")),
    ],
)
def test_the_backbone_stands_first_in_a_fixed_order(
    order: Literal["best_last", "best_first", "stable"], expected: tuple[str, ...]
) -> None:
    """By id, whatever it is worth to this request; then what was chosen for it."""
    found = among("a", "z", "c", "x", familiar=("z", "x"), n_backbone=2)

    assert assemble(found, FOUR, PromptPolicy(order=order)).example_ids == expected


def test_a_stable_order_puts_the_most_used_first() -> None:
    """Unknown ones stand last, the best of them nearest to the question."""
    found = among("new", "b", "newer", "a", familiar=("a", "b"))

    assert assemble(found, FOUR, PromptPolicy(order="stable")).example_ids == ("a", "b", "newer", "new")
    assert assemble(among("a", "b"), FOUR, PromptPolicy(order="stable")).example_ids == ("b", "a")


def test_prompts_that_share_a_backbone_begin_alike() -> None:
    """Two requests with different examples of their own."""
    one = assemble(among("a", "x", "y", familiar=("y", "x"), n_backbone=2), FOUR, PromptPolicy())
    other = assemble(among("x", "y", "b", familiar=("y", "x"), n_backbone=2), FOUR, PromptPolicy())

    assert one.turns[:4] == other.turns[:4]
    assert (one.example_ids, other.example_ids) == (("x", "y", "a"), ("x", "y", "b"))
