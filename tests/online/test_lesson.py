from dataclasses import replace
from typing import Any

import pytest

from echo_proxy.pipeline import revise, settle
from echo_proxy.types import Amendment, Attempt, Caller, Feedback, Lesson
from tests.builders import LARGE, answer, decision, plan, policy, request, situation, vector

MADE = decision(LARGE, situation=situation())


def test_a_settlement_teaches_what_the_arm_earned() -> None:
    """With all that the decision was made from, and no text."""
    settled = settle(plan(decision=MADE), answer(), [Attempt("large", "large", MADE)], policy())
    lesson, record = settled.settlement.lesson, settled.settlement.record

    assert isinstance(lesson, Lesson)
    assert (lesson.decision_id, lesson.arm, lesson.situation) == (record.id, "large+0", MADE.situation)
    assert (lesson.evidence, lesson.reward, lesson.is_acted) == (record.evidence, record.reward, True)
    assert answer().text not in repr(lesson)


def test_without_our_router_there_is_no_lesson() -> None:
    """A decision that says not what it was made from cannot be learned from."""
    bare = replace(MADE, situation=None)
    settled = settle(plan(decision=bare), answer(), [Attempt("large", "large", bare)], policy())

    assert settled.settlement.lesson is None


def test_feedback_amends_the_lesson() -> None:
    """It goes to all workers by the same way."""
    record = settle(plan(decision=MADE), answer(), [Attempt("large", "large", MADE)], policy()).settlement.record

    revised = revise(record, Feedback(0.0), policy())

    assert revised.lesson == Amendment(record.id, 2, revised.record.evidence, 0.0, 1.0, 0.0)


def test_a_lesson_says_who_asked() -> None:
    """So that nobody alone can feign a change of an arm."""
    made = plan(decision=MADE)
    lesson = settle(made, answer(), [Attempt("large", "large", MADE)], policy()).settlement.lesson

    assert isinstance(lesson, Lesson)
    assert lesson.caller == made.request.caller.key


@pytest.mark.parametrize(
    ("texts", "may_keep", "has_vector"), [(True, True, True), (False, True, False), (True, False, False)]
)
def test_a_lesson_has_a_vector_where_the_log_may_have_the_text(texts: bool, may_keep: bool, has_vector: bool) -> None:
    """Much of a text can be guessed from its vector."""
    made = replace(MADE, situation=situation(vector=vector(1.0)))
    rules = policy(log={"texts": texts})
    settled = settle(plan(decision=made), answer(may_keep=may_keep), [Attempt("large", "large", made)], rules)

    assert isinstance(settled.settlement.lesson, Lesson)
    assert (settled.settlement.lesson.situation.vector is not None) is has_vector


@pytest.mark.parametrize("wish", [{"is_unkept": True}, {"caller": Caller(key="a", is_unkept=True)}])
def test_who_wants_nothing_kept_leaves_no_vector(wish: dict[str, Any]) -> None:
    """Whether the client says so or the operator of its key."""
    made = replace(MADE, situation=situation(vector=vector(1.0)))
    settled = settle(
        plan(decision=made, request=request(**wish)), answer(), [Attempt("large", "large", made)], policy()
    )

    assert isinstance(settled.settlement.lesson, Lesson)
    assert settled.settlement.lesson.situation.vector is None
