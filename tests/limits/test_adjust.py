import numpy as np
import pytest

from echo_proxy.limits.adjust import adjustments, normalised_costs
from echo_proxy.types import Conditions, Forecast
from tests.builders import LARGE, SMALL, policy

ARMS = (SMALL, LARGE)
MEANS = np.array([0.5, 0.8])


def test_by_default_nothing_is_taken() -> None:
    """Quality first, unless a line of policy says otherwise."""
    assert adjustments(ARMS, MEANS, Conditions(budget_price=3.0, last_deployment="small"), policy()) == ()


def test_each_line_of_policy_is_visible() -> None:
    """In a fixed order, by name."""
    rules = policy(budget={"usd_per_1000_requests": 1.0}, preference={"value": 0.5}, stickiness={"switch_cost": 0.1})
    forecasts = {"small+2": Forecast(0.001, 1.0, 5.0), "large+0": Forecast(0.01, 2.0, 5.0)}

    made = adjustments(ARMS, MEANS, Conditions({}, forecasts, 0.5, "small"), rules)

    assert [one.name for one in made] == ["budget", "preference", "switch"]
    assert [one.penalties for one in made] == [pytest.approx(p) for p in ((0.05, 0.5), (0.05, 0.5), (0.0, 0.1))]


def test_costs_are_relative_to_the_dearest() -> None:
    """An arm that never answered counts as the mean of the others; when nobody did, cost says nothing."""
    known = {"large+0": Forecast(0.01, 1.0, 5.0)}

    assert normalised_costs(ARMS, Conditions(forecasts=known)).tolist() == [1.0, 1.0]
    assert normalised_costs(ARMS, Conditions()).tolist() == [0.0, 0.0]
