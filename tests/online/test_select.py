import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.learning.learned_utility import Learned
from echo_proxy.learning.pair_features import ALONE_SCHEMA, PAIR_SCHEMA
from echo_proxy.learning.utility import BetaUtility
from echo_proxy.online.select import select
from echo_proxy.policy import SelectionPolicy, Utility
from echo_proxy.types import Candidate, Selection
from tests.builders import DIMENSIONS, candidate, example, request, vector

MODEL = BetaUtility(Utility())
units = st.floats(0, 1)


@st.composite
def pools(draw: st.DrawFn) -> list[Candidate]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    pool = []
    for index in range(draw(st.integers(0, 10))):
        direction = rng.normal(size=DIMENSIONS).astype(np.float32)
        one = example(f"e{index}", vector=direction / np.linalg.norm(direction), n_tokens=draw(st.integers(1, 60)))
        pool.append(Candidate(one, draw(st.floats(0, 2))))
    return pool


rules_of = st.builds(
    SelectionPolicy,
    max_tokens=st.integers(0, 100),
    min_utility=units,
    diversity=units,
    duplicate_distance=st.floats(0, 2),
)


@given(pools(), st.integers(0, 5), rules_of)
def test_a_selection_keeps_every_bound(pool: list[Candidate], n_most: int, rules: SelectionPolicy) -> None:
    """Never over the token budget, never more than n_most, never below min_utility, never two duplicates."""
    made = select(request(), pool, n_most, rules, MODEL)
    vectors = [one.example.vector for one in made.chosen]
    pairs = [(a, b) for i, a in enumerate(vectors) for b in vectors[:i]]

    assert sum(one.example.n_tokens for one in made.chosen) <= rules.max_tokens
    assert len(made.chosen) <= n_most
    assert all(one.utility >= rules.min_utility for one in made.chosen)
    assert all(1 - float(a @ b) >= rules.duplicate_distance for a, b in pairs)


@given(pools(), st.integers(0, 5), rules_of)
def test_every_candidate_is_chosen_or_rejected_once(pool: list[Candidate], n_most: int, rules: SelectionPolicy) -> None:
    """So that a decision can be explained; all carry their utility."""
    made = select(request(), pool, n_most, rules, MODEL)
    seen = [*made.chosen, *(rejection.candidate for rejection in made.rejected)]
    utilities = (
        dict(zip([one.example.id for one in pool], MODEL.utilities(request(), pool), strict=True)) if pool else {}
    )

    assert sorted(one.example.id for one in seen) == sorted(one.example.id for one in pool)
    assert {one.example.id: one.utility for one in seen} == utilities


def chosen_ids(made: Selection) -> list[str]:
    return [one.example.id for one in made.chosen]


def reasons(made: Selection) -> dict[str, str]:
    return {one.candidate.example.id: one.reason for one in made.rejected}


def test_without_diversity_the_most_useful_come_first() -> None:
    """However the store ordered them."""
    far, near = candidate("far", 0.3, vector=vector(0.0, 1.0)), candidate("near", 0.1)

    made = select(request(), [far, near], 2, SelectionPolicy(diversity=0.0), MODEL)

    assert chosen_ids(made) == ["near", "far"]


def test_diversity_prefers_what_is_not_there_yet() -> None:
    """A slightly less useful example that says something else goes before a near copy."""
    pool = [
        candidate("best", 0.10, vector=vector(1.0)),
        candidate("copy", 0.11, vector=vector(1.0, 0.3)),
        candidate("other", 0.15, vector=vector(0.0, 1.0)),
    ]

    plain = select(request(), pool, 2, SelectionPolicy(diversity=0.0), MODEL)
    diverse = select(request(), pool, 2, SelectionPolicy(diversity=0.3), MODEL)

    assert chosen_ids(plain) == ["best", "copy"]
    assert chosen_ids(diverse) == ["best", "other"]


