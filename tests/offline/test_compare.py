from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from echo_proxy.offline.compare import compare, judge
from echo_proxy.offline.evaluation import EvaluateOptions, Evaluation, Figure, Verdict
from echo_proxy.offline.history import History, history_of, read_history
from echo_proxy.offline.retrace import retrace
from echo_proxy.policy import Policy
from echo_proxy.types import ArmKey, Evidence, Lesson
from tests.builders import NOW, lesson, policy
from tests.offline.traffic import GOOD, fill

ARMS = [{"deployment": "small"}, {"deployment": "large", "teacher": True}]
PLAIN = {"quality_weight": 1.0, "cost_weight": 0.0, "latency_weight": 0.0}


def fixed(small: float, **changes: Any) -> Policy:
    """One that draws the small arm so often."""
    probabilities = {"small+0": small, "large+0": 1 - small}
    bandit = {"kind": "fixed", "probabilities": probabilities, "drift": None}
    return policy(**{"arms": ARMS, "bandit": bandit, "reward": PLAIN} | changes)


async def evaluated(
    logger: Policy, new: Policy, n: int = 400, against: Policy | None = None, judged: float = 1.0, **options: Any
) -> Evaluation:
    history = await read_history((await fill(logger, n, judged=judged)).store, lambda n: None)
    return compared(history, logger, new, against, **options)


def compared(
    history: History, logger: Policy, new: Policy, against: Policy | None = None, **options: Any
) -> Evaluation:
    known = {arm.name: arm for arm in logger.to_arms()}
    running = list(retrace(history, against, known)) if against else None
    return compare(history, list(retrace(history, new, known)), running, new, EvaluateOptions(**options))


def reward(made: Evaluation) -> Figure:
    return made.comparisons[0].new


# ------------------------------------------------------------------ verdicts


def figure(value: float, half: float) -> Figure:
    return Figure(value, half / 2, value - half, value + half)


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        (figure(0.02, 0.01), (Verdict.SWITCH, None)),
        (figure(-0.02, 0.01), (Verdict.KEEP, None)),
        (figure(0.01, 0.02), (Verdict.NOT_PROVEN, 3000)),
        (figure(-0.019, 0.02), (Verdict.NOT_PROVEN, 110)),
        (figure(0.0, 0.02), (Verdict.NOT_PROVEN, None)),
        (figure(0.0, 0.0), (Verdict.NOT_PROVEN, None)),
    ],
)
def test_the_verdict_hangs_on_the_interval(difference: Figure, expected: tuple[Verdict, int | None]) -> None:
    """Half the width needs four times the decisions: three times as many more."""
    assert judge(difference, 1000) == expected


async def test_a_better_policy_is_to_be_switched_to() -> None:
    """The truth lies in the intervals of all estimators."""
    for estimator in ("dr", "snips", "ips"):
        made = await evaluated(fixed(0.5), fixed(0.2), estimator=estimator)
        truth = 0.2 * GOOD["small"] + 0.8 * GOOD["large"]

        assert made.verdict is Verdict.SWITCH
        assert reward(made).lower <= truth <= reward(made).upper
        assert [one.measure for one in made.comparisons] == ["reward", "quality", "cost_usd", "latency_s"]
        assert made.comparisons[2].new.value == pytest.approx(0.2 * 0.0001 + 0.8 * 0.004, rel=0.1)


async def test_a_worse_policy_is_to_be_left() -> None:
    """Against a running one that is retraced likewise."""
    made = await evaluated(fixed(0.5), fixed(0.8), against=fixed(0.3))

    assert made.verdict is Verdict.KEEP
    assert [round(arm.running, 2) for arm in made.arms if arm.arm == "small+0"] == [0.3]


async def test_the_policy_that_logged_earns_what_the_log_says() -> None:
    """Its value is the log's own mean, and the difference is nothing at all."""
    made = await evaluated(fixed(0.5), fixed(0.5))

    assert reward(made).value == pytest.approx(made.comparisons[0].running.value)
    assert (made.verdict, made.n_more) == (Verdict.NOT_PROVEN, None)
    assert made.comparisons[0].difference.upper == pytest.approx(0.0, abs=1e-9)


async def test_the_same_seed_says_the_same() -> None:
    """To the last digit."""
    history = await read_history((await fill(fixed(0.5), 200)).store, lambda n: None)

    assert compared(history, fixed(0.5), fixed(0.3), seed=4) == compared(history, fixed(0.5), fixed(0.3), seed=4)
    assert compared(history, fixed(0.5), fixed(0.3), seed=4) != compared(history, fixed(0.5), fixed(0.3), seed=5)


# ------------------------------------------------------------------ no answer


async def test_a_log_of_shadow_mode_cannot_answer() -> None:
    """No drawn arm ever answered."""
    made = await evaluated(fixed(0.5, mode="shadow"), fixed(0.2), n=60)

    assert (made.verdict, made.comparisons) == (Verdict.NO_ANSWER, ())
    assert "mode: shadow only decides" in made.reasons[0]


async def test_an_arm_that_is_not_in_the_log_cannot_be_judged() -> None:
    """No number is given that would mislead."""
    new = policy(arms=[*ARMS, {"deployment": "huge"}], bandit={"kind": "uniform"})
    made = await evaluated(fixed(0.5), new, n=100)

    assert (made.verdict, made.comparisons) == (Verdict.NO_ANSWER, ())
    assert made.reasons[0] == ("new policy: 33% of its draws go to what the log could not draw: huge+0 33.3%")


