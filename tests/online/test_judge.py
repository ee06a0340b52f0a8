import pytest

from echo_proxy.online.judge import heed, is_refusal, judge
from echo_proxy.online.log import revised_record
from echo_proxy.policy import JudgePolicy
from echo_proxy.types import Feedback, Outcome, Quality
from tests.builders import outcome, record

RULES = JudgePolicy()


def judged(made: Outcome, wants_json: bool = False, rules: JudgePolicy = RULES) -> Quality:
    return judge(made, wants_json, rules, unjudged_weight=0.05)


def test_content_validators_prove_little() -> None:
    """They can only show that an answer is bad."""
    assert judged(outcome()) == Quality(1.0, 0.05, {"answered": 1.0, "whole": 1.0, "length": 1.0, "refusal": 1.0})


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
    assert judged(outcome(is_whole=False)).estimate == 1.0


@pytest.mark.parametrize(("text", "estimate"), [('{"a": 1}', 1.0), ("[1", 0.0), ("Here you are: {}", 0.0)])
def test_who_asked_for_json_must_get_it(text: str, estimate: float) -> None:
    """Who did not is not judged by it."""
    assert judged(outcome(text), wants_json=True).signals["json"] == estimate
    assert judged(outcome(text), wants_json=True).estimate == estimate
    assert "json" not in judged(outcome(text)).signals


def test_length_is_counted_in_words_where_no_usage_is_reported() -> None:
    """A provider without usage is not punished; a policy may ask for more than one token."""
    rules = JudgePolicy(min_tokens=3)

    assert judged(outcome("one two three", completion_tokens=0), rules=rules).estimate == 1.0
    assert judged(outcome("one two", completion_tokens=0), rules=rules).estimate == 0.0
    assert judged(outcome("antidisestablishmentarianism", completion_tokens=6), rules=rules).estimate == 1.0


def test_feedback_goes_before_validators() -> None:
    """With full weight; the validators' verdicts stay for the reader."""
    made = heed(Feedback(0.7))
    kept = revised_record(record(explanation={"signals": {"whole": 0.0}}), Feedback(0.7), 0.6, ())

    assert (made.estimate, made.weight) == (0.7, 1.0)
    assert kept.explanation["signals"] == {"whole": 0.0, "feedback": 0.7}


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
