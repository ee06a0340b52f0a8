from dataclasses import replace

import pytest

from echo_proxy.online.sample import Reply, ShadowCall, shadow_call
from echo_proxy.online.shadow import compare
from echo_proxy.types import ArmKey
from tests.builders import LARGE, decision, outcome, plan, policy, request, served

REPLY = Reply("Paris.", "stop", "small-1", 20, 5, 0.0, 1.0)


def call(**changes: object) -> ShadowCall:
    rules = policy(
        shadow={"rate": 1.0},
        arms=[{"deployment": "small"}, {"deployment": "large", "teacher": True}],
        reward={"quality_weight": 1.0, "cost_weight": 0.0, "latency_weight": 0.0},
    )
    made = shadow_call(
        plan(decision=decision(arms=("small+0", "large+0")), request=request(**changes)),
        outcome("Paris.", [served(LARGE)]),
        rules,
    )
    assert made is not None
    return made


def test_two_answers_that_agree_speak_for_each_other() -> None:
    """The first by a signal, the second by evidence that feedback on the first leaves alone."""
    heard = compare(call(), REPLY)
    (evidence,) = heard.evidence

    assert heard.decision_id == "d1"
    assert heard.signals == {"shadow_agreement": 1.0}
    assert (evidence.key, evidence.is_served) == (ArmKey("small+0", "all"), False)
    assert evidence.reward == pytest.approx(13.5 / 14.5)
    assert evidence.weight == pytest.approx(1 - 0.95 * 0.9)


def test_a_refusal_speaks_against_the_second_arm() -> None:
    """A failed validator is proof."""
    heard = compare(call(), replace(REPLY, text="I can't help with that."))

    assert heard.signals["shadow_agreement"] < 0.5
    assert [(one.weight, one.reward) for one in heard.evidence] == [(1.0, 0.0)]


def test_an_empty_answer_says_nothing_of_the_first() -> None:
    """But all about the second arm."""
    heard = compare(call(), replace(REPLY, text=" "))

    assert heard.signals == {"shadow_empty": 1.0}
    assert [(one.weight, one.reward) for one in heard.evidence] == [(1.0, 0.0)]


def test_an_answer_that_our_limit_cut_teaches_nothing() -> None:
    """The limit was ours, not the caller's."""
    heard = compare(call(), replace(REPLY, finish_reason="length"))

    assert (heard.signals, heard.evidence) == ({}, ())


def test_lateness_is_no_evidence_against_the_second_arm() -> None:
    """As for the first: the deadline step foresees it, and one caller's deadline says nothing to the others."""
    late, in_time = compare(call(deadline_s=0.5), REPLY), compare(call(), REPLY)

    assert late.evidence == in_time.evidence