def test_each_rejection_says_why() -> None:
    """Utility, duplicate, token budget, enough."""
    pool = [
        candidate("best", 0.05, vector=vector(1.0), n_tokens=10),
        candidate("twin", 0.06, vector=vector(1.0), n_tokens=10),
        candidate("long", 0.07, vector=vector(0.0, 1.0), n_tokens=1000),
        candidate("second", 0.08, vector=vector(0.0, 0.0, 1.0), n_tokens=10),
        candidate("third", 0.09, vector=vector(0.0, 0.0, 0.0, 1.0), n_tokens=10),
        candidate("far", 1.0, vector=vector(0.0, 0.0, 0.0, 0.0, 1.0), n_tokens=10),
    ]

    made = select(request(), pool, 2, SelectionPolicy(max_tokens=100, diversity=0.0), MODEL)

    assert chosen_ids(made) == ["best", "second"]
    assert reasons(made) == {
        "far": "utility",
        "twin": "duplicate",
        "long": "token_budget",
        "third": "enough",
    }


def test_a_budget_may_be_spent_to_the_last_token() -> None:
    """Exactly the budget is not over it."""
    made = select(request(), [candidate(n_tokens=10)], 1, SelectionPolicy(max_tokens=10), MODEL)

    assert chosen_ids(made) == ["e1"]


def test_no_candidates_no_selection() -> None:
    """The utility model is not asked."""
    assert select(request(), [], 3, SelectionPolicy(), MODEL) == Selection()


LESSONS = Learned(mix=0.0)
"""Bad examples spoil good ones."""


@given(pools(), st.integers(0, 5), rules_of, st.integers(0, 2**63 - 1))
def test_chance_keeps_every_bound(pool: list[Candidate], n_most: int, rules: SelectionPolicy, seed: int) -> None:
    """Also what is tried by chance fits, each trial stands for an example, and the same seed tries the same."""
    rules = rules.model_copy(update={"explore": 0.5})
    made = select(request(), pool, n_most, rules, MODEL, Learned(), seed)
    again = select(request(), pool, n_most, rules, MODEL, Learned(), seed)

    assert again.trials == made.trials
    assert sum(one.example.n_tokens for one in made.chosen) <= rules.max_tokens
    assert len(made.chosen) <= n_most
    assert [one.example_id for one in made.trials if one.is_chosen and one.example_id] == chosen_ids(made)
    assert all(0 < one.propensity <= 1 for one in made.trials)


@given(pools(), st.integers(0, 5), rules_of)
def test_without_lessons_learning_changes_nothing(pool: list[Candidate], n_most: int, rules: SelectionPolicy) -> None:
    """The learned utility begins at the starting point, with the same examples in the same order."""
    plain = select(request(), pool, n_most, rules.model_copy(update={"learned": None}), MODEL)
    learned = select(request(), pool, n_most, rules, MODEL, Learned())

    assert chosen_ids(learned) == chosen_ids(plain)
    assert [one.utility for one in learned.chosen] == [one.utility for one in plain.chosen]


def test_an_example_that_would_spoil_a_better_one_is_left_out() -> None:
    """Once it was seen that answers are as good as their examples on average."""
    pool = [candidate("best", 0.1, vector=vector(1.0)), candidate("worse", 0.3, vector=vector(0.0, 1.0))]

    made = select(request(), pool, 2, SelectionPolicy(), MODEL, LESSONS)

    assert chosen_ids(made) == ["best"]
    assert reasons(made) == {"worse": "gain"}


def test_a_price_on_tokens_leaves_out_what_brings_too_little() -> None:
    """A second example adds little to a good first one."""
    pool = [
        candidate("best", 0.1, vector=vector(1.0), n_tokens=100),
        candidate("second", 0.12, vector=vector(0.0, 1.0), n_tokens=100),
    ]

    dear = select(request(), pool, 2, SelectionPolicy(token_cost=0.5), MODEL)
    free = select(request(), pool, 2, SelectionPolicy(), MODEL)

    assert chosen_ids(dear) == ["best"]
    assert chosen_ids(free) == ["best", "second"]


def test_a_trial_holds_what_the_model_saw() -> None:
    """Of every chosen example, and of the request without any."""
    made = select(request(), [candidate("e1"), candidate("far", 1.5)], 2, SelectionPolicy(explore=0.0), MODEL)

    assert [(one.example_id, one.schema, one.propensity, one.is_chosen) for one in made.trials] == [
        ("e1", PAIR_SCHEMA, 1.0, True),
        ("", ALONE_SCHEMA, 1.0, False),
    ]
    assert made.threshold == SelectionPolicy().min_utility


