import pytest

from echo_proxy.online.judge import appraise
from echo_proxy.online.validators import is_refusal
from echo_proxy.policy import JudgePolicy
from echo_proxy.types import Outcome, Quality
from tests.builders import candidate, outcome, plan, policy, request, selection

RULES = JudgePolicy()


def judged(made: Outcome, wants_json: bool = False, rules: JudgePolicy = RULES) -> Quality:
    return appraise(plan(request=request(wants_json=wants_json)), made, policy(judge=rules))


def test_content_validators_prove_little() -> None:
    """They can only show that an answer is bad."""
    made = judged(outcome())

    assert (made.estimate, made.weight) == (pytest.approx(0.9), pytest.approx(0.05))
    assert made.signals == {"answered": 1.0, "whole": 1.0, "length": 1.0, "refusal": 1.0, "repetition": 1.0}


@pytest.mark.parametrize(
    ("changes", "signal"),
    [
        ({"error": "Timeout"}, "answered"),
        ({"finish_reason": "length"}, "whole"),
        ({"finish_reason": "max_tokens"}, "whole"),
        ({"finish_reason": "incomplete"}, "whole"),
        ({"text": "", "completion_tokens": 0}, "length"),
        ({"text": "  \n", "completion_tokens": 7}, "length"),
        ({"text": "I\u2019m sorry, but I can\u2019t do that."}, "refusal"),
        ({"finish_reason": "content_filter"}, "refusal"),
        ({"finish_reason": "refusal"}, "refusal"),
    ],
)
def test_one_failed_validator_is_proof(changes: dict[str, object], signal: str) -> None:
    """Quality 0 with full weight, on every endpoint's words for it."""
    made = judged(outcome(**changes))

    assert (made.estimate, made.weight) == (0.0, 1.0)
    assert [name for name, value in made.signals.items() if value == 0.0] == [signal]


def test_a_stream_left_early_is_not_the_model_s_fault() -> None:
    """It is no example, but no bad answer either."""
    assert judged(outcome(is_whole=False)).estimate == pytest.approx(0.9)


@pytest.mark.parametrize(("text", "estimate"), [('{"a": 1}', 1.0), ("[1", 0.0), ("Here you are: {}", 0.0)])
def test_who_asked_for_json_must_get_it(text: str, estimate: float) -> None:
    """Who did not is not judged by it."""
    assert judged(outcome(text), wants_json=True).signals["json"] == estimate
    assert (judged(outcome(text), wants_json=True).estimate > 0) == (estimate > 0)
    assert "json" not in judged(outcome(text)).signals


def test_length_is_counted_in_words_where_no_usage_is_reported() -> None:
    """A provider without usage is not punished; a policy may ask for more than one token."""
    rules = JudgePolicy(min_tokens=3)

    assert judged(outcome("one two three", completion_tokens=0), rules=rules).estimate == pytest.approx(0.9)
    assert judged(outcome("one two", completion_tokens=0), rules=rules).estimate == 0.0
    assert judged(outcome("antidisestablishmentarianism", completion_tokens=6), rules=rules).estimate == pytest.approx(
        0.9
    )


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("I CAN'T help with that", True),
        (" \nAs an AI language model, I", True),
        ("Because I can't help with that", False),
        ("", False),
    ],
)
def test_a_refusal_is_told_by_its_beginning(text: str, verdict: bool) -> None:
    """Letter case and leading space do not matter; the words further on do not count."""
    assert is_refusal(text, RULES) == verdict


def test_an_operator_s_apostrophe_may_be_typographic() -> None:
    """Answer and rule are compared in the same spelling."""
    assert is_refusal("I won't.", JudgePolicy(refusals=("I won\u2019t",)))


def test_an_answer_is_appraised_by_all_that_can_be_told_at_once() -> None:
    """Validators, and agreement with the chosen examples' answers."""
    near = plan(selection=selection(candidate(response="Paris.", utility=1.0)))
    alone = appraise(plan(), outcome("Paris."), policy())
    agreed = appraise(near, outcome("Paris."), policy())
    differs = appraise(near, outcome("Lyon."), policy())

    assert "agreement" not in alone.signals
    assert (alone.weight, agreed.weight) == (pytest.approx(0.05), pytest.approx(1 - 0.95 * 0.9))
    assert (agreed.signals["agreement"], differs.signals["agreement"]) == (1.0, 0.0)
    assert differs.estimate < alone.estimate < agreed.estimate


@pytest.mark.parametrize("changes", [{"error": "Timeout", "text": ""}, {"finish_reason": "length"}])
def test_agreement_does_not_outweigh_a_failure(changes: dict[str, object]) -> None:
    """A failed validator is proof."""
    near = plan(selection=selection(candidate(response="Paris.")))
    made = appraise(near, outcome(**changes), policy())

    assert (made.estimate, made.weight) == (0.0, 1.0)
