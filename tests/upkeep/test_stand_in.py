from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_proxy.policy import Utility
from echo_proxy.upkeep import stand_in
from echo_proxy.upkeep.stand_in import added_worth, likeness_of, need
from echo_proxy.upkeep.unaided import Unaided
from tests.builders import example, vector
from tests.fakes import MemoryStore

APART = (vector(1, 0, 0), vector(0, 1, 0), vector(0, 0, 1))


async def likeness(examples):
    store = MemoryStore()
    await store.add_many(examples)
    return await likeness_of(store, [one.id for one in examples], Utility())


def pairs(found):
    """Which ones each could help, by row."""
    return [
        sorted(found.others[found.starts[row] : found.starts[row + 1]].tolist()) for row in range(len(found.starts) - 1)
    ]


def question(row, text="what?", **changes):
    return example(f"e{row}", request=text, response="it is so", **changes)


async def test_near_ones_are_paired_within_their_scope_and_partition():
    """Only what is found for the same requests can stand in, and nothing in quarantine for what is not."""
    found = await likeness(
        [
            question(0, vector=APART[0]),
            question(1, vector=APART[0]),
            question(2, vector=APART[1]),
            question(3, vector=APART[0], scope="key:b"),
            question(4, vector=APART[0], partition="q"),
            question(5, vector=APART[0], reader="b"),
        ]
    )

    assert pairs(found) == [[0, 1], [0, 1], [2], [3], [4], [5]]


async def test_another_name_makes_it_less_relevant():
    """The capital of Skulia says little about that of Zamland, however near they are."""
    found = await likeness(
        [
            question(0, "What is the capital of Skulia?", vector=APART[0]),
            question(1, "What is the capital of Zamland?", vector=APART[0]),
        ]
    )

    assert found.relevance.tolist() == pytest.approx([0.997, 0.4985, 0.4985, 0.997], abs=1e-3)


async def test_what_the_store_does_not_show_is_near_itself_alone():
    """It may have gone since its columns were read."""
    store = MemoryStore()
    await store.add(question(0, vector=APART[0]))

    found = await likeness_of(store, ["e0", "gone"], Utility())

    assert pairs(found) == [[0], [1]]


async def test_an_empty_store_has_no_pairs():
    """And no error."""
    assert pairs(await likeness([])) == []


async def test_large_groups_are_cut_into_cells(monkeypatch):
    """Near ones stay together, and nobody is lost."""
    monkeypatch.setattr(stand_in, "_CELL", 4)
    found = await likeness([question(row, vector=APART[row % 3]) for row in range(30)])

    assert all(row in near for row, near in enumerate(pairs(found)))
    assert all(other % 3 == row % 3 for row, near in enumerate(pairs(found)) for other in near)


async def test_the_second_of_twins_adds_little():
    """The first one serves what both were asked for."""
    found = await likeness([question(row, vector=APART[row // 2]) for row in range(3)])

    added = added_worth(np.full(3, 1.0), np.ones(3), np.full(3, 10), found, np.zeros(3, dtype=bool))

    assert added.tolist() == pytest.approx([1.6, 0.32, 0.8], abs=0.01)


async def test_what_must_stay_is_counted_first():
    """A young twin makes the old one superfluous, not the other way round."""
    found = await likeness([question(row, vector=APART[0]) for row in range(2)])

    added = added_worth(np.full(2, 1.0), np.ones(2), np.full(2, 10), found, np.array([False, True]))

    assert added[1] > added[0]


async def test_of_twins_the_lighter_and_more_reliable_one_is_worth_more():
    """Per byte, and by what was made of it."""
    found = await likeness([question(row, vector=APART[0]) for row in range(2)])
    nothing = np.zeros(2, dtype=bool)

    lighter = added_worth(np.ones(2), np.ones(2), np.array([20, 10]), found, nothing)
    better = added_worth(np.ones(2), np.array([0.5, 1.0]), np.full(2, 10), found, nothing)

    assert lighter[1] > lighter[0]
    assert better[1] > better[0]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
async def test_worth_is_taken_as_by_the_plain_greedy_rule(seed):
    """Lazy evaluation changes nothing but the time: each step takes what adds most per byte."""
    rng = np.random.default_rng(seed)
    n = 12
    made = [question(row, vector=vector(*rng.random(3))) for row in range(n)]
    found = await likeness([replace(one, id=f"e{row:02d}") for row, one in enumerate(made)])
    asked, trusted, weights = rng.random(n), rng.random(n), rng.integers(1, 50, n)
    helps = np.zeros((n, n))  # (helper, asked)
    for row in range(n):
        span = slice(found.starts[row], found.starts[row + 1])
        useful = found.relevance[span] * trusted[row]
        helps[row, found.others[span]] = np.where(useful >= 0.3, 0.8 * useful, 0.0)
    missing, left, expected = asked.copy(), list(range(n)), np.zeros(n)
    while left:
        best = max(left, key=lambda row: helps[row] @ missing / weights[row])
        expected[best] = helps[best] @ missing
        missing = missing * (1 - helps[best])
        left.remove(best)

    added = added_worth(asked, trusted, weights, found, np.zeros(n, dtype=bool))

    assert added == pytest.approx(expected, abs=1e-9)


async def test_need_is_learned_from_near_requests():
    """What is known of one request holds for those near it, and less for the others."""
    found = await likeness([question(row, vector=APART[row // 2]) for row in range(4)])

    needed = need(["e0", "e1", "e2", "e3"], {"e0": Unaided(5.0, 5.0), "e2": Unaided(5.0, 0.0)}, found)

    assert needed[0] == needed[1] < 0.01
    assert needed[2] == needed[3] > 0.9


async def test_without_unaided_answers_all_need_help():
    """Nothing is known, so nothing is taken away."""
    found = await likeness([question(0)])

    assert need(["e0"], {}, found).tolist() == [1.0]
