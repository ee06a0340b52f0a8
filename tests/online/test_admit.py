from dataclasses import replace
from typing import Any

import pytest

from echo_proxy.online.admit import example_from, n_tokens, reason_to_refuse, twins_of
from echo_proxy.types import Message, Outcome, Plan, Quality
from tests.builders import GOOD, NOW, SMALL, example, outcome, plan, policy, request, served, vector
from tests.fakes import MemoryStore


def refused(made: Plan, given: Outcome, quality: Quality = GOOD, **rules: Any) -> str | None:
    return reason_to_refuse(made, given, quality, policy(admission=rules))


def test_a_whole_good_answer_of_the_teacher_is_kept() -> None:
    """Also when LiteLLM chose the teacher itself."""
    by_litellm = outcome(attempts=[replace(served(), decision=None)])

    assert refused(plan(), outcome()) is None
    assert refused(plan(is_shadow=True), by_litellm) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"attempts": [served(SMALL)]}, "not_a_teacher"),
        ({"attempts": []}, "not_a_teacher"),
        ({"may_keep": False}, "redacted"),
        ({"is_whole": False}, "not_whole"),
        ({"text": " "}, "empty_or_refusal"),
        ({"text": "I can't help with that."}, "empty_or_refusal"),
        ({"completion_tokens": 3000}, "tokens"),
    ],
)
def test_only_whole_wanted_answers_are_kept(changes: dict[str, Any], reason: str) -> None:
    """No other's, no redacted, truncated, empty, refusing or overlong answer."""
    assert refused(plan(), outcome(**changes)) == reason


def test_the_last_attempt_that_served_counts() -> None:
    """A teacher that failed before taught nothing."""
    failed_teacher = replace(served(), error="Timeout")

    assert refused(plan(), outcome(attempts=[failed_teacher, served(SMALL)])) == "not_a_teacher"


def test_the_policy_can_forbid_it() -> None:
    """Altogether, by quality, by the number of turns, by tokens."""
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    dialogue = plan(request=request(dialogue=turns))

    assert refused(plan(), outcome(), enabled=False) == "disabled"
    assert refused(plan(), outcome(), Quality(0.4, 1.0, {})) == "quality"
    assert refused(plan(), outcome(), Quality(0.4, 1.0, {}), min_feedback=0.4) is None
    assert refused(dialogue, outcome()) == "turns"
    assert refused(dialogue, outcome(), max_turns=2) is None
    assert refused(plan(), outcome(), max_tokens=5) == "tokens"


def test_without_a_vector_it_could_never_be_found() -> None:
    """So it is not kept."""
    assert refused(plan(vector=None), outcome()) == "no_vector"


def test_an_example_carries_its_provenance() -> None:
    """Scope, partition, writer and decision; it expires at a fixed time."""
    made = example_from(plan(), outcome(), GOOD, policy(admission={"ttl_s": 60}))

    assert made == example(
        "d1", response="Paris.", teacher="large-1", n_tokens=12, expires_at=NOW + 60, vector=made.vector
    )
    assert made.vector.tolist() == vector(1.0).tolist()


def test_tokens_of_a_pair_are_estimated() -> None:
    """Four characters of the question are a token, one at least; the answer as billed."""
    assert n_tokens(plan(request=request("x" * 40)), outcome(completion_tokens=5)) == 15
    assert n_tokens(plan(request=request("x")), outcome(completion_tokens=5)) == 6


async def test_twins_ask_the_same_in_the_same_scope() -> None:
    """Not the example itself, not another tenant's, not one that merely lies near."""
    store = MemoryStore()
    for one in (
        example("new"),
        example("twin"),
        example("other-scope", scope="key:b"),
        example("other-partition", partition="q"),
        example("near", vector=vector(1.0, 0.5)),
    ):
        await store.add(one)

    assert [twin.id for twin in await twins_of(example("new"), policy(), store)] == ["twin"]
