import pytest

from echo_proxy.learning.estimate import drift, estimate
from echo_proxy.learning.fit import fit_outcomes
from echo_proxy.learning.knowledge import Knowledge
from echo_proxy.types import ArmKey, ArmSums, Context, Evidence, Increment, Situation
from tests.builders import NOW, policy
from tests.learning.lessons import lesson

HERE = Situation("here", Context("none", ()), None, 0.0, 0)


def test_averages_are_those_of_the_segment() -> None:
    """Prior included."""
    rules = policy()
    knowledge = Knowledge(rules)
    knowledge.absorb([Increment(ArmKey("small+0", "here"), ArmSums(2.0, 2.0, 2.0))])
    knowledge.absorb([Increment(ArmKey("large+0", "elsewhere"), ArmSums(9.0, 0.0, 0.0))])

    found = estimate(rules.to_arms(), HERE, rules, knowledge)

    assert found.means.tolist() == [0.75, 0.5, 0.5]


def test_until_a_model_is_fitted_averages_stand_in() -> None:
    """A policy that asks for regression decides from the first request on."""
    rules = policy(bandit={"kind": "linear_thompson"})
    knowledge = Knowledge(rules)
    before = estimate(rules.to_arms(), HERE, rules, knowledge)

    knowledge.end_fit(fit_outcomes(rules, ()))
    after = estimate(rules.to_arms(), HERE, rules, knowledge)

    assert before.means == pytest.approx(after.means)
    assert before.deviations.tolist() != after.deviations.tolist()


def test_a_change_is_told_with_its_reason() -> None:
    """Nothing is said while nothing has changed, or where the policy does not ask."""
    rules, deaf = policy(), policy(bandit={"kind": "epsilon_greedy", "drift": None})
    knowledge, arms = Knowledge(rules), policy().to_arms()
    quiet = drift(arms, rules, knowledge, NOW)
    for index in range(12):
        evidence = (Evidence(ArmKey("small+2", "here"), 1.0, 0.0),)
        knowledge.study([lesson(f"d{index}", means=(0.9,), evidence=evidence)])

    told = drift(arms, rules, knowledge, NOW)

    assert quiet is None
    assert told is not None
    assert told.name == "drift"
    assert told.penalties[1] > 0.5
    assert told.penalties[0] == told.penalties[2] == 0.0
    assert "small+2" in told.why
    assert drift(arms, deaf, knowledge, NOW) is None
