from dataclasses import replace

import numpy as np
import pytest

from echo_proxy.upkeep.worth import demand, reliability
from tests.builders import NOW, example
from tests.fakes import holdings_of

HOUR = 3600.0


def held(**columns):
    """Examples that differ in these columns alone."""
    n = len(next(iter(columns.values())))
    made = [example(str(row), created_at=NOW - 24 * HOUR) for row in range(n)]
    return holdings_of(
        [replace(one, **{name: column[row] for name, column in columns.items()}) for row, one in enumerate(made)]
    )


def test_demand_grows_with_successful_offloads():
    """What has helped lately is expected to help."""
    asked = demand(held(offloads=[0.0, 1.0, 5.0]), NOW, 0.9)

    assert np.all(np.diff(asked) > 0)
    assert asked[2] - asked[1] == pytest.approx(4.0)


def test_of_unused_examples_the_younger_is_worth_more():
    """Somebody asked for it the other day; nothing is worth nothing."""
    asked = demand(held(created_at=[NOW - hours * HOUR for hours in (5000, 100, 10, 1, 0)]), NOW, 0.9)

    assert np.all(np.diff(asked) > 0)
    assert asked[0] > 0


def test_a_use_counts_more_than_youth():
    """A new example does not push out one that has just helped."""
    asked = demand(held(offloads=[0.5, 0.0], created_at=[NOW - 100 * HOUR, NOW]), NOW, 0.9)

    assert asked[0] > asked[1]


def test_reliability_falls_with_bad_answers():
    """An example that the model makes nothing of serves nobody."""
    trusted = reliability(held(uses=[0.0, 10.0, 10.0, 10.0], gain=[0.0, 10.0, 5.0, 0.0]))

    assert trusted.tolist() == pytest.approx([1.0, 1.0, 9 / 14, 4 / 14])


def test_reliability_begins_with_the_quality_of_the_answer():
    """Before any use, the answer's own quality is what is known."""
    trusted = reliability(held(quality=[1.0, 0.5]))

    assert trusted.tolist() == [1.0, 0.5]


@pytest.mark.parametrize(("uses", "gain"), [(-1e-9, 0.0), (2.0, 2.1), (0.0, -1e-9)])
def test_rounded_sums_do_no_harm(uses, gain):
    """Sums that are taken back may end a little beside their range."""
    trusted = reliability(held(uses=[uses], gain=[gain]))

    assert 0.0 <= trusted[0] <= 1.0
