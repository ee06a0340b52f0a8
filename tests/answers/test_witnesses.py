"""Whose observations count, and whom they serve."""

from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.answers.consider import consider
from echo_proxy.answers.pool import Pools
from echo_proxy.answers.witnesses import counted, is_of_many
from echo_proxy.types import Caller, Candidate, Observation, StoredAnswer
from tests.builders import NOW, candidate, example, policy, request

ALL_RIGHT = [(who, True) for who in "abcdefgh" for _ in range(8)]


def known(told: list[tuple[str, bool]], scope: str = "team:red") -> Candidate:
    """An example whose answer was found right or wrong by these people, in this order."""
    seen = tuple(Observation(0.1, is_right, float(i), who) for i, (who, is_right) in enumerate(told))
    return candidate(scope=scope, answer_key="k", observations=seen)


def considered(found: Candidate, seed: int) -> StoredAnswer | None:
    """What comes of a stranger's request."""
    made = request(answer_key="k", scope=found.example.scope, caller=Caller("stranger"))
    return consider(made, [found], policy(answers={"max_error": 0.05}), seed)


def is_ever_served(found: Candidate) -> bool:
    """Whatever is drawn."""
    made = [considered(found, seed) for seed in range(30)]
    return any(one is not None and one.is_served for one in made)


def test_scopes_of_one_person() -> None:
    """A key's and a user's; all others are of many, unknown kinds too."""
    kinds = ("key:a", "user:joe", "team:red", "organization:o", "domain:law", "public:all", "")

    assert [is_of_many(scope) for scope in kinds] == [False, False, True, True, True, True, True]


def test_of_each_witness_the_newest_two_count() -> None:
    """In their order; in a scope of one person all do."""
    told = [("a", False), ("b", True), ("a", True), ("a", True), ("", False), ("", True), ("", True)]

    many = counted(known(told).example)
    one = counted(known(told, "key:a").example)

    assert [(seen.at, seen.witness) for seen in many] == [(1.0, "b"), (2.0, "a"), (3.0, "a"), (5.0, ""), (6.0, "")]
    assert len(one) == 7


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.booleans()), max_size=64))
def test_two_people_prove_nothing_for_others(told: list[tuple[str, bool]]) -> None:
    """However often they asked; and what only they saw is never served, whatever is drawn."""
    made = considered(known(told), 1)

    assert made is not None
    assert (made.is_served, made.explore_chance) == (False, 1.0)


def test_many_people_prove_an_answer() -> None:
    """Eight of them who found it right, at a bound of 5 %; one alone does the same in a scope of his own."""
    assert is_ever_served(known(ALL_RIGHT))
    assert is_ever_served(known([("a", True)] * 64, "key:a"))
    assert not is_ever_served(known([("a", True)] * 64))


def test_a_flood_does_not_outweigh_others() -> None:
    """One person's right labels leave the doubt that others have told as it was, or greater."""
    doubted = [("a", False), ("b", False), ("c", True), ("d", True)]
    flooded = [*doubted, *[("e", True)] * 2]

    before, after = (considered(known(told), 1) for told in (flooded, [*flooded, *[("e", True)] * 50]))

    assert before is not None
    assert after is not None
    assert after.explore_chance == before.explore_chance
    assert "right 4 of 6 times" in after.why


def test_the_kind_of_an_answer_hangs_on_what_counts() -> None:
    """Pooled: one person's labels do not make an example's record a good one."""
    rules = policy(answers={"estimate": "pooled", "max_error": 0.05})
    found = known([("a", False), *[("b", True)] * 60])

    made = consider(request(answer_key="k", scope="team:red"), [found], rules, 1, Pools())

    assert made is not None
    assert made.why.startswith("right 2 of 3 times")


def test_old_observations_are_one_witness() -> None:
    """Nobody knows whose they were."""
    old = example(scope="team:red", observations=tuple(Observation(0.1, True, NOW + i) for i in range(9)))

    assert len(counted(old)) == 2
