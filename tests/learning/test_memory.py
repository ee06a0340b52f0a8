from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.learning.memory import Memory
from tests.builders import amendment, lesson


def test_a_lesson_is_learned_once() -> None:
    """Hearing it again, from the store or from oneself, changes nothing."""
    memory = Memory(10)

    first, again = memory.absorb(lesson("a")), memory.absorb(lesson("a", reward=0.0))

    assert first is not None
    assert (first.lesson, first.before, again) == (lesson("a"), None, None)
    assert (len(memory), memory.n_changes) == (1, 1)


def test_an_amendment_replaces_the_outcome_and_tells_what_was() -> None:
    """Only the outcome changes; models can take the old view out exactly."""
    memory = Memory(10)
    memory.absorb(lesson("a", reward=1.0))

    news = memory.absorb(amendment("a", reward=0.25))

    assert news is not None
    assert (news.before, news.lesson.reward, news.lesson.quality) == (lesson("a", reward=1.0), 0.25, 0.25)
    assert news.lesson.situation == lesson("a").situation
    assert memory.snapshot() == (news.lesson,)


def test_an_older_amendment_changes_nothing() -> None:
    """Workers hear of revisions in any order."""
    memory = Memory(10)
    memory.absorb(lesson("a"))
    memory.absorb(amendment("a", revision=3, reward=0.5))

    assert memory.absorb(amendment("a", revision=2, reward=0.0)) is None
    assert memory.snapshot()[0].reward == 0.5


def test_what_amends_an_unknown_lesson_is_left() -> None:
    """It was forgotten, and an outcome without a situation teaches nothing."""
    assert Memory(10).absorb(amendment("a")) is None


@given(st.lists(st.integers(0, 20), max_size=60), st.integers(1, 8))
def test_the_newest_are_remembered(ids: list[int], capacity: int) -> None:
    """Never more than the capacity, the last ones that were new."""
    memory = Memory(capacity)
    for one in ids:
        memory.absorb(lesson(str(one)))

    assert len(memory) == min(capacity, len(memory.snapshot()))
    assert len(memory) <= capacity


def test_resizing_forgets_the_oldest() -> None:
    """A policy may be reloaded with less."""
    memory = Memory(10)
    for i in range(5):
        memory.absorb(lesson(str(i)))
    memory.resize(2)

    assert [one.decision_id for one in memory.snapshot()] == ["3", "4"]


def test_a_forgotten_lesson_is_not_learned_again() -> None:
    """A worker reads its own from the store, perhaps after newer ones have pushed it out."""
    memory = Memory(2)
    for one in "abcd":
        memory.absorb(lesson(one))

    assert [memory.absorb(lesson(one)) for one in "abcd"] == [None] * 4
    assert memory.n_changes == 4


def test_a_lesson_that_is_dropped_does_not_come_back() -> None:
    """Nothing can be learned from it."""
    memory = Memory(10)
    memory.absorb(lesson("a"))
    memory.drop("a")
    memory.drop("unknown")

    assert memory.absorb(lesson("a")) is None
    assert memory.absorb(amendment("a")) is None
    assert memory.snapshot() == ()
