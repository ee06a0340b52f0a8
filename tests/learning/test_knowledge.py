import pytest

from echo_proxy.learning.knowledge import Knowledge
from echo_proxy.types import ArmKey, ArmSums, Increment
from tests.builders import lesson

KEY, OTHER = ArmKey("small+2", "all"), ArmKey("small+2", "names=missing")
ONE = Increment(KEY, ArmSums(1.0, 0.5, 0.25))


def test_nothing_is_known_at_first() -> None:
    """An arm without evidence has zeros."""
    assert Knowledge().sums(KEY) == ArmSums()


def test_what_is_absorbed_counts_at_once() -> None:
    """Per arm and segment, by adding."""
    knowledge = Knowledge()

    knowledge.absorb([ONE, ONE])

    assert knowledge.sums(KEY) == ArmSums(2.0, 1.0, 0.5)
    assert knowledge.sums(OTHER) == ArmSums()


def test_the_store_s_state_replaces_ours_but_for_what_it_does_not_have_yet() -> None:
    """Otherwise each refresh would forget what waits in the outbox."""
    knowledge = Knowledge()
    knowledge.absorb([ONE, ONE, ONE])

    knowledge.replace({KEY: ArmSums(10.0, 5.0, 2.5)}, [ONE])

    assert knowledge.snapshot() == {KEY: ArmSums(11.0, 5.5, 2.75)}


def test_a_snapshot_is_a_copy() -> None:
    """Later learning does not change it."""
    knowledge = Knowledge()
    before = knowledge.snapshot()
    knowledge.absorb([ONE])

    assert before == {}


def test_a_lesson_that_cannot_be_learned_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    """It is told, and neither keeps the others from being learned nor is fitted to."""
    knowledge = Knowledge()
    odd = lesson("odd", arms=("small+0",))

    n_skipped = knowledge.study([lesson("a"), odd, lesson("b")])

    assert n_skipped == 1
    assert [one.decision_id for one in knowledge.memory.snapshot()] == ["a", "b"]
    assert "the lesson of decision odd cannot be learned: ValueError" in caplog.text
