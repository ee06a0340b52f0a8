"""What of a decision's texts is written down, and when its lesson loses the vector."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from echo_proxy.admission import telling
from echo_proxy.admission.telling import changed_texts, cleaned, cleaned_comment
from echo_proxy.errors import PolicyError
from echo_proxy.policy_keeping import PresidioPolicy, PrivacyPolicy
from echo_proxy.privacy.clean import Cleaned
from echo_proxy.types import Lesson, Settlement
from tests.builders import lesson, record, situation, vector

RULES = PrivacyPolicy()
KEY = "sk_live_" + "aZ3kQ9xLmT7vB2nR8cYw4d"


def settlement(*requests: str | None, **texts: Any) -> Settlement:
    """With a lesson that has a vector, and candidates of these requests."""
    candidates = [{"id": f"e{number}", "request": one} for number, one in enumerate(requests)]
    told = {"request": "Why?", "answer": "So.", "turns": 1, "candidates": candidates, **texts}
    taught = lesson("d1", situation=situation(vector=vector(1.0)))
    return Settlement(record("d1", explanation=told), (), (), taught)


def has_vector(made: Settlement) -> bool:
    return isinstance(made.lesson, Lesson) and made.lesson.situation.vector is not None


async def test_what_holds_nothing_private_is_told_as_it_was() -> None:
    """Without a mark."""
    given = settlement("What?", None)

    assert await cleaned(given, "Why?", RULES) == telling.Cleared(given)


async def test_what_examples_may_not_keep_no_record_tells() -> None:
    """Alike in all texts; the record says which were changed, and the vector of such a request is forgotten."""
    given = settlement("Who is b@example.org?", "And?", request="Who is a@example.com?", answer="a@example.com is Ann.")
    made = (await cleaned(given, "Who is a@example.com?", RULES)).settlement
    said = made.record.explanation

    assert (said["request"], said["answer"]) == ("Who is [email 1]?", "[email 1] is Ann.")
    assert [one["request"] for one in said["candidates"]] == ["Who is [email 2]?", "And?"]  # type: ignore[index, call-overload, union-attr]
    assert changed_texts(said) == ["request", "answer", "candidates.0"]
    assert (said["turns"], has_vector(made)) == (1, False)


async def test_where_the_rules_reject_nothing_is_told() -> None:
    """Other texts may speak of the secret as well."""
    made = (await cleaned(settlement("What?", answer=f"Use {KEY}."), "Why?", RULES)).settlement
    said = made.record.explanation

    assert (said["request"], said["answer"], said["candidates"]) == (None, None, [{"id": "e0", "request": None}])
    assert not has_vector(made)


async def test_an_answer_alone_costs_no_vector() -> None:
    """It stands for the request; for a dialogue's turn before as well, which is not told."""
    given = settlement(answer="Ask a@example.com.")

    assert has_vector((await cleaned(given, "Why?", RULES)).settlement)
    assert not has_vector((await cleaned(given, "I am a@example.com.\nWhy?", RULES)).settlement)
    assert not has_vector((await cleaned(settlement(request="a@example.com?"), "", RULES)).settlement)


async def test_texts_are_cut_when_they_are_clean() -> None:
    """Half a secret is not recognised."""
    text = "x" * 1980 + " " + KEY
    redacting = PrivacyPolicy(secrets="redact")
    made = (await cleaned(settlement(answer=text), "Why?", redacting)).settlement.record.explanation
    long = (await cleaned(settlement(answer="y" * 3000), "Why?", RULES)).settlement.record.explanation

    assert made["answer"] == "x" * 1980 + " [api_key 1]"
    assert (long["answer"], changed_texts(long)) == ("y" * 2000, ())


@pytest.mark.parametrize("error", [PolicyError("no Presidio"), ValueError("odd text")])
async def test_what_cannot_be_cleaned_is_not_told(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settlement is written all the same."""

    def fails(texts: Sequence[str], rules: PrivacyPolicy) -> Cleaned:
        raise error

    monkeypatch.setattr(telling, "clean", fails)
    made = await cleaned(settlement("What?"), "Why?", RULES)
    said = made.settlement.record.explanation

    assert made.is_failed
    assert (said["request"], said["answer"], has_vector(made.settlement)) == (None, None, False)
    assert await cleaned_comment("good", RULES) == ""


async def test_what_takes_long_runs_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts, and all with Presidio: requests are being planned meanwhile."""
    ran: list[bool] = []

    def watched(texts: Sequence[str], rules: PrivacyPolicy) -> Cleaned:
        ran.append(threading.current_thread() is threading.main_thread())
        return Cleaned(tuple(texts))

    monkeypatch.setattr(telling, "clean", watched)
    await cleaned(settlement(), "Why?", RULES)
    await cleaned(settlement(answer="x" * 500), "Why?", RULES)
    await cleaned(settlement(), "Why?", PrivacyPolicy(presidio=PresidioPolicy()))

    assert ran == [True, False, False]


async def test_without_texts_and_vector_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the log holds none."""
    monkeypatch.setattr(telling, "clean", None)
    bare = replace(settlement(request=None, answer=None), lesson=lesson("d1"))

    assert (await cleaned(bare, "Why?", RULES)).settlement is bare


async def test_a_comment_is_cleaned_too() -> None:
    """Or left out."""
    assert await cleaned_comment("mail a@example.com", RULES) == "mail [email 1]"
    assert await cleaned_comment(f"use {KEY}", RULES) == ""
