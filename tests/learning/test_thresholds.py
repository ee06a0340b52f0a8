from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.learning.thresholds import threshold_for, tune_threshold
from echo_proxy.policy import SelectionPolicy
from echo_proxy.types import Lesson
from tests.learning.lessons import lesson

RULES = SelectionPolicy(min_utility=0.3, thresholds=(0.2, 0.3, 0.6), threshold_share=0.5)


ALIKE = {0.2: 0.5, 0.3: 0.5, 0.6: 0.5}


def history(n: int, earned: dict[float, float], rules: SelectionPolicy, seed: int = 0) -> list[Lesson]:
    """Answers that are good with the probability of the threshold they were given under."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(n):
        threshold = threshold_for(f"d{index}", None, rules)
        reward = float(rng.random() < earned[threshold])
        made.append(lesson(f"d{index}", reward=reward, threshold=threshold))
    return made


def test_the_better_threshold_is_taken() -> None:
    """Once its trials have shown that it earns more."""
    lessons = history(1500, {0.2: 0.5, 0.3: 0.5, 0.6: 0.8}, RULES)

    assert tune_threshold(lessons, None, RULES) == 0.6


def test_a_small_difference_changes_nothing() -> None:
    """What is in use stays until another one is better by more than chance."""
    rewards = {one.decision_id: float(index % 2) for index, one in enumerate(history(1500, ALIKE, RULES))}
    alike = [replace(one, reward=rewards[one.decision_id]) for one in history(1500, ALIKE, RULES)]

    assert [tune_threshold(alike, before, RULES) for before in (0.2, 0.3, 0.6)] == [0.2, 0.3, 0.6]


def test_a_threshold_needs_evidence() -> None:
    """However good its first answers were."""
    assert tune_threshold(history(60, {0.2: 0.5, 0.3: 0.5, 0.6: 0.9}, RULES), None, RULES) is None


def test_tokens_are_paid_for() -> None:
    """Of two that answer equally well, the one with the shorter prompts is taken."""
    rules = RULES.model_copy(update={"token_cost": 0.5})
    lessons = [
        lesson(f"d{index}", reward=0.8, threshold=threshold, prompt_tokens=100 if threshold == 0.6 else 1000)
        for index in range(1500)
        for threshold in [threshold_for(f"d{index}", None, rules)]
    ]

    assert tune_threshold(lessons, None, rules) == 0.6


def test_only_trials_count() -> None:
    """Other requests had the threshold of their time: what they earned may be due to the time."""
    lessons = history(1500, {0.2: 0.5, 0.3: 0.5, 0.6: 0.8}, RULES)
    untried = [one for one in lessons if threshold_for(one.decision_id, -1.0, RULES) == -1.0]

    assert tune_threshold(untried, None, RULES) is None


def test_a_share_of_the_requests_tries_each() -> None:
    """Chosen by the decision's id, so that everybody can tell afterwards which ones."""
    drawn = [threshold_for(f"d{index}", 0.9, RULES) for index in range(6000)]
    shares = [drawn.count(threshold) / 6000 for threshold in (0.2, 0.3, 0.6, 0.9)]

    assert shares == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2], abs=0.02)


@given(st.text(max_size=20), st.none() | st.floats(0, 1))
def test_without_thresholds_the_policy_decides(decision_id: str, tuned: float | None) -> None:
    """And what was tuned before, if anything."""
    rules = SelectionPolicy(min_utility=0.4)

    assert threshold_for(decision_id, tuned, rules) == (0.4 if tuned is None else tuned)


def test_thresholds_that_are_no_longer_tried_are_forgotten() -> None:
    """An operator who removes them gets min_utility back."""
    assert tune_threshold([], 0.6, RULES) == 0.6
    assert tune_threshold([], 0.6, SelectionPolicy()) is None
