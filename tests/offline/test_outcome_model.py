import numpy as np
import pytest

from echo_proxy.offline.off_policy import Draws, Outcomes
from echo_proxy.offline.outcome_model import expected_outcomes


def world(n: int = 2000, seed: int = 1) -> tuple[Draws, Outcomes, np.ndarray, np.ndarray]:
    """Arm 0 is good where the feature is high, arm 1 where it is low."""
    rng = np.random.default_rng(seed)
    contexts = rng.uniform(-1, 1, (n, 3))
    truth = np.stack([0.5 + 0.4 * contexts[:, 0], 0.5 - 0.4 * contexts[:, 0]], axis=1)
    drawn = rng.integers(0, 2, n)
    values = truth[np.arange(n), drawn] + rng.normal(0, 0.1, n)
    return Draws(drawn, np.full(n, 0.5), np.full((n, 2), 0.5)), Outcomes(values, np.ones(n)), contexts, truth


def test_each_arm_s_outcome_is_learned_from_the_context() -> None:
    """Better with every block."""
    draws, outcomes, contexts, truth = world()

    errors = np.abs(expected_outcomes(draws, outcomes, contexts) - truth).mean(axis=1)

    assert errors[1024:].mean() < 0.05 < 0.1 < errors[:32].mean()


def test_only_earlier_outcomes_are_used() -> None:
    """Another future changes no expectation of the past."""
    draws, outcomes, contexts, _ = world()
    changed = outcomes.values.copy()
    changed[1000:] = 9.0

    before = expected_outcomes(draws, outcomes, contexts)
    after = expected_outcomes(draws, Outcomes(changed, outcomes.counts), contexts)

    assert (before[:1001] == after[:1001]).all()
    assert (before[1024:] == after[1024:]).mean() < 1


def test_an_unknown_outcome_is_not_used() -> None:
    """However odd the number that stands for it."""
    draws, outcomes, contexts, _ = world(500)
    counts, values = outcomes.counts.copy(), outcomes.values.copy()
    counts[::2] = 0.0
    values[::2] = 1e6

    assert np.abs(expected_outcomes(draws, Outcomes(values, counts), contexts)).max() < 2


def test_an_arm_that_was_never_drawn_is_taken_for_the_usual() -> None:
    """As good as all together."""
    draws, outcomes, contexts, _ = world(500)
    never = Draws(np.zeros(500, dtype=np.int64), draws.propensities, draws.target)

    got = expected_outcomes(never, Outcomes(np.full(500, 0.7), outcomes.counts), contexts)

    assert got[32:, 1] == pytest.approx(0.7, abs=0.01)


def test_nothing_known_is_expected_as_nothing() -> None:
    """Zero rather than an error."""
    draws, outcomes, contexts, _ = world(100)

    assert (expected_outcomes(draws, Outcomes(outcomes.values, np.zeros(100)), contexts) == 0).all()


def test_a_measure_that_never_changes_has_no_error() -> None:
    """From the first decision on."""
    draws, outcomes, contexts, _ = world(100)

    got = expected_outcomes(draws, Outcomes(np.full(100, 7.0), outcomes.counts), contexts)

    assert got == pytest.approx(7.0)
