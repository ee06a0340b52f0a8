from dataclasses import replace
from timeit import timeit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.learning.fit_utility import fit_utility
from echo_proxy.learning.learned_utility import Learned, together
from echo_proxy.learning.pair_features import ALONE_FEATURES, ALONE_SCHEMA, PAIR_FEATURES, PAIR_SCHEMA, pair_features
from echo_proxy.learning.utility import BetaUtility
from echo_proxy.policy import Utility
from echo_proxy.types import Lesson, Trial
from tests.builders import candidate, policy, request
from tests.learning.lessons import lesson

POLICY = policy()
OVERLAP = PAIR_FEATURES.index("overlap")
units = st.floats(0, 1)


def pair(overlap: float, **changes: object) -> Trial:
    """A shown example whose starting utility is one half."""
    features = [0.0] * len(PAIR_FEATURES)
    features[OVERLAP] = overlap
    return replace(Trial("e1", PAIR_SCHEMA, tuple(features), 1.0, True), **changes)


def alone(is_chosen: bool = False) -> Trial:
    return Trial("", ALONE_SCHEMA, (0.5,) * len(ALONE_FEATURES), 0.5, is_chosen)


def history(n: int, seed: int = 0) -> list[Lesson]:
    """Examples help the more, the more words they share with the request."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(n):
        overlap = float(rng.random())
        quality = float(rng.random() < 0.05 + 0.9 * overlap)
        made.append(lesson(f"d{index}", trials=(pair(overlap), alone()), quality=quality))
    return made


def utility_of(learned: Learned, overlap: float) -> float:
    features = np.array([pair(overlap).features])
    return float(learned.utilities(features, np.array([0.5]))[0])


@given(st.integers(0, 40), st.lists(units, min_size=1, max_size=8))
def test_with_few_lessons_the_starting_point_stays(n: int, prior: list[float]) -> None:
    """Below min_lessons nothing changes: utilities, the worth of several, the answer without examples."""
    learned = fit_utility(POLICY, history(n), Learned())
    features = np.zeros((len(prior), len(PAIR_FEATURES)))

    assert learned.utilities(features, np.array(prior)).tolist() == prior
    assert learned.mix == 1.0
    assert learned.alone_quality((0.0,) * len(ALONE_FEATURES)) == 0.0


def test_better_examples_get_a_higher_utility() -> None:
    """What made answers good raises the utility, and the more lessons the nearer it comes to the truth."""
    learned = fit_utility(POLICY, history(2000), Learned())

    assert utility_of(learned, 0.9) > 0.7
    assert utility_of(learned, 0.1) < 0.3


def test_the_starting_point_is_worth_its_weight() -> None:
    """With a heavy prior a hundred lessons move little."""
    light = policy(selection={"learned": {"weight": 10.0}})
    heavy = policy(selection={"learned": {"weight": 10_000.0}})
    moved = [abs(utility_of(fit_utility(rules, history(100), Learned()), 0.9) - 0.5) for rules in (light, heavy)]

    assert moved[0] > 0.2
    assert moved[1] < 0.05


def test_rarely_shown_examples_count_for_more() -> None:
    """An answer that came about by chance stands for the many in which the chance did not fall."""
    often = [lesson(f"a{i}", trials=(pair(0.5), alone()), quality=1.0) for i in range(200)]
    rarely = [lesson(f"b{i}", trials=(pair(0.5), alone()), quality=0.0) for i in range(50)]
    weighted = [replace(one, trials=(pair(0.5, propensity=0.25), alone())) for one in rarely]

    plain = utility_of(fit_utility(POLICY, [*often, *rarely], Learned()), 0.5)
    by_propensity = utility_of(fit_utility(POLICY, [*often, *weighted], Learned()), 0.5)

    assert plain == pytest.approx((200 + 25) / 300, abs=0.02)
    assert by_propensity == pytest.approx((200 + 25) / 450, abs=0.02)


def test_trials_of_another_schema_are_ignored() -> None:
    """A feature that changed its meaning must not be misread."""
    old = [
        replace(one, trials=tuple(replace(trial, schema="pair-0:3") for trial in one.trials)) for one in history(500)
    ]

    assert fit_utility(POLICY, old, Learned()) == Learned(alone_trust=0.0)


def test_what_a_teacher_does_without_examples_says_nothing() -> None:
    """Only deployments that are ever shown examples are learned from, and only answers that they gave."""
    by_teacher = [replace(one, arm="large+0") for one in history(500)]
    by_other = [replace(one, is_acted=False) for one in history(500)]

    assert fit_utility(POLICY, [*by_teacher, *by_other], Learned()).n_lessons == 0


def test_only_as_many_as_the_arm_takes_were_shown() -> None:
    """An arm without examples teaches what the request is worth alone."""
    unshown = [replace(one, arm="small+0") for one in history(300)]

    learned = fit_utility(POLICY, unshown, Learned())

    assert learned.pairs is None
    assert learned.alone_quality((0.5,) * len(ALONE_FEATURES)) == pytest.approx(0.5 * 300 / 350, abs=0.05)


def test_bad_examples_that_spoil_good_ones_are_noticed() -> None:
    """Where an answer is only as good as its examples are on average, a second one is no gain; where one good one is
    enough, it is."""
    rng = np.random.default_rng(1)
    singles = history(1500)
    spoiled, helped = [], []
    for index in range(1500):
        overlaps = rng.random(2)
        good = 0.05 + 0.9 * overlaps
        trials = (pair(float(overlaps[0])), pair(float(overlaps[1]), example_id="e2"), alone())
        draw = rng.random()
        spoiled.append(lesson(f"s{index}", trials=trials, quality=float(draw < good.mean())))
        helped.append(lesson(f"h{index}", trials=trials, quality=float(draw < 1 - np.prod(1 - good))))

    assert fit_utility(POLICY, [*singles, *spoiled], Learned()).mix < 0.3
    assert fit_utility(POLICY, [*singles, *helped], Learned()).mix > 0.7


@given(st.lists(units, min_size=1, max_size=6), units)
def test_several_are_worth_between_their_mean_and_the_best_case(utilities: list[float], mix: float) -> None:
    """A single one is worth its utility; none of it leaves [0, 1]."""
    worth = together(utilities, mix)

    assert together(utilities[:1], mix) == pytest.approx(utilities[0])
    assert np.mean(utilities) - 1e-9 <= worth <= 1 + 1e-9


@given(st.floats(0, 2), st.text(max_size=50), st.text(max_size=50), st.floats(0, 1e6), st.floats(0, 1e12))
def test_features_are_finite_and_small(distance: float, asked: str, stored: str, uses: float, age_s: float) -> None:
    """Whatever texts and counts there are."""
    pool = [candidate(distance=distance, request=stored, uses=uses, created_at=-age_s), candidate("e2", 0.4)]
    prior = BetaUtility(Utility()).utilities(request(asked or "?"), pool)

    features = pair_features(request(asked or "?"), pool, prior)

    assert features.shape == (2, len(PAIR_FEATURES))
    assert np.isfinite(features).all()
    assert np.abs(features).max() <= 15


def test_the_same_answer_under_another_wording_agrees() -> None:
    """Two of three candidates say the same; the third stands alone, and its rivals are nearer."""
    pool = [
        candidate("a", 0.1, response="Paris."),
        candidate("b", 0.2, response="Paris."),
        candidate("c", 0.3, response="Lyon."),
    ]
    features = pair_features(request(), pool, np.full(3, 0.5))
    agreement, margin = (features[:, PAIR_FEATURES.index(name)] for name in ("agreement", "margin"))

    assert agreement.tolist() == [0.5, 0.5, 0.0]
    assert margin[0] < margin[1] < 0 < margin[2]


def test_valuing_sixteen_candidates_is_quick() -> None:
    """Features and prediction run on the event loop for every request."""
    learned = fit_utility(POLICY, history(500), Learned())
    pool = [candidate(f"e{i}", 0.1 + i / 100, request=f"What is fact {i} of France?") for i in range(16)]
    prior = np.full(16, 0.5)

    def value() -> None:
        learned.utilities(pair_features(request(), pool, prior), prior)

    value()
    fastest_s = min(timeit(value, number=20) for _ in range(20)) / 20

    assert fastest_s < 0.002  # 0.2 ms on a quiet core; the rest is for a busy one
