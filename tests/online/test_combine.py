from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.online.combine import combine, quality_of_verdict
from echo_proxy.online.validators import VALIDATORS
from echo_proxy.policy import JudgePolicy, SampledJudge, Signal
from echo_proxy.types import Quality

RULES = JudgePolicy(sampled=SampledJudge(model_group="judge"))
UNJUDGED = 0.05
CONTENT = {"answered": 1.0, "whole": 1.0}
shares = st.floats(0, 1)
names = st.sampled_from(
    [*sorted(VALIDATORS), "agreement", "shadow_agreement", "verdict_first", "verdict_second", "feedback", "unknown"]
)
signals = st.dictionaries(names, st.one_of(shares, st.sampled_from([0.0, 1.0])), max_size=12)


def combined(**more: float) -> Quality:
    return combine({**CONTENT, **more}, RULES, UNJUDGED)


def test_content_validators_prove_little() -> None:
    """The quality is that of an answer that nothing speaks against."""
    made = combined()

    assert (made.estimate, made.weight) == (pytest.approx(0.9), pytest.approx(0.05))
    assert made.deviation == pytest.approx(0.3)


def test_one_failed_validator_is_proof() -> None:
    """Whatever guesses say."""
    made = combined(whole=0.0, agreement=1.0, shadow_agreement=1.0)

    assert (made.estimate, made.weight, made.deviation) == (0.0, 1.0, 0.0)


def test_a_verdict_goes_before_validators_and_guesses() -> None:
    """With the policy's weight."""
    made = combined(whole=0.0, agreement=0.0, verdict_first=0.5, verdict_second=0.5)

    assert (made.estimate, made.weight, made.deviation) == (0.9, 0.8, 0.0)


def test_a_verdict_that_contradicts_itself_weighs_little() -> None:
    """A judge that always prefers what it sees first has said nothing."""
    made = combined(verdict_first=1.0, verdict_second=0.0)
    nearly = combined(verdict_first=0.75, verdict_second=0.5)

    assert (made.estimate, made.weight, made.deviation) == (0.5, 0.05, 0.5)
    assert (nearly.weight, nearly.deviation) == (pytest.approx(0.6), pytest.approx(0.025))


def test_half_a_verdict_is_none() -> None:
    """Both orders or nothing."""
    assert combined(verdict_first=1.0).weight == combined().weight


@pytest.mark.parametrize(("verdict", "quality"), [(0.0, 0.0), (0.25, 0.45), (0.5, 0.9), (0.75, 0.95), (1.0, 1.0)])
def test_as_good_as_the_teacher_is_as_good_as_an_unblamed_answer(verdict: float, quality: float) -> None:
    """Else arms that are judged could never catch up with a teacher that is not."""
    assert quality_of_verdict(verdict, 0.9) == pytest.approx(quality)


def test_guesses_multiply_the_odds() -> None:
    """9 to 1, times 0.6 / 0.4 or its inverse; 0.5 changes nothing but the weight."""
    assert combined(agreement=1.0).estimate == pytest.approx(13.5 / 14.5)
    assert combined(agreement=0.0).estimate == pytest.approx(6 / 7)
    assert combined(agreement=0.5).estimate == pytest.approx(0.9)
    assert combined(agreement=1.0, shadow_agreement=0.0).estimate == pytest.approx(0.9)
    assert combined(agreement=0.5).weight == pytest.approx(1 - 0.95 * 0.9)


def test_a_signal_without_weight_is_ignored() -> None:
    """It is kept for the reader."""
    rules = JudgePolicy(agreement=Signal(weight=0.0))
    made = combine({**CONTENT, "agreement": 0.0}, rules, UNJUDGED)

    assert (made.estimate, made.weight) == (pytest.approx(0.9), pytest.approx(0.05))
    assert made.signals["agreement"] == 0.0


@given(signals, shares)
def test_feedback_always_wins(known: dict[str, float], score: float) -> None:
    """With full weight, whatever else is known."""
    made = combine({**known, "feedback": score}, RULES, UNJUDGED)

    assert (made.estimate, made.weight, made.deviation) == (score, 1.0, 0.0)


@given(signals, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(known: dict[str, float], random: object) -> None:
    """Not even in the last digit: late signals are added to those known and all is computed afresh."""
    items = list(known.items())
    random.shuffle(items)  # type: ignore[attr-defined]

    assert combine(dict(items), RULES, UNJUDGED) == combine(known, RULES, UNJUDGED)


def test_every_order_of_the_usual_signals() -> None:
    """Verdict, shadow and feedback may overtake each other."""
    late = {"verdict_first": 0.7, "verdict_second": 0.6, "shadow_agreement": 0.2, "feedback": 0.3}
    ends = {repr(sorted({**CONTENT, **dict(order)}.items())) for order in permutations(late.items())}
    made = [combine({**CONTENT, **dict(order)}, RULES, UNJUDGED) for order in permutations(late.items())]

    assert len(ends) == 1
    assert all(one == made[0] for one in made)


@given(signals)
def test_a_quality_is_what_its_record_says(known: dict[str, float]) -> None:
    """Estimate in [0, 1], weight in (0, 1], deviation in [0, 0.5]; every signal is kept."""
    made = combine(known, RULES, UNJUDGED)

    assert 0 <= made.estimate <= 1
    assert 0 < made.weight <= 1
    assert 0 <= made.deviation <= 0.5
    assert made.signals == known


@given(shares, shares, st.floats(0.5, 1), shares)
def test_a_better_signal_never_lowers_the_estimate(low: float, high: float, reliability: float, other: float) -> None:
    """As long as it is believed to tell rather the truth."""
    rules = JudgePolicy(agreement=Signal(weight=0.5, reliability=reliability))
    low, high = sorted((low, high))
    worse, better = (
        combine({"answered": 1.0, "agreement": one, "shadow_agreement": other}, rules, UNJUDGED) for one in (low, high)
    )

    assert worse.estimate <= better.estimate + 1e-12


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_signals_out_of_range_are_errors(wrong: float) -> None:
    """They would poison all that is learned."""
    with pytest.raises(ValueError, match=r"signal agreement must be in \[0, 1\], got"):
        combine({"agreement": wrong}, RULES, UNJUDGED)
