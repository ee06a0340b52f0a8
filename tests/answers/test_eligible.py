"""Which requests may be answered from the store, and from which examples."""

from dataclasses import replace
from typing import Any

import pytest

from echo_proxy.answers.eligible import may_answer, obstacle
from echo_proxy.policy_keeping import AnswersPolicy
from echo_proxy.types import Names
from tests.builders import NOW, candidate, request

RULES = AnswersPolicy()


def reason(text: str, **rules: Any) -> str | None:
    """Why a request with an answer key may not be answered, without the word that says so."""
    found = obstacle(request(text, answer_key="k"), AnswersPolicy(**rules))
    return found.split(":")[0] if found else None


@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of France?",
        "Tell me the capital of France, please.",
        "find all files in the current directory",
        "How do I revert a commit?",
        "Who founded Skulia?",
    ],
)
def test_timeless_questions_may_be_answered(text: str) -> None:
    """A question whose answer hangs on nobody and no time has no obstacle."""
    assert reason(text) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("What's the weather in Rome?", "time"),
        ("Who is the current president of France?", "time"),
        ("What happened yesterday?", "time"),
        ("List the files changed 3 days ago", "time"),
        ("Events of last week", "time"),
        ("What is the stock price of Acme", "time"),
        ("What is on at 2024-05-01?", "date"),
        ("What happened on May 3", "date"),
        ("Where is my card?", "person"),
        ("I\u2019m lost, what should be done", "person"),
        ("What does our contract say?", "person"),
        ("Give me another one", "creative"),
        ("Pick a random number", "creative"),
        ("Write a poem about the sea", "creative"),
        ("Make it shorter", "conversation"),
        ("And what about the second one?", "conversation"),
        ("Explain what you said above", "conversation"),
    ],
)
def test_the_others_go_to_a_model(text: str, why: str) -> None:
    """What hangs on time, on who asks, on chance or on what was said before is never answered from the store."""
    assert reason(text) == why


def test_without_a_key_nothing_is_answered() -> None:
    """A request of which is not known what else shapes its answer has an obstacle."""
    assert obstacle(request(), RULES) == "no_key"


def test_long_requests_go_to_a_model() -> None:
    """The vector tells only of a part of a long text."""
    assert reason("word " * 2_000) == "long"


def test_the_operator_adds_words() -> None:
    """Words of `volatile` count in any case, as words."""
    assert reason("Show the INVENTORY list", volatile=("inventory",)) == "volatile"
    assert reason("Show the inventories list", volatile=("inventory",)) is None


def test_a_help_desk_may_speak_of_the_asker() -> None:
    """With `personal` only the words about the asker are let through."""
    assert reason("Where is my card?", personal=True) is None
    assert reason("Where is my card today?", personal=True) == "time"


def test_a_near_example_of_the_same_shape_may_answer() -> None:
    """Same key, near, young, same names and figures."""
    assert may_answer(request(answer_key="k"), candidate(answer_key="k"), RULES)


@pytest.mark.parametrize(
    "changes",
    [
        {"answer_key": "other"},
        {"answer_key": ""},
        {"answer_key": "k", "created_at": NOW - RULES.max_age_s - 1},
        {"answer_key": "k", "request": "What was the capital of France in 1940?"},
        {"answer_key": "k", "request": "What is not the capital of France?"},
    ],
)
def test_other_examples_may_not(changes: dict[str, Any]) -> None:
    """Another shape, too great an age, another figure or a negation keeps an example from answering."""
    assert not may_answer(request(answer_key="k"), candidate(**changes), RULES)


def test_far_examples_may_not() -> None:
    """Beyond `max_distance` nothing is looked at."""
    assert not may_answer(request(answer_key="k"), candidate(distance=0.26, answer_key="k"), RULES)


@pytest.mark.parametrize("names", [Names.MISSING, Names.NUMBERS])
def test_examples_of_something_else_may_not(names: Names) -> None:
    """An example that lacks a name or number of the request is about something else."""
    one = replace(candidate(answer_key="k"), names=names)

    assert not may_answer(request(answer_key="k"), one, RULES)
