from dataclasses import replace

from echo_proxy.types import Amendment, Context, Lesson, Situation, Trial
from echo_proxy.upkeep.unaided import Unaided, unaided_answers
from tests.builders import NOW, policy
from tests.fakes import MemoryStore


def trial(example_id, is_chosen=True):
    return Trial(example_id, "pair", (), 1.0, is_chosen)


def lesson(decision_id="d1", arm="small+0", trials=("e1",), quality=1.0, **changes):
    situation = Situation("all", Context("none", ()), None, 0.0, len(trials))
    made = Lesson(
        decision_id, NOW, (arm,), (1.0,), arm, True, (0.5,), situation, (), tuple(map(trial, trials)),
        quality, 1.0, quality, 0.0, 0.1, None, 10, 10,
    )  # fmt: skip
    return replace(made, **changes)


async def told(*learned):
    store = MemoryStore()
    store.learned = list(learned)
    return await unaided_answers(store, policy().to_arms())


async def test_answers_without_examples_are_counted_by_the_examples_at_hand():
    """What was chosen but not shown learns how the model does without it."""
    found = await told(lesson(trials=("e1", "e2")), lesson("d2", quality=0.0))

    assert found == {"e1": Unaided(2.0, 1.0), "e2": Unaided(1.0, 1.0)}


async def test_answers_with_examples_and_of_teachers_say_nothing():
    """Nor do decisions that were not acted upon."""
    found = await told(lesson(arm="small+2"), lesson("d2", arm="large+0"), lesson("d3", is_acted=False))

    assert found == {}


async def test_examples_that_were_left_out_by_chance_are_not_counted():
    """They would not have been shown."""
    found = await told(
        lesson(
            trials=(),
        ),
        replace(lesson("d2"), trials=(trial("e1", is_chosen=False), trial(""))),
    )

    assert found == {}


async def test_later_feedback_counts():
    """An amendment replaces what was thought of the answer at first."""
    found = await told(lesson(), Amendment("d1", 2, (), 0.0, 2.0, 0.0))

    assert found == {"e1": Unaided(2.0, 0.0)}


async def test_where_no_arm_leaves_examples_out_nothing_is_read():
    """A policy without such an arm has no such lessons."""
    store = MemoryStore()
    store.is_away = True
    arms = [arm for arm in policy().to_arms() if arm.n_examples or arm.is_teacher]

    assert await unaided_answers(store, arms) == {}


async def test_many_pages_are_read():
    """The log of lessons is longer than a page."""
    found = await told(*(lesson(f"d{n}") for n in range(2_500)))

    assert found == {"e1": Unaided(2_500.0, 2_500.0)}