def test_a_tuned_threshold_replaces_the_policys() -> None:
    """And the selection says which one was asked for."""
    made = select(request(), [candidate("e1", 0.36)], 2, SelectionPolicy(), MODEL, Learned(threshold=0.9))

    assert chosen_ids(made) == []
    assert made.threshold == 0.9


def spread_out(*utilities_by_distance: float) -> list[Candidate]:
    """Candidates that have nothing in common, at these distances; the nearer, the more useful."""
    vectors = np.eye(DIMENSIONS, dtype=np.float32)
    return [
        Candidate(example(f"e{i}", vector=vectors[i]), distance) for i, distance in enumerate(utilities_by_distance)
    ]


LOOSE = SelectionPolicy(min_utility=0.05, learned=None, explore=0.0)


def test_the_most_used_go_before_the_most_useful() -> None:
    """As many as the backbone has, one place left for the request's own; `chosen` stays in the order of usefulness."""
    pool = spread_out(0.10, 0.15, 0.20, 0.25, 0.30)
    familiar = ("gone", "e4", "e3", "e1")

    made = select(request(), pool, 3, LOOSE, MODEL, familiar=familiar, n_backbone=2)
    greedy = select(request(), pool, 2, LOOSE, MODEL, familiar=familiar, n_backbone=9)
    plain = select(request(), pool, 3, LOOSE, MODEL)

    assert [one.example.id for one in made.chosen] == ["e0", "e3", "e4"]
    assert made.familiar == ("e4", "e3")
    assert [one.example.id for one in greedy.chosen] == ["e0", "e4"]
    assert [one.example.id for one in plain.chosen] == ["e0", "e1", "e2"]


def test_a_backbone_example_must_be_worth_its_tokens_too() -> None:
    """It is not taken below the threshold, as a duplicate or over the budget."""
    pool = spread_out(0.1, 0.6)
    strict = SelectionPolicy(min_utility=0.5, learned=None, explore=0.0)
    twin = Candidate(example("twin", vector=pool[0].example.vector), 0.2)

    far = select(request(), pool, 2, strict, MODEL, familiar=("e1",), n_backbone=1)
    double = select(request(), [*pool[:1], twin], 2, LOOSE, MODEL, familiar=("e0", "twin"), n_backbone=1)
    dear = select(request(), pool, 2, LOOSE.model_copy(update={"max_tokens": 5}), MODEL, familiar=("e1",), n_backbone=1)

    assert [one.example.id for one in far.chosen] == ["e0"]
    assert [one.example.id for one in double.chosen] == ["e0"]
    assert dear.chosen == ()


@given(pools(), st.integers(0, 5), rules_of, st.lists(st.sampled_from([f"e{i}" for i in range(12)]), unique=True))
def test_a_backbone_breaks_no_bound(
    pool: list[Candidate], n_most: int, rules: SelectionPolicy, familiar: list[str]
) -> None:
    """Only candidates are chosen, each once, within the budget; every arm gets as many as it takes."""
    made = select(request(), pool, n_most, rules, MODEL, familiar=familiar, n_backbone=2)
    ids = [one.example.id for one in made.chosen]

    assert len(ids) == len(set(ids)) <= n_most
    assert sum(one.example.n_tokens for one in made.chosen) <= rules.max_tokens
    assert set(made.familiar) <= set(ids) <= {one.example.id for one in pool}
    assert [len(made.first(n)) for n in range(7)] == [min(n, len(ids)) for n in range(7)]
    assert all(len(made.backbone(n)) <= max(n - 1, 0) for n in range(7))


def test_a_small_arm_takes_the_backbone_and_the_most_useful() -> None:
    """One that takes a single example takes the most useful."""
    made = select(request(), spread_out(0.1, 0.15, 0.2, 0.3), 4, LOOSE, MODEL, familiar=("e3", "e2"), n_backbone=2)

    assert [[one.example.id for one in made.first(n)] for n in range(5)] == [
        [],
        ["e0"],
        ["e0", "e3"],
        ["e0", "e2", "e3"],
        ["e0", "e1", "e2", "e3"],
    ]
