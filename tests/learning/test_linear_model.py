from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.learning.context import FEATURES, schema_of
from echo_proxy.learning.estimate import estimate
from echo_proxy.learning.fit import fit_outcomes
from echo_proxy.learning.knowledge import Knowledge
from echo_proxy.learning.linear_model import LinearModel
from echo_proxy.online.route import choose, draw
from echo_proxy.policy import Policy
from echo_proxy.types import (
    Arm,
    ArmKey,
    Conditions,
    Context,
    Estimates,
    Evidence,
    Lesson,
    Load,
    News,
    Situation,
)
from tests.builders import NOW, policy
from tests.learning.lessons import lesson

SCHEMA = schema_of(16)
ARMS = ("small+0", "small+2", "large+0")
seen_lessons = st.lists(
    st.tuples(st.sampled_from(ARMS), st.floats(-1, 1), st.floats(0.05, 1), st.floats(0, 1)), min_size=1, max_size=15
)
Seen = list[tuple[str, float, float, float]]


def rules(**changes: Any) -> Policy:
    kind = {"kind": "linear_thompson", "half_life_s": 1e12}
    return policy(bandit=kind | changes)


def situation(topic: float = 0.0, schema: str = SCHEMA, loads: dict[str, Load] | None = None) -> Situation:
    values = np.zeros(len(FEATURES))
    values[0], values[-1] = 1.0, topic
    return Situation("all", Context(schema, tuple(values)), None, 0.0, 0, Conditions(loads=loads or {}))


def one(index: int, arm: str, topic: float, weight: float, reward: float, **changes: Any) -> Lesson:
    evidence = (Evidence(ArmKey(arm, "all"), weight, reward),)
    made = lesson(f"d{index}", at=NOW + index, evidence=evidence, situation=situation(topic), reward=reward)
    return replace(made, **changes)


def lessons(seen: Seen) -> list[Lesson]:
    return [one(index, *what) for index, what in enumerate(seen)]


def told(made: LinearModel, learned: list[Lesson]) -> LinearModel:
    for heard in learned:
        made.learn(News(heard, None))
    return made


def believed(made: LinearModel, topic: float = 0.3) -> np.ndarray:
    found = made.estimates(rules().to_arms(), situation(topic))
    return np.stack([found.weights, found.means, found.deviations])


@given(seen_lessons, st.sampled_from(["shared", "disjoint"]))
def test_learning_leads_where_fitting_does(seen: Seen, sharing: str) -> None:
    """One lesson after the other, or all at once."""
    made = rules(estimate={"kind": "linear", "sharing": sharing})
    fitted, learned = LinearModel(made, lessons(seen)), told(LinearModel(made), lessons(seen))

    assert believed(learned) == pytest.approx(believed(fitted), abs=1e-8)


@given(seen_lessons, st.randoms(use_true_random=False))
def test_order_does_not_matter(seen: Seen, random: Any) -> None:
    """Lessons of several workers come as they may."""
    made = lessons(seen)
    shuffled = random.sample(made, len(made))

    assert believed(told(LinearModel(rules()), shuffled)) == pytest.approx(
        believed(told(LinearModel(rules()), made)), abs=1e-8
    )


@given(seen_lessons, seen_lessons, st.booleans())
def test_an_earlier_view_is_taken_out_exactly(first: Seen, later: Seen, is_fitted: bool) -> None:
    """An amended lesson counts as if the earlier view of it had never been heard."""
    later = (later * len(first))[: len(first)]
    early = lessons(first)
    final = [replace(old, evidence=new.evidence) for old, new in zip(early, lessons(later), strict=True)]
    fading = rules(half_life_s=20.0)
    made = LinearModel(fading, early) if is_fitted else told(LinearModel(fading), early)
    for old, new in zip(early, final, strict=True):
        made.learn(News(new, replace(old, situation=new.situation)))
    wanted = LinearModel(fading, final) if is_fitted else told(LinearModel(fading), final)

    assert believed(made) == pytest.approx(believed(wanted), abs=1e-6)


@given(seen_lessons)
def test_another_schema_is_left_alone(seen: Seen) -> None:
    """What was seen with other features says nothing of these."""
    made = lessons(seen)
    foreign = replace(made[0], decision_id="x", situation=situation(schema="context-0:1:1"))
    fitted = LinearModel(rules(), [foreign, *made])
    fitted.learn(News(foreign, None))

    assert believed(fitted) == pytest.approx(believed(LinearModel(rules(), made)), abs=1e-8)


def test_before_any_lesson_the_prior_counts() -> None:
    """Also in a situation of a schema that it was not fitted to."""
    arms = (Arm("a", "small", 0, prior_reward=0.9), Arm("b", "small", 0))
    fresh = LinearModel(rules())
    foreign = LinearModel(rules(), [one(0, "b", 0.0, 1.0, 1.0)]).estimates(arms, situation(schema="context-0:1:1"))

    assert fresh.estimates(arms, situation()).means == pytest.approx([0.9, 0.5])
    assert foreign.means == pytest.approx([0.9, 0.5])


