from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.online.familiar import Familiar
from echo_proxy.types import Rejection, Selection
from tests.builders import NOW, candidate

PERIOD_S = 60.0


def use(familiar: Familiar, *ids: str, now: float = NOW, times: int = 1, scope: str = "key:a") -> None:
    for _ in range(times):
        familiar.count(scope, "p", Selection(tuple(candidate(one) for one in ids)), now, PERIOD_S)


def rank(familiar: Familiar, now: float = NOW, scope: str = "key:a", partition: str = "p") -> list[str]:
    return list(familiar.ranking(scope, partition, now, PERIOD_S))


def test_the_most_used_come_first() -> None:
    """Ties by id, so that the order is the same every time; what was used once is not familiar."""
    familiar = Familiar()
    use(familiar, "b", "a", times=3)
    use(familiar, "c", times=5)
    use(familiar, "once")

    assert rank(familiar) == ["c", "a", "b"]


def test_nothing_is_familiar_at_first() -> None:
    """Nor in another scope or partition."""
    familiar = Familiar()
    use(familiar, "a", times=3)

    assert rank(Familiar()) == []
    assert rank(familiar, scope="key:b") == []
    assert rank(familiar, partition="q") == []


def test_the_ranking_stays_for_a_period() -> None:
    """However the counts change meanwhile: prompts are to begin alike."""
    familiar = Familiar()
    use(familiar, "a", times=2)
    first = rank(familiar)
    use(familiar, "b", times=9)
    meanwhile, later = rank(familiar, NOW + 59), rank(familiar, NOW + 61)

    assert first == meanwhile == ["a"]
    assert later == ["b", "a"]


def test_old_uses_fade() -> None:
    """What was used much long ago goes behind what is used now."""
    familiar = Familiar()
    use(familiar, "old", times=8)
    later = NOW + 40 * PERIOD_S
    use(familiar, "new", now=later, times=3)

    assert rank(familiar, later) == ["new"]


def test_an_example_for_which_there_was_no_room_counts_as_much() -> None:
    """Otherwise one would stay in the backbone because it is in the backbone."""
    familiar = Familiar()
    made = Selection((candidate("a"),), (Rejection(candidate("b"), "enough"), Rejection(candidate("c"), "utility")))
    for _ in range(3):
        familiar.count("key:a", "p", made, NOW, PERIOD_S)

    assert rank(familiar) == ["a", "b"]


def test_memory_is_bounded() -> None:
    """In groups and in examples; the newest group and the most used example stay."""
    familiar = Familiar()
    for index in range(1100):
        use(familiar, "x", scope=f"key:{index}", times=2)
    use(familiar, "much", times=9)
    for index in range(2000):
        use(familiar, f"e{index:04}")

    assert rank(familiar, scope="key:0") == []
    assert rank(familiar, scope="key:1099") == ["x"]
    assert rank(familiar) == ["much"]
    assert len(familiar._groups) <= 1000
    assert all(len(group.uses) <= 512 for group in familiar._groups.values())


@given(st.lists(st.tuples(st.lists(st.sampled_from("abcdef"), unique=True), st.floats(0, 500))))
def test_a_ranking_names_each_example_once(history: list[tuple[list[str], float]]) -> None:
    """Whatever was used and when."""
    familiar, now = Familiar(), NOW
    for ids, wait_s in history:
        now += wait_s
        use(familiar, *ids, now=now)
        ranking = rank(familiar, now)

        assert len(ranking) == len(set(ranking))
        assert set(ranking) <= set("abcdef")
