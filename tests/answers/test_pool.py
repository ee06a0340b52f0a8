"""What a scope's examples tell together."""

from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.answers.pool import Pool, Pools, kind_of
from echo_proxy.types import Caller, Observation
from tests.builders import NOW, request

kinds = st.integers(0, 19)
events = st.lists(st.tuples(st.floats(0, 0.25), st.booleans()), max_size=40)


def taught(seen: list[tuple[float, bool]]) -> Pool:
    """A pool that has these labels, of examples of which nothing else is known."""
    pool = Pool()
    for distance, is_correct in seen:
        pool.learn(kind_of((), distance), is_correct)
    return pool


@given(events, st.lists(kinds, max_size=40), kinds, st.floats(0.001, 0.5))
def test_what_can_be_afforded_is_a_chance(
    seen: list[tuple[float, bool]], asked: list[int], kind: int, bound: float
) -> None:
    """Whatever was seen and asked; and a looser bound affords no less."""
    pool = taught(seen)
    for one in [*asked, kind]:
        pool.ask(one)

    assert 0 <= pool.affordable(kind, bound) <= pool.affordable(kind, min(bound * 2, 1.0)) <= 1


@given(events, st.lists(kinds, min_size=1, max_size=40), st.floats(0.001, 0.3))
def test_all_kinds_together_keep_the_bound(seen: list[tuple[float, bool]], asked: list[int], bound: float) -> None:
    """Served as often as each can be afforded, the wrong ones that were seen so far stay within the bound."""
    pool = taught(seen)
    for one in asked:
        pool.ask(one)
    counted = [(kind_of((), distance), right) for distance, right in seen]

    expected = 0.0
    for kind in asked:
        n = sum(one == kind for one, _ in counted)
        n_wrong = sum(one == kind and not right for one, right in counted)
        expected += pool.affordable(kind, bound) * n_wrong / (n + 1) / len(asked)

    assert expected <= bound + 1e-9


def test_a_kind_that_is_mostly_wrong_is_never_served() -> None:
    """However much the bound would let through; nor is one of which nothing is known."""
    pool = taught([(0.2, False)] * 3 + [(0.2, True)])
    for kind in (kind_of((), 0.2), kind_of((), 0.0)):
        pool.ask(kind)

    assert pool.affordable(kind_of((), 0.2), 0.5) == 0
    assert pool.affordable(kind_of((), 0.0), 0.5) == 0


def test_a_label_counts_once() -> None:
    """A decision that is told of twice teaches once, and one that is not known nothing."""
    pools, asked = Pools(), request()
    pools.ask(asked, 4)

    for decision_id in ("d1", "d1", "unknown"):
        pools.learn(decision_id, is_correct=False)

    assert pools.of(asked).wrong_chance(4) == 2 / 3


def test_scopes_do_not_vouch_for_each_other() -> None:
    """What one scope has seen changes nothing in another."""
    pools = Pools()

    pools.ask(request(), 0)
    pools.learn("d1", is_correct=True)

    assert pools.of(request()).wrong_chance(0) == 1 / 3
    assert pools.of(request(scope="key:b")).wrong_chance(0) == 1 / 2


def test_kinds_part_by_distance_and_record() -> None:
    """The same words, near and far ones; nothing known, right so far, and wrong before are kinds of their own."""
    right, wrong = Observation(0.1, True, 1.0), Observation(0.1, False, 1.0)

    made = [kind_of(seen, d) for d in (0.0, 0.02, 0.2) for seen in ((), (right,), (right,) * 9, (right, wrong))]

    assert len(set(made)) == len(made)
    assert max(made) == 19


def asked_by(pools: Pools, people: list[str], kind: int, is_correct: bool = True, at: float = NOW) -> None:
    """One labelled request of each, in a scope of many."""
    for number, who in enumerate(people):
        made = request(scope="team:red", caller=Caller(who), decision_id=f"{kind}-{number}", received_at=at)
        pools.ask(made, kind)
        pools.learn(made.decision_id, is_correct)


RED = request(scope="team:red")


def test_a_rare_kind_that_is_often_wrong_is_never_served() -> None:
    """However many others are right, so that the bound would let its wrong answers through."""
    pool = Pool()
    for i in range(60):
        pool.ask(9)
        pool.learn(9, is_correct=i % 10 >= 3)
    for _ in range(20_000):
        pool.ask(0)
        pool.learn(0, is_correct=True)

    assert pool.affordable(9, 0.01) == 0
    assert pool.affordable(0, 0.01) == 1


@given(st.integers(0, 30), st.integers(0, 300), st.floats(0.001, 0.5))
def test_three_times_the_bound_is_the_end(n_wrong: int, n_right: int, bound: float) -> None:
    """A kind that must be expected to be wrong more often is not served, if it were the rarest of all."""
    pool = Pool()
    for i in range(n_wrong + n_right):
        pool.learn(9, is_correct=i >= n_wrong)
    pool.ask(9)
    for _ in range(1000):
        pool.ask(0)

    assert pool.wrong_chance(9) <= 3 * bound or pool.affordable(9, bound) == 0


def test_one_persons_requests_count_up_to_a_number() -> None:
    """In a scope of many, within an hour: neither his requests nor their labels move the shares further."""
    some, flood = Pools(), Pools()
    for pools, n in ((some, 20), (flood, 5_000)):
        asked_by(pools, [f"p{i}" for i in range(50)], 4)
        asked_by(pools, ["attacker"] * n, 0)

    assert flood.of(RED).wrong_chance(0) == some.of(RED).wrong_chance(0) == 1 / 22
    assert flood.of(RED).affordable(4, 0.03) == some.of(RED).affordable(4, 0.03)


def test_the_next_hour_counts_again() -> None:
    """A person who asks every day is not left out for good."""
    pools = Pools()
    asked_by(pools, ["joe"] * 30, 0)
    asked_by(pools, ["joe"] * 30, 0, at=NOW + 3600)

    assert pools.of(RED).wrong_chance(0) == 1 / 42


def test_the_keys_of_one_user_share_his_turns() -> None:
    """Another key is not another person."""
    pools = Pools()
    for number in range(60):
        made = request(scope="team:red", caller=Caller(f"key-{number}", user="joe"), decision_id=f"d{number}")
        pools.ask(made, 0)
        pools.learn(made.decision_id, is_correct=True)

    assert pools.of(made).wrong_chance(0) == 1 / 22


def test_two_people_open_no_kind_for_others() -> None:
    """A third must have been told what such an answer is worth; in a scope of one, one is enough."""
    two, three, own = Pools(), Pools(), Pools()
    asked_by(two, ["a", "b"] * 20, 0)
    asked_by(three, ["a", "b"] * 20 + ["c"], 0)
    for number in range(41):
        made = request(decision_id=f"d{number}")
        own.ask(made, 0)
        own.learn(made.decision_id, is_correct=True)

    assert two.of(RED).affordable(0, 0.1) == 0
    assert three.of(RED).affordable(0, 0.1) > 0
    assert own.of(request()).affordable(0, 0.1) > 0
