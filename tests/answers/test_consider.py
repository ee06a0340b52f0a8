"""Whether a stored answer is given."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.answers.consider import consider
from echo_proxy.answers.pool import Pools
from echo_proxy.policy import Policy
from echo_proxy.types import Candidate, Observation, StoredAnswer
from tests.builders import candidate, policy, request


def rules(**changes: Any) -> Policy:
    """The test's policy with the tier on."""
    mode = changes.pop("mode", "act")
    return policy(mode=mode, answers={"max_error": 0.05, **changes})


def known(n_right: int, n_wrong: int = 0, distance: float = 0.1, example_id: str = "e1", **changes: Any) -> Candidate:
    """An example of which so much was observed, at its own distance."""
    seen = tuple(Observation(distance, i < n_right, float(i)) for i in range(n_right + n_wrong))
    return candidate(example_id, distance, answer_key="k", observations=seen, **changes)


def considered(*found: Candidate, seed: int = 1, pools: Pools | None = None, **changes: Any) -> StoredAnswer | None:
    """What comes of the usual request."""
    return consider(request(answer_key="k"), found, rules(**changes), seed, pools)


def test_without_the_line_nothing_is_considered() -> None:
    """The tier is off unless the policy says otherwise."""
    assert consider(request(answer_key="k"), [known(64)], policy(), 1) is None


def test_without_a_fitting_candidate_nothing_is_considered() -> None:
    """Neither none at all nor one of another shape gives an answer."""
    assert considered() is None
    assert considered(candidate(answer_key="other")) is None


def test_a_proven_answer_is_given() -> None:
    """After 64 right answers nearly every request is answered, and what is told holds the numbers."""
    made = [considered(known(64), seed=seed) for seed in range(200)]

    served = [one for one in made if one is not None and one.is_served]
    assert len(served) > 180
    assert "right 64 of 64 times" in served[0].why
    assert served[0].example.id == "e1"


@given(st.integers(0, 5), st.integers(0, 2**63), st.floats(0.0001, 0.5))
def test_fewer_than_six_observations_never_serve(n: int, seed: int, max_error: float) -> None:
    """Whatever the bound and the draw."""
    made = considered(known(n), seed=seed, max_error=max_error)

    assert made is not None
    assert (made.is_served, made.explore_chance) == (False, 1.0)


def test_the_same_seed_draws_the_same() -> None:
    """A decision can be made again from its seed."""
    once, again = ([considered(known(20), seed=seed) for seed in range(50)] for _ in range(2))

    assert [one.is_served for one in once if one] == [one.is_served for one in again if one]
    assert len({one.is_served for one in once if one}) == 2


def test_in_shadow_mode_nothing_is_given() -> None:
    """It is considered, so that labels are gathered, and never served."""
    made = [considered(known(64), seed=seed, mode="shadow") for seed in range(50)]

    assert [one.is_served for one in made if one is not None] == [False] * 50


def test_the_nearest_answer_is_the_one() -> None:
    """A proven example that says something else, and lies farther, does not speak for the nearest."""
    made = considered(known(0, distance=0.05), known(64, example_id="e2", response="Lyon."))

    assert made is not None
    assert (made.example.id, made.explore_chance) == ("e1", 1.0)


def test_another_that_says_the_same_may_speak_for_it() -> None:
    """Of examples with one answer the one that most is proven of counts."""
    made = considered(known(0, distance=0.05), known(64, example_id="e2", response="paris"))

    assert made is not None
    assert made.example.id == "e2"
    assert made.explore_chance < 1


def test_pooled_a_new_example_is_served_for_what_others_show() -> None:
    """Where 100 others that were asked about in the same words proved right every time, so will this one."""
    pools = Pools()
    for _ in range(100):
        considered(known(0, distance=0.0), pools=pools, estimate="pooled")
        pools.learn("d1", is_correct=True)

    made = [considered(known(0, distance=0.0), seed=seed, pools=pools, estimate="pooled") for seed in range(50)]

    assert sum(one.is_served for one in made if one is not None) > 40


def test_pooled_nothing_is_served_at_first() -> None:
    """A scope of which nothing is known can afford nothing."""
    made = considered(known(0, distance=0.0), pools=Pools(), estimate="pooled", max_error=0.01)

    assert made is not None
    assert made.explore_chance > 0.97
