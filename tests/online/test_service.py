import re

import pytest

from echo_proxy.online.service import hints, scope_hash, service_of
from echo_proxy.types import Prompt, Rejection, Selection, Service
from tests.builders import NOW, candidate, plan, policy, request

URGENT = policy(priority={"default": 3, "allow_client": True}, deadline={"answer_s": 10.0})
FOUND = Selection(
    chosen=(candidate("a", utility=0.9, response="A"), candidate("b", utility=0.5, response="B")),
    rejected=(
        Rejection(candidate("c", utility=0.6, response="C"), "token_budget"),
        Rejection(candidate("d", utility=0.8, response="D"), "enough"),
        Rejection(candidate("e", utility=0.1, response="E"), "utility"),
    ),
)


def test_scope_priority_deadline_and_hints_are_told() -> None:
    """The deadline is what is left of it; the scope is a hash, whatever it is called."""
    made = plan(request=request(priority=7, deadline_s=4.0), selection=FOUND)

    told = service_of(made, URGENT, NOW + 1.0, is_ours=True)

    assert told == Service(scope_hash("key:a"), 7, 3.0, ("A", "B", "D", "C"))
    assert re.fullmatch("[0-9a-f]{32}", scope_hash("team:Ünited \ud800"))


def test_a_deadline_that_has_passed_is_the_most_urgent() -> None:
    """Zero or less would be no deadline to the engine."""
    told = service_of(plan(), URGENT, NOW + 60.0, is_ours=True)

    assert told.deadline_s is not None
    assert 0 < told.deadline_s < 0.01


@pytest.mark.parametrize(("is_ours", "is_shadow"), [(False, False), (True, True)])
def test_what_the_policy_did_not_choose_is_only_kept_apart(is_ours: bool, is_shadow: bool) -> None:
    """In shadow mode, and where LiteLLM chose, nothing changes but whose prefixes may be used."""
    made = plan(request=request(priority=7), selection=FOUND, is_shadow=is_shadow)

    assert service_of(made, URGENT, NOW, is_ours=is_ours) == Service(scope_hash("key:a"))


def test_scopes_differ_in_their_hash() -> None:
    """Or tenants would share prefixes."""
    assert len({scope_hash(one) for one in ("key:a", "key:b", "team:a", "public:all")}) == 4


def test_a_strong_arm_without_examples_has_hints() -> None:
    """The answers it is not shown are still likely."""
    assert service_of(plan(selection=FOUND), policy(), NOW, is_ours=True).hints == ("A", "B", "D", "C")


def test_what_stands_in_the_prompt_is_no_hint() -> None:
    """The engine looks there anyway; the same text twice is one hint, and there are four at most."""
    shown = plan(selection=FOUND, prompt=Prompt(example_ids=("a", "d")))
    twins = Selection(tuple(candidate(str(i), response=str(i // 2)) for i in range(20)))

    assert service_of(shown, policy(), NOW, is_ours=True).hints == ("B", "C")
    assert hints(twins, ()) == ("0", "1", "2", "3")
