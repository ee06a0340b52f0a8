"""Quality less its uncertainty."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.admission.floor import worth


def test_uncertainty_is_taken_off() -> None:
    """A guess of which nothing else is known is as uncertain as a coin of that chance."""
    assert worth(0.9, 0.1, 2.0) == pytest.approx(0.7)
    assert worth(0.9, None, 1.0) == pytest.approx(0.6)
    assert worth(0.5, None, 1.0) == 0.0


@given(st.floats(0, 1), st.floats(0, 5))
def test_it_is_never_more_than_the_estimate(estimate: float, deviations: float) -> None:
    """Not knowing is no merit."""
    assert worth(estimate, None, deviations) <= estimate
