from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from echo_proxy.bandits.evidence import combine
from echo_proxy.learning.context import FEATURES
from echo_proxy.learning.prior import prior_of
from echo_proxy.learning.regression import RegressionModel, fit_regression
from echo_proxy.policy import Policy
from echo_proxy.types import Arm, ArmKey, ArmSums, Context, Evidence, Lesson, News, Situation
from tests.builders import NOW, policy
from tests.learning.lessons import lesson

DIMENSIONS = 8
FIRST, SECOND = "a+0", "b+0"


def two_arms(**bandit: Any) -> Policy:
    """Two arms without examples."""
    return policy(
        arms=[{"deployment": "a"}, {"deployment": "b"}],
        bandit={"kind": "epsilon_greedy", "prior": {"reward": 0.6, "weight": 2.0}, **bandit},
    )


def situation(*head: float, text: tuple[float, ...] = (), schema: str = "s", **features: float) -> Situation:
    """With a vector that begins like this, text features and some features of the selection."""
    values = [0.0] * len(FEATURES)
    for name, value in features.items():
        values[FEATURES.index(name)] = value
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[: len(head)] = head
    return Situation("all", Context(schema, tuple(values), text), vector, 0.0, 0)


def told(index: int, at: Situation, **rewards: float) -> Lesson:
    """A lesson about the arms `a` and `b`."""
    evidence = tuple(Evidence(ArmKey(f"{name}+0", "all"), 1.0, reward) for name, reward in rewards.items())
    return lesson(f"d{index:05d}", at=NOW + index, situation=at, evidence=evidence)


def world(n: int = 300, seed: int = 0) -> list[Lesson]:
    """Arm `a` is right on one kind of request, `b` on the other; each request is answered by one of them."""
    rng = np.random.default_rng(seed)
    lessons = []
    for i in range(n):
        kind = int(rng.integers(2))
        noise = rng.normal(0, 0.2, DIMENSIONS)
        vector = noise + np.eye(DIMENSIONS)[kind]
        at = situation(*(vector / np.linalg.norm(vector)), text=(float(rng.random()),))
        is_first = bool(rng.integers(2))
        reward = float(rng.random() < (0.9 if is_first == (kind == 0) else 0.2))
        lessons.append(told(i, at, **({"a": reward} if is_first else {"b": reward})))
    return lessons


def means(model: RegressionModel, chosen: Policy, at: Situation) -> list[float]:
    return list(map(float, model.estimates(chosen.to_arms(), at).means))


@pytest.mark.parametrize("n", [300, 800])
def test_arms_are_told_apart_by_context(n: int) -> None:
    """Where one arm does well on one kind of request and the other on the other, both are expected to; with landmarks
    and without."""
    chosen = two_arms()
    model = fit_regression(chosen, world(n))
    first, second = (means(model, chosen, situation(*row, text=(0.5,))) for row in ((1.0, 0.0), (0.0, 1.0)))

    assert first[0] > first[1] + 0.3
    assert second[1] > second[0] + 0.3


def test_no_lessons_leave_the_prior() -> None:
    """Before any lesson an arm is what its prior says, just as with averages."""
    chosen = policy()
    at = situation(1.0)
    arms = chosen.to_arms()
    beliefs = [prior_of(arm, at, chosen.bandit.prior) for arm in arms]
    expected = combine(
        [ArmSums()] * len(arms), np.array([one.reward for one in beliefs]), np.array([one.weight for one in beliefs])
    )
    seen = fit_regression(chosen, []).estimates(arms, at)

    assert seen.means == pytest.approx(expected.means)
    assert seen.weights == pytest.approx(expected.weights)
    assert seen.deviations == pytest.approx(expected.deviations)


def test_few_lessons_leave_averages() -> None:
    """With few lessons the kind of request does not matter, only how each arm did."""
    chosen = two_arms()
    model = fit_regression(chosen, world(30))

    assert means(model, chosen, situation(1.0)) == means(model, chosen, situation(0.0, 1.0))
    assert means(model, chosen, situation(1.0)) != pytest.approx([0.6, 0.6], abs=1e-3)


@pytest.mark.parametrize("n", [300, 500])
def test_order_of_lessons_does_not_matter(n: int) -> None:
    """Workers that heard the same lessons in another order expect the same."""
    lessons, chosen = world(n), two_arms()
    one, other = (fit_regression(chosen, order) for order in (lessons, lessons[::-1]))

    assert means(one, chosen, situation(1.0)) == means(other, chosen, situation(1.0))


def test_weights_count() -> None:
    """An outcome of weight 2 counts as if it had been seen twice."""
    chosen, lessons = two_arms(), world(100)

    def heavy(one: Lesson) -> Lesson:
        return replace(one, evidence=tuple(replace(evidence, weight=2.0) for evidence in one.evidence))

    again = [replace(one, decision_id=one.decision_id + "-again") for one in lessons]
    expected = means(fit_regression(chosen, [*lessons, *again]), chosen, situation(1.0, text=(0.3,)))

    assert means(fit_regression(chosen, [*map(heavy, lessons)]), chosen, situation(1.0, text=(0.3,))) == pytest.approx(
        expected, abs=2e-3
    )


def test_an_arm_that_was_never_drawn_keeps_its_level() -> None:
    """On average over the requests it is its prior; it is less sure than the others."""
    lessons = [replace(one, evidence=tuple(e for e in one.evidence if e.key.arm == FIRST)) for one in world(600)]
    lessons = [one for one in lessons if one.evidence]
    chosen = two_arms()
    model = fit_regression(chosen, lessons)
    seen = [model.estimates(chosen.to_arms(), one.situation) for one in lessons]

    assert float(np.mean([one.means[1] for one in seen])) == pytest.approx(0.6, abs=0.05)
    assert all(one.weights[1] < one.weights[0] for one in seen)


