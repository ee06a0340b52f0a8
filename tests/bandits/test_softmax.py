"""Rules of softmax."""

from math import e

import numpy as np
import pytest

from echo_proxy.bandits.softmax import Softmax
from echo_proxy.types import Estimates


def seen(means: list[float]) -> Estimates:
    """Estimates with these means."""
    return Estimates(np.ones(len(means)), np.array(means), np.zeros(len(means)))


def test_one_temperature_apart_is_e_times_likelier() -> None:
    """The odds of two arms are exp of their difference in temperatures."""
    pmf = Softmax(0.2).pmf(seen([0.5, 0.7]))

    assert pmf == pytest.approx([1 / (1 + e), e / (1 + e)])


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-12])
def test_hardly_any_temperature_is_greedy(temperature: float) -> None:
    """The tiniest temperature takes the best arm and overflows nowhere."""
    assert Softmax(temperature).pmf(seen([0.1, 0.9, 0.9])).tolist() == [0.0, 0.5, 0.5]


def test_the_highest_temperature_is_uniform() -> None:
    """At a temperature beyond all rewards, arms are alike."""
    assert Softmax(1e308).pmf(seen([0.1, 0.9])).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_out_of_range_is_refused(temperature: float) -> None:
    """Temperature divides; nothing but a number above zero will do."""
    with pytest.raises(ValueError, match="temperature must be finite and above 0"):
        Softmax(temperature)
