import pytest

from echo_proxy.bandits.fading import DISCOUNT
from echo_proxy.learning.discounted import DiscountedSums
from echo_proxy.types import ArmKey, ArmSums, Lesson, News
from tests.builders import lesson

SMALL, LARGE = ArmKey("small+0", "all"), ArmKey("large+0", "all")


def learned(*lessons: Lesson, discount: float = DISCOUNT) -> DiscountedSums:
    sums = DiscountedSums(discount)
    for i, one in enumerate(lessons):
        sums.learn(News(Lesson(**{**_fields(one), "decision_id": f"{one.decision_id}-{i}"}), None))
    return sums


def _fields(one: Lesson) -> dict[str, object]:
    return {name: getattr(one, name) for name in one.__slots__}


def test_without_a_discount_they_are_plain_sums() -> None:
    """And means are plain means."""
    sums = learned(lesson(reward=1.0), lesson(reward=0.5), discount=1.0)

    assert sums.sums(LARGE) == ArmSums(2.0, 1.5, 1.25)


def test_every_answer_makes_older_ones_count_less() -> None:
    """Of all arms, so that one left alone becomes uncertain again."""
    sums = learned(lesson(arm="large+0", reward=1.0), *[lesson(arm="small+0", reward=0.0)] * 250)

    assert sums.sums(LARGE).weight == pytest.approx(DISCOUNT**250)
    assert sums.sums(SMALL).weight == pytest.approx((1 - DISCOUNT**250) / (1 - DISCOUNT))


def test_feedback_replaces_exactly_what_is_left_of_a_guess() -> None:
    """As if it had been known from the beginning."""
    guess, truth, later = lesson("a", reward=1.0), lesson("a", reward=0.0), lesson("b", reward=0.5)
    late, early = DiscountedSums(DISCOUNT), DiscountedSums(DISCOUNT)
    for news in (News(guess, None), News(later, None), News(truth, guess)):
        late.learn(news)
    for news in (News(truth, None), News(later, None)):
        early.learn(news)

    assert late.sums(LARGE).reward_sum == pytest.approx(early.sums(LARGE).reward_sum)
    assert late.sums(LARGE).weight == pytest.approx(early.sums(LARGE).weight)


def test_what_was_never_heard_of_is_nothing() -> None:
    """Zeros."""
    assert learned().sums(SMALL) == ArmSums()