def test_failed_attempts_teach_too() -> None:
    """The arm that failed first, and the one that answered then."""
    evidence = (
        Evidence(ArmKey("small+0", "all"), 1.0, 0.0, is_served=False),
        Evidence(ArmKey("large+0", "all"), 1.0, 1.0),
    )
    small, _, large = believed(LinearModel(rules(), [one(0, "large+0", 0.0, 1.0, 1.0, evidence=evidence)]))[1]

    assert small < 0.5 < large


def test_what_one_arm_teaches_moves_the_others_less() -> None:
    """Shared: a new arm expects what the others earn. Disjoint: it does not hear of them."""
    seen = [one(i, "small+0", 0.0, 1.0, 1.0) for i in range(20)]
    shared = LinearModel(rules(), seen)
    disjoint = LinearModel(rules(estimate={"kind": "linear", "sharing": "disjoint"}), seen)
    new = Arm("new", "elsewhere", 0)

    [own, other] = shared.estimates((rules().to_arms()[0], new), situation()).means
    alone = disjoint.estimates((new,), situation())

    assert 0.5 < other < own
    assert alone.means == pytest.approx([0.5])


def test_arms_come_and_go() -> None:
    """An arm that the policy has no longer, or not yet, is learned of like any other."""
    made = told(LinearModel(rules(), [one(0, "gone", 0.0, 1.0, 0.0)]), [one(1, "new", 0.0, 1.0, 1.0)])
    found = made.estimates((Arm("gone", "", 0), Arm("new", "", 0)), situation())

    assert found.means[0] < found.means[1]
    assert found.weights[0] == pytest.approx(found.weights[1])


def test_means_stay_near_rewards() -> None:
    """However far a line leads; a little beyond, so that good arms keep their order."""
    made = LinearModel(rules(), [one(i, "small+0", 1.0, 50.0, 1.0) for i in range(20)])
    means = made.estimates(rules().to_arms(), situation(30.0)).means

    assert means.max() <= 1.25
    assert means.min() >= -0.25


def test_an_arm_s_own_load_counts() -> None:
    """An arm that fails under load is expected to fail under load only."""
    busy = {"small": Load(in_flight=20.0)}
    seen = [one(i, "small+0", 0.0, 1.0, 1.0) for i in range(40)]
    seen += [one(40 + i, "small+0", 0.0, 1.0, 0.0, situation=situation(loads=busy)) for i in range(40)]
    made = LinearModel(rules(), seen)

    [idle], [loaded] = (made.estimates(rules().to_arms()[:1], situation(loads=loads)).means for loads in (None, busy))

    assert loaded < idle - 0.2


def test_averages_per_segment_need_no_model() -> None:
    """Nothing is fitted, and nothing but the sums is asked."""
    plain = policy()

    assert fit_outcomes(plain, ()) is None
    assert isinstance(estimate(plain.to_arms(), situation(), plain, Knowledge(plain)), Estimates)
    assert isinstance(fit_outcomes(rules(), ()), LinearModel)


def choices(seed: int, n: int = 600) -> tuple[list[int], list[bool]]:
    """What is chosen where small+0 is right about one topic and large+0 about the other."""
    made = rules()
    arms = (made.to_arms()[0], made.to_arms()[2])
    knowledge, rng = Knowledge(made), np.random.default_rng(seed)
    knowledge.end_fit(fit_outcomes(made, ()))
    chosen, is_right = [], []
    for t in range(n):
        topic = float(rng.choice([-1.0, 1.0]))
        asked = situation(topic)
        index = draw(choose(arms, asked, made, knowledge, NOW + t).pmf, int(rng.integers(2**32)))
        right = (topic > 0) == (index == 1)
        reward = float(rng.random() < (0.9 if right else 0.3))
        knowledge.study(
            [
                one(
                    t,
                    arms[index].name,
                    topic,
                    1.0,
                    reward,
                    arms=tuple(arm.name for arm in arms),
                    means=(0.5, 0.5),
                    pmf=(0.5, 0.5),
                )
            ]
        )
        chosen.append(index)
        is_right.append(right)
    return chosen, is_right


def test_the_better_arm_for_each_context_is_found() -> None:
    """Which one is better depends on the topic."""
    _, is_right = choices(1)

    assert np.mean(is_right[-200:]) > 0.9


def test_the_same_seed_chooses_the_same() -> None:
    """A run can be repeated."""
    assert choices(2, 100) == choices(2, 100)


def test_a_discount_makes_later_answers_count_more() -> None:
    """An arm was good and is bad now: with a discount the fit believes the newer answers, and what is left of each is
    taken out exactly when it is amended."""
    seen = [one(i, "small+0", 0.3, 1.0, float(i < 100)) for i in range(200)]
    made = rules(estimate={"kind": "linear", "discount": 0.98})
    plain, fading = LinearModel(rules(), seen), LinearModel(made, seen)
    heard = fading.estimates(made.to_arms(), situation(0.3)).weights[0]
    fading.learn(News(one(150, "small+0", 0.3, 1.0, 1.0), seen[150]))
    amended = fading.estimates(made.to_arms(), situation(0.3)).weights[0]

    assert believed(plain)[1, 0] == pytest.approx(0.5, abs=0.05)
    assert believed(fading)[1, 0] < 0.3
    assert amended == pytest.approx(heard)
