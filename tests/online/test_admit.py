from dataclasses import replace
from typing import Any

import pytest

from echo_proxy.online.admit import example_from, n_tokens, reason_to_refuse
from echo_proxy.types import Caller, Message, Outcome, Plan, Prompt, Quality
from tests.builders import GOOD, NOW, SMALL, example, outcome, plan, policy, request, served, vector


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
        ({"error": "Timeout"}, "error"),
        ({"text": "Hello! How can I help you today?"}, "boilerplate"),
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
    """Altogether, by the number of turns, by tokens."""
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    dialogue = plan(request=request(dialogue=turns))

    assert refused(plan(), outcome(), enabled=False) == "disabled"
    assert refused(dialogue, outcome()) == "turns"
    assert refused(dialogue, outcome(), max_turns=2) is None
    assert refused(plan(), outcome(), max_tokens=5) == "tokens"


@pytest.mark.parametrize(
    "changes", [{"is_unkept": True}, {"caller": Caller(key="a", is_unkept=True)}], ids=["client", "operator"]
)
def test_who_wants_nothing_kept_is_heard_first(changes: dict[str, Any]) -> None:
    """The client by header, or the operator for a key; whatever else stands against it."""
    assert refused(plan(request=request(**changes)), outcome(is_whole=False), enabled=False) == "opt_out"


@pytest.mark.parametrize(
    "exclude", [{"keys": ["a"]}, {"teams": ["red"]}, {"domains": ["law"]}, {"models": ["large"]}], ids=str
)
def test_the_policy_excludes_keys_teams_domains_and_models(exclude: dict[str, Any]) -> None:
    """By what the proxy knows of the caller, and by the deployment that answered."""
    made = plan(request=request(caller=Caller(key="a", team="red", domain="law")))
    others = plan(request=request(caller=Caller(key="b", team="blue")))

    arms = [{"deployment": name, "teacher": True} for name in ("large", "other")]
    rules = policy(arms=arms, admission={"exclude": exclude})

    assert reason_to_refuse(made, outcome(), GOOD, rules) == "excluded"
    assert reason_to_refuse(others, outcome(), GOOD, rules) == ("excluded" if "models" in exclude else None)


def test_boilerplate_is_found_in_short_answers_only() -> None:
    """A long answer that ends with an offer of help says something; the list is the policy's."""
    polite = "Paris. How can I help you today?"

    assert refused(plan(), outcome(polite)) == "boilerplate"
    assert refused(plan(), outcome(polite.replace("How", "HOW"))) == "boilerplate"
    assert refused(plan(), outcome("Paris is large. " * 20 + polite)) is None
    assert refused(plan(), outcome(polite), boilerplate=[]) is None
    assert refused(plan(), outcome("I don\u2019t have enough information.")) == "boilerplate"


def test_what_a_validator_has_failed_is_not_kept() -> None:
    """Whatever quality it is given."""
    assert refused(plan(), outcome(), Quality(1.0, 1.0, {"json": 0.0})) == "validator"
    assert refused(plan(), outcome(), Quality(1.0, 1.0, {"json": 1.0})) is None


def test_without_a_vector_it_could_never_be_found() -> None:
    """So it is not kept."""
    assert refused(plan(vector=None), outcome()) == "no_vector"


def test_an_example_carries_its_provenance() -> None:
    """Scope, partition, writer and decision; it expires at a fixed time."""
    made = example_from(plan(), outcome(), GOOD, policy(admission={"ttl_s": 60}))

    assert made == example(
        "d1", response="Paris.", teacher="large-1", n_tokens=12, expires_at=NOW + 60, vector=made.vector, counted_at=NOW
    )
    assert made.vector.tolist() == vector(1.0).tolist()


def test_tokens_of_a_pair_are_estimated() -> None:
    """Four characters of the question are a token, one at least; the answer as billed."""
    assert n_tokens(plan(request=request("x" * 40)), outcome(completion_tokens=5)) == 15
    assert n_tokens(plan(request=request("x")), outcome(completion_tokens=5)) == 6


def test_an_answer_that_was_given_with_examples_is_never_served_by_itself() -> None:
    """They shape it, and the next asker may be shown others."""
    alone = plan(request=request(answer_key="k"))
    shown = replace(alone, prompt=Prompt(example_ids=("e1",)))

    kept = [example_from(made, outcome(), GOOD, policy()).answer_key for made in (alone, shown)]

    assert kept == ["k", ""]
