import numpy as np
import pytest

from echo_proxy.bandits.newcomer import newcomers, with_newcomers
from echo_proxy.policy import Newcomer
from echo_proxy.types import Estimates

RULES = Newcomer(share=0.2, until=20, others=5.0)


def pushed(
    answers: list[float],
    means: list[float] | None = None,
    deviation: float = 0.3,
    offered: float = 150.0,
    before: float | None = None,
) -> list[int]:
    known = np.array(means or [0.8] * len(answers))
    seen = Estimates(np.array(answers), known, np.full(len(answers), deviation))
    came_after = [max(answers) if before is None else before] * len(answers)
    return list(newcomers(seen, answers, [offered] * len(answers), came_after, RULES))


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([500.0, 300.0, 0.0], [2]),
        ([500.0, 19.0, 0.0], [2]),
        ([500.0, 0.0, 0.0], [1, 2]),
        ([500.0, 300.0, 20.0], []),
        ([99.0, 0.0, 0.0], []),
        ([500.0], []),
    ],
)
def test_who_has_answered_least_is_pushed_while_others_are_known(answers: list[float], expected: list[int]) -> None:
    """Until it has answered often enough; where all are new nobody is."""
    assert pushed(answers) == expected


def test_an_arm_that_can_hardly_be_the_best_is_not_pushed() -> None:
    """One that fails every time must not go on to have a share."""
    assert pushed([500.0, 0.0], [0.8, 0.5], 0.3) == [1]
    assert pushed([500.0, 5.0], [0.8, 0.1], 0.1) == []
    assert pushed([500.0, 5.0, 9.0], [0.8, 0.1, 0.7], 0.1) == [2]


def test_an_arm_that_was_long_there_is_not_pushed() -> None:
    """That it is seldom drawn is what was learned of it, or it fails each time."""
    assert pushed([500.0, 0.0], offered=199.0) == [1]
    assert pushed([500.0, 0.0], offered=200.0) == []


def test_an_arm_of_the_start_is_not_new() -> None:
    """However seldom it has answered: that the others were preferred to it is what was learned."""
    assert pushed([500.0, 3.0], before=99.0) == []
    assert pushed([500.0, 3.0], before=100.0) == [1]


def test_the_share_is_taken_from_all_alike() -> None:
    """Probabilities still sum to one; without newcomers they are as they were."""
    pmf = np.array([0.9, 0.06, 0.04])

    assert with_newcomers(pmf, [2], 0.2) == pytest.approx([0.72, 0.048, 0.232])
    assert with_newcomers(pmf, [1, 2], 0.2).sum() == pytest.approx(1.0)
    assert with_newcomers(pmf, [], 0.2) is pmf
