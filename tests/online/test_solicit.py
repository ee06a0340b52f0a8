import numpy as np
import pytest

from echo_proxy.bandits.floor import with_floor
from echo_proxy.online.solicit import invites_feedback
from echo_proxy.policy import SolicitPolicy

RULES = SolicitPolicy()


@pytest.mark.parametrize(
    ("pmf", "expected"),
    [
        ((0.5, 0.5), True),
        ((0.59, 0.41), True),
        ((0.61, 0.39), False),
        ((1.0, 0.0), False),
        ((0.4, 0.35, 0.25), True),
        ((0.98, 0.01, 0.01), False),
        ((1.0,), False),
    ],
)
def test_feedback_is_welcome_where_the_arms_are_close(pmf: tuple[float, ...], expected: bool) -> None:
    """A standard deviation below 0.1, as in IC-Cache; with one arm there is nothing to learn."""
    assert invites_feedback(pmf, 0.0, RULES) is expected


def test_the_floor_does_not_make_arms_close() -> None:
    """It lifts the worst arm for the logs' sake alone."""
    pmf = with_floor(np.array([0.7, 0.3]), 0.4)

    assert np.std(pmf) < 0.1
    assert not invites_feedback(tuple(pmf), 0.4, RULES)


def test_a_floor_that_takes_everything_leaves_arms_alike() -> None:
    """Nothing is known of them then."""
    assert invites_feedback((0.5, 0.5), 0.5, RULES)