async def test_a_small_unseen_share_widens_the_intervals() -> None:
    """By all that it could be worth."""
    bandit = {"kind": "fixed", "probabilities": {"small+0": 0.5, "large+0": 0.5}, "drift": None, "floor": 0.01}
    new = policy(arms=[*ARMS, {"deployment": "huge"}], bandit=bandit, reward=PLAIN)
    made = await evaluated(fixed(0.5), new)
    plain = await evaluated(fixed(0.5), fixed(0.5))

    assert made.support_new is not None
    assert made.support_new.unseen_share == pytest.approx(0.01)
    assert reward(made).upper - reward(made).lower == pytest.approx(
        reward(plain).upper - reward(plain).lower + 0.02, abs=0.003
    )
    assert any("1.0% of the draws go to what the log never did" in note for note in made.notes)


# ------------------------------------------------------------------ who judged


async def test_judged_answers_stand_for_the_others() -> None:
    """A tenth of the answers got feedback; the truth is still met, wider."""
    made = await evaluated(fixed(0.5), fixed(0.2), n=1500, judged=0.1)
    truth = 0.2 * GOOD["small"] + 0.8 * GOOD["large"]

    assert made.share_judged == pytest.approx(0.1, abs=0.02)
    assert reward(made).lower <= truth <= reward(made).upper
    assert made.comparisons[2].n_known == 1500


async def test_all_answers_may_be_taken_as_validators_found_them() -> None:
    """Which is nearly always good: said in so many words when nobody judged."""
    few = await evaluated(fixed(0.5), fixed(0.2), n=200, judged=0.1, quality="all")
    nobody = await evaluated(fixed(0.5), fixed(0.2), n=200, judged=0.0)

    assert few.comparisons[1].new.value > 0.85  # in truth 0.78
    assert nobody.quality_from == "all"
    assert any("nobody judged an answer" in note for note in nobody.notes)


def test_feedback_is_missing_more_often_than_refutation() -> None:
    """Of an arm's answers 10 % were refuted by validators, all seen; of the rest a fifth were praised. It is 90 %
    good, not the 64 % that the judged ones show."""
    rng = np.random.default_rng(1)
    lessons = []
    for i in range(2000):
        refuted, praised = rng.random() < 0.1, rng.random() < 0.2
        arm = "small+0" if rng.random() < 0.5 else "large+0"
        lessons.append(lesson(f"d{i}", arm, 0.0 if refuted else 1.0, quality_weight=1.0 if refuted else 0.05))
        if praised and not refuted:
            lessons.append(_praise(lessons[-1]))

    made = compared(history_of(lessons), fixed(0.5), fixed(0.3))

    assert made.comparisons[1].new.value == pytest.approx(0.9, abs=0.02)
    assert made.share_judged == pytest.approx(0.28, abs=0.04)


def _praise(one: Lesson) -> Any:
    from echo_proxy.types import Amendment

    return Amendment(one.decision_id, 2, (Evidence(ArmKey(one.arm, "all"), 1.0, 1.0),), 1.0, 1.0, 1.0)


async def test_an_arm_of_which_nobody_said_anything_cannot_be_judged() -> None:
    """The way out is named."""
    lessons: list[Any] = []
    for i in range(400):
        arm = "small+0" if i % 2 else "large+0"
        lessons.append(lesson(f"d{i}", arm, 1.0, quality_weight=0.05))
        if arm == "large+0":
            lessons.append(_praise(lessons[-1]))

    made = compared(history_of(lessons), fixed(0.5), fixed(0.3))

    assert made.verdict is Verdict.NO_ANSWER
    assert made.reasons[-1].startswith("only 0 answers of small+0 were judged")
    assert compared(history_of(lessons), fixed(0.5), fixed(0.3), quality="all").verdict is not Verdict.NO_ANSWER


# ------------------------------------------------------------------ failures


def test_a_failed_arm_earned_nothing() -> None:
    """Although somebody else answered in the end: what that cost and took is not the arm's."""
    evidence = (Evidence(ArmKey("small+0", "all"), 1.0, 0.0, is_served=False),)
    lessons = []
    for i in range(400):
        failed = i % 4 == 1
        one = lesson(f"d{i}", "small+0" if i % 2 else "large+0", 1.0)
        lessons.append(replace(one, is_acted=False, evidence=evidence, cost_usd=9.0) if failed else one)

    made = compared(history_of(lessons), fixed(0.5), fixed(0.5, bandit={"kind": "uniform", "drift": None}))

    assert made.n_used == 400
    assert made.comparisons[1].new.value == pytest.approx(0.75)
    assert (made.comparisons[2].n_known, made.comparisons[2].new.upper) == (300, pytest.approx(0.001))


def test_what_somebody_else_answered_is_left_out() -> None:
    """And retries are pointed out."""
    retried = (Evidence(ArmKey("large+0", "all"), 1.0, 0.0, is_served=False),)
    lessons = [lesson(f"d{i}", "small+0" if i % 2 else "large+0", float(i % 3 > 0)) for i in range(300)]
    lessons[:30] = [replace(one, is_acted=False, evidence=()) for one in lessons[:30]]
    lessons[31] = replace(lessons[31], evidence=(*retried, *lessons[31].evidence), at=NOW)

    made = compared(history_of(lessons), fixed(0.5), fixed(0.5))

    assert (made.n_logged, made.n_used) == (300, 270)
    assert made.notes[0].startswith("30 of 300 decisions are left out")
    assert made.notes[1].startswith("in 1 decisions another arm had failed before")