def test_an_arm_that_is_no_longer_known_is_ignored() -> None:
    """Evidence about arms outside the policy teaches nothing, and asking for an unknown arm gives its prior's level."""
    chosen = two_arms()
    model = fit_regression(chosen, [told(i, situation(1.0), gone=1.0) for i in range(100)])
    seen = model.estimates([*chosen.to_arms(), Arm("new+0", "new", 0)], situation(1.0))

    assert seen.means == pytest.approx([0.6, 0.6, 0.6])


def test_estimates_can_be_decided_on() -> None:
    """Means lie in [0, 1], weights and deviations are positive and finite, also far from all lessons."""
    chosen = two_arms()
    model = fit_regression(chosen, world(500))
    far = situation(0.0, 0.0, 0.0, -1.0, text=(1e6,), best_utility=1.0)
    for at in (situation(1.0, text=(0.1,)), far):
        seen = model.estimates(chosen.to_arms(), at)

        assert ((seen.means >= 0) & (seen.means <= 1)).all()
        assert (np.isfinite(seen.weights) & (seen.weights > 0)).all()
        assert ((seen.deviations > 0) & (seen.deviations <= 0.5)).all()


def test_what_is_near_to_lessons_is_surer() -> None:
    """Deviations are smaller where the lessons are than far away from them."""
    chosen = two_arms()
    model = fit_regression(chosen, world(500))
    near, far = (
        model.estimates(chosen.to_arms(), situation(*row, text=(0.5,))) for row in ((1.0,), (0.0, 0.0, 0.0, -1.0))
    )

    assert (near.weights > far.weights).all()


def test_requests_of_another_kind_get_the_arms_level() -> None:
    """Without a vector, or with features of another version, what is expected is how the arm does in general."""
    chosen = two_arms()
    model = fit_regression(chosen, world(300))
    blind = replace(situation(1.0, text=(0.5,)), vector=None)

    assert means(model, chosen, blind) == means(model, chosen, situation(1.0, text=(0.5,), schema="other"))
    assert means(model, chosen, blind) != means(model, chosen, situation(1.0, text=(0.5,)))


def test_a_new_version_of_the_features_begins_anew() -> None:
    """Only lessons like the newest one are compared."""
    old = world(300)
    new = told(1000, situation(1.0, schema="other"), a=1.0)
    chosen = two_arms()

    assert means(fit_regression(chosen, [*old, new]), chosen, situation(1.0)) == means(
        fit_regression(chosen, [new]), chosen, situation(1.0)
    )


def test_features_of_the_selection_count() -> None:
    """What the chosen examples are like bears on what is expected."""
    rng = np.random.default_rng(0)
    chosen = two_arms()
    utilities = [float(rng.integers(2)) for _ in range(300)]
    lessons = [
        told(i, situation(1.0, best_utility=utility), a=utility, b=1 - utility) for i, utility in enumerate(utilities)
    ]
    seen = means(fit_regression(chosen, lessons), chosen, situation(1.0, best_utility=1.0))

    assert seen[0] > 0.6 > seen[1]


def test_old_lessons_count_less() -> None:
    """After many half-lives what an arm did before hardly matters."""
    chosen = two_arms(half_life_s=10.0)
    lessons = [told(i, situation(1.0), a=0.0) for i in range(20)] + [
        told(500 + i, situation(1.0), a=1.0) for i in range(20)
    ]

    assert means(fit_regression(chosen, lessons), chosen, situation(1.0))[0] > 0.8


def heard(model: RegressionModel, lessons: Sequence[Lesson]) -> RegressionModel:
    """The model after it has learned them one by one."""
    for one in lessons:
        model.learn(News(one, None))
    return model


def test_news_move_the_arms_level() -> None:
    """Between two fits an arm that does worse than expected loses; the other stays."""
    chosen = two_arms()
    model = fit_regression(chosen, world(300))
    at = situation(1.0, text=(0.5,))
    before = means(model, chosen, at)
    after = means(heard(model, [told(900 + i, at, a=0.0) for i in range(40)]), chosen, at)

    assert after[0] < before[0] - 0.1
    assert after[1] == before[1]


def test_news_from_the_first_one_on() -> None:
    """A model that was fitted to nothing learns levels as averages do, about."""
    chosen = two_arms()
    model = heard(fit_regression(chosen, []), [told(i, situation(1.0), a=1.0) for i in range(10)])
    seen = model.estimates(chosen.to_arms(), situation(1.0))

    assert seen.means[0] > 0.8
    assert seen.weights[0] > seen.weights[1]
    assert seen.means[1] == pytest.approx(0.6)


def test_an_amendment_replaces_what_was_heard() -> None:
    """Late feedback counts instead of the early guess."""
    chosen = two_arms()
    at = situation(1.0, text=(0.5,))
    guess, final = told(900, at, a=1.0), told(900, at, a=0.0)
    amended, direct = fit_regression(chosen, world(300)), fit_regression(chosen, world(300))
    amended.learn(News(guess, None))
    amended.learn(News(final, guess))
    direct.learn(News(final, None))

    assert means(amended, chosen, at) == pytest.approx(means(direct, chosen, at))


def test_vectors_may_be_half_precision() -> None:
    """Lessons keep vectors in 16 bits; what is expected hardly changes."""
    chosen = two_arms()
    halved = [
        replace(one, situation=replace(one.situation, vector=one.situation.vector.astype(np.float16)))  # type: ignore[union-attr]
        for one in world(500)
    ]
    exact, rounded = (fit_regression(chosen, lessons) for lessons in (world(500), halved))

    assert means(exact, chosen, situation(1.0)) == pytest.approx(means(rounded, chosen, situation(1.0)), abs=0.01)
