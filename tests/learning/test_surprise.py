from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.learning.surprise import Answer, ChangeTest, Surprises
from echo_proxy.policy import Drift
from echo_proxy.types import ArmKey, Evidence, Lesson
from tests.builders import NOW
from tests.learning.lessons import lesson

RULES = Drift()


def answer(index: int, reward: float, weight: float = 1.0, expected: float = 0.8) -> Lesson:
    evidence = (Evidence(ArmKey("small+2", "all"), weight, reward),)
    return lesson(f"d{index}", at=NOW + index, means=(expected,), evidence=evidence)


def heard(rewards: list[float], weight: float = 1.0) -> Surprises:
    made = Surprises()
    correction(made)
    for index, reward in enumerate(rewards):
        made.learn(answer(index, reward, weight))
    return made


def correction(made: Surprises, after_s: float = 100.0, rules: Drift = RULES) -> float:
    return float(made.corrections(["small+2"], rules, NOW + after_s)[0])


def test_an_arm_that_fails_is_noticed_after_some_ten_answers() -> None:
    """Few failures may be chance."""
    assert correction(heard([1.0] * 20 + [0.0] * 5)) == 0.0
    assert correction(heard([1.0] * 20 + [0.0] * 11)) < -0.5


def test_an_arm_that_got_better_is_noticed_too() -> None:
    """The correction is then added."""
    made = Surprises()
    for index in range(15):
        made.learn(answer(index, 1.0, expected=0.2))

    assert correction(made) > 0.5


def test_chance_raises_no_alarm() -> None:
    """2,000 answers that are right as often as expected."""
    rng = np.random.default_rng(3)
    test = ChangeTest(RULES)
    raised = 0
    for t in range(2000):
        test.hear(Answer(float(t), 1.0, 0.8, float(rng.random() < 0.8)))
        raised += test.is_raised

    assert raised == 0


def test_an_arm_that_was_left_is_tried_again() -> None:
    """Its correction fades with time."""
    made = heard([0.0] * 15)
    soon, later, much_later = (correction(made, s) for s in (100.0, 100.0 + RULES.half_life_s, 1e6))

    assert soon < later < much_later < 0.0
    assert much_later == pytest.approx(0.0, abs=1e-3)


def test_when_the_estimate_has_caught_up_the_correction_ends() -> None:
    """Answers are then as expected."""
    made = heard([0.0] * 15)
    for index in range(15, 75):
        made.learn(answer(index, float(index % 10 == 0), expected=0.1))

    assert correction(made) == 0.0


def test_a_guess_weighs_little() -> None:
    """So it takes more of them."""
    assert correction(heard([0.0] * 15, weight=0.05)) == 0.0
    assert correction(heard([0.0] * 250, weight=0.05)) < 0.0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0.05, 1)), min_size=1, max_size=40))
def test_a_later_view_replaces_the_earlier_one(seen: list[tuple[float, float, float]]) -> None:
    """As if the earlier one had never been heard."""
    amended, plain = Surprises(), Surprises()
    for index, (first, last, weight) in enumerate(seen):
        amended.learn(answer(index, first))
        correction(amended)
        amended.learn(answer(index, last, weight))
        plain.learn(answer(index, last, weight))

    assert correction(amended) == pytest.approx(correction(plain))


def test_failed_attempts_count_for_the_arm_that_failed() -> None:
    """It is not among the arms that were drawn from next; what was expected of it last counts."""
    made = heard([1.0])
    failed = Evidence(ArmKey("small+2", "all"), 1.0, 0.0, is_served=False)
    for index in range(1, 15):
        served = Evidence(ArmKey("large+0", "all"), 1.0, 0.8)
        made.learn(replace(answer(index, 0.0), arms=("large+0",), means=(0.8,), evidence=(failed, served)))

    assert correction(made) < -0.5
    assert made.corrections(["large+0"], RULES, NOW)[0] == 0.0


def test_nothing_is_known_of_an_arm_without_answers() -> None:
    """Nor of one of which nothing was expected."""
    made = Surprises()
    made.learn(replace(answer(0, 1.0), arms=("large+0",), means=(0.5,)))

    assert made.corrections(["small+2", "large+0"], RULES, NOW).tolist() == [0.0, 0.0]


def test_other_rules_judge_the_same_answers_anew() -> None:
    """A reloaded policy counts at once."""
    made = heard([1.0] * 10 + [0.0] * 5)

    assert correction(made) == 0.0
    assert correction(made, rules=Drift(threshold=1.0)) < 0.0


# ------------------------------------------------------------------ several callers


def said(index: int, reward: float, caller: str) -> Lesson:
    return replace(answer(index, reward), caller=caller)


def test_one_of_several_callers_cannot_feign_a_change() -> None:
    """Whatever it says of however many answers, until nearly all of the newest are its own."""
    made = Surprises()
    for index in range(100):
        made.learn(said(index, 1.0, "a"))
    for index in range(100, 160):
        made.learn(said(index, 0.0, "b"))

        assert correction(made) == 0.0


def test_a_second_caller_confirms_a_change() -> None:
    """Two that find the arm bad are believed as soon as one alone."""
    made = Surprises()
    for index in range(40):
        made.learn(said(index, 1.0, "ab"[index % 2]))
    for index in range(40, 54):
        made.learn(said(index, 0.0, "ab"[index % 2]))

    assert correction(made) < -0.5


def test_a_good_answer_now_and_then_hides_no_change() -> None:
    """What one caller is content with makes room for what it complains of next."""
    made = Surprises()
    for index in range(40):
        made.learn(said(index, 1.0, "ab"[index % 2]))
    for index in range(40, 70):
        made.learn(said(index, float(index % 7 == 0), "ab"[index % 2]))

    assert correction(made) < -0.5


def test_a_caller_who_is_never_content_hides_no_change_from_the_others() -> None:
    """Its complaints count up to their share only, so the others' good answers still take the sum back to 0."""
    made = Surprises()
    for index in range(200):
        made.learn(said(index, 0.0 if index % 4 == 0 else 1.0, "grumpy" if index % 4 == 0 else "ab"[index % 2]))
    before = correction(made)
    for index in range(200, 220):
        made.learn(said(index, 0.0, "ab"[index % 2]))

    assert before == 0.0
    assert correction(made) < -0.5


@pytest.mark.parametrize("n_others", [0, 1])
def test_who_gives_nearly_all_answers_needs_no_second(n_others: int) -> None:
    """A deployment with one busy caller must notice a change as fast."""
    made = Surprises()
    for index in range(60):
        made.learn(said(index, 1.0, "b" if index < n_others else "a"))
    for index in range(60, 74):
        made.learn(said(index, 0.0, "a"))

    assert correction(made) < -0.5


def test_a_late_view_of_a_forgotten_answer_is_no_newest_surprise() -> None:
    """Feedback may come days later, when the arm is another."""
    made = heard([1.0] * 100)
    for index in range(20):
        made.learn(answer(index, 0.0))

    assert correction(made) == 0.0
