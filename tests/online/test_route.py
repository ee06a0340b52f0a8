from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.learning.fit import fit_outcomes
from echo_proxy.learning.knowledge import Knowledge
from echo_proxy.online.learn import increments_between
from echo_proxy.online.route import choose, draw, route
from echo_proxy.online.situation import conditions_of, situation_of
from echo_proxy.types import ArmKey, ArmSums, Conditions, Decision, Evidence, Increment, Selection
from tests.builders import NOW, candidate, lesson, policy, request, selection, vector

BOTH = {"small", "large"}
ARMS = ("small+0", "small+2", "large+0")
bandits = st.one_of(
    st.builds(lambda epsilon: {"kind": "epsilon_greedy", "epsilon": epsilon}, st.floats(0, 1)),
    st.builds(lambda width: {"kind": "ucb1", "width": width}, st.floats(0, 10)),
    st.builds(lambda decay: {"kind": "epsilon_greedy", "decay": decay}, st.floats(1, 1000)),
    st.builds(lambda alpha: {"kind": "linucb", "alpha": alpha}, st.floats(0, 10)),
    st.builds(lambda width: {"kind": "linear_thompson", "width": width}, st.floats(0.01, 10)),
    st.builds(lambda warmth: {"kind": "softmax", "temperature": warmth}, st.floats(0.01, 10)),
    *(st.just({"kind": kind}) for kind in ("uniform", "discounted_ucb", "beta_thompson")),
    st.just({"kind": "fixed", "probabilities": {"small+0": 0.2, "large+0": 0.8}}),
)


def drawn(
    available: set[str] | None = None,
    chosen: Selection | None = None,
    knowledge: Knowledge | None = None,
    seed: int = 1,
    **changes: Any,
) -> Decision:
    rules = policy(**({"bandit": {"kind": "uniform"}} | changes))
    known = knowledge or Knowledge()
    picked = chosen or selection(candidate())
    situation = situation_of(request(), vector(1.0), picked, Conditions(), rules)
    made = route(request(), picked, situation, available or BOTH, rules, known, seed)
    assert made is not None
    return made


@given(
    bandits,
    st.floats(1e-6, 0.2),
    st.sampled_from([{"small"}, {"large"}, BOTH]),
    st.integers(0, 2),
    st.lists(st.tuples(st.sampled_from(ARMS), st.floats(0, 100), st.floats(0, 1)), max_size=6),
    st.integers(0, 2**63 - 1),
)
def test_every_decision_can_be_evaluated_later(
    bandit: dict[str, Any], floor: float, available: set[str], n_chosen: int, learned: list[Any], seed: int
) -> None:
    """Probabilities sum to one, none is below the floor, the propensity is the drawn arm's."""
    chosen = selection(*(candidate(f"e{i}") for i in range(n_chosen)))
    segment = drawn(chosen=chosen).segment
    knowledge = Knowledge()
    for arm, weight, reward in learned:
        knowledge.absorb([Increment(ArmKey(arm, segment), ArmSums(weight, weight * reward, weight * reward**2))])

    made = drawn(available, chosen, knowledge, seed, bandit={**bandit, "floor": floor})

    assert sum(made.pmf) == pytest.approx(1.0)
    assert all(probability >= floor - 1e-12 for probability in made.pmf)
    assert made.propensity == made.pmf[made.arms.index(made.arm.name)]
    assert len(made.arms) == len(made.pmf) == len(made.means) == len(made.weights)
    assert made.arm.deployment in available
    assert made.arm.name == made.arms[draw(np.array(made.pmf), made.seed)]


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=6), st.integers(0, 2**63 - 1))
def test_the_same_seed_draws_the_same(shares: list[float], seed: int) -> None:
    """A decision can be replayed from its record."""
    pmf = np.array(shares) / sum(shares)

    first = draw(pmf, seed)

    assert draw(pmf, seed) == first
    assert 0 <= first < len(shares)


def test_arms_are_drawn_as_often_as_the_probabilities_say() -> None:
    """Over many seeds; an arm without probability is never drawn."""
    counts = np.bincount([draw(np.array([0.7, 0.0, 0.3]), seed) for seed in range(2000)], minlength=3)

    assert counts[1] == 0
    assert counts[0] / 2000 == pytest.approx(0.7, abs=0.04)


def test_without_a_deployment_there_is_no_decision() -> None:
    """The call is then LiteLLM's."""
    situation = situation_of(request(), vector(1.0), Selection(), Conditions(), policy())
    made = route(request(), Selection(), situation, {"elsewhere"}, policy(), Knowledge(), 1)

    assert made is None


def test_arms_whose_deployment_is_away_cannot_be_drawn() -> None:
    """The explanation says which."""
    made = drawn(available={"large"})

    assert made.arms == ("large+0",)
    assert made.propensity == 1.0
    assert "unavailable small" in made.adjustments


def test_arms_that_would_ask_the_same_count_once() -> None:
    """Without examples small+2 asks just as small+0 does; with one it does not."""
    without, with_one = drawn(chosen=Selection()), drawn(chosen=selection(candidate()))

    assert without.arms == ("small+0", "large+0")
    assert "small+2 would ask as small+0 does" in without.adjustments
    assert with_one.arms == ARMS
    assert with_one.adjustments == ("floor 0.01",)


def test_the_fewest_examples_stand_for_arms_that_ask_the_same() -> None:
    """With one example, up to 2 and up to 5 are the same prompt; the file's order of the arms is kept."""
    arms = [{"deployment": "small", "n_examples": n} for n in (5, 2, 0)]

    made = drawn(available={"small"}, arms=arms)

    assert made.arms == ("small+2", "small+0")


def test_evidence_counts_in_its_segment_only() -> None:
    """What was learned of other requests does not touch this one."""
    here = drawn().segment
    knowledge = Knowledge()
    knowledge.absorb([Increment(ArmKey("small+0", here), ArmSums(2.0, 2.0, 2.0))])
    knowledge.absorb([Increment(ArmKey("large+0", "elsewhere"), ArmSums(100.0, 0.0, 0.0))])

    made = drawn(knowledge=knowledge, bandit={"kind": "epsilon_greedy", "epsilon": 0, "prior": {"utility_weight": 0}})

    assert made.means == (0.75, 0.5, 0.5)
    assert made.weights == (4.0, 2.0, 2.0)
    assert made.pmf == pytest.approx((0.98, 0.01, 0.01))


def test_priors_are_the_arm_s_own_or_the_example_s_or_the_policy_s() -> None:
    """In that order; an example says nothing of arms that take none."""
    arms = [
        {"deployment": "small", "n_examples": 1, "prior_reward": 0.1},
        {"deployment": "small", "n_examples": 0},
        {"deployment": "large", "n_examples": 2},
    ]
    chosen = selection(candidate("a", utility=0.9), candidate("b", utility=0.2))

    with_examples, without = drawn(chosen=chosen, arms=arms), drawn(chosen=Selection(), arms=arms)

    assert with_examples.means == (0.1, 0.5, 0.9)
    assert dict(zip(without.arms, without.means, strict=True)) == {"small+0": 0.5, "large+2": 0.5}


def test_an_example_s_utility_has_a_weight_of_its_own() -> None:
    """It is worth utility_weight answers; zero leaves the policy's prior."""
    prior = {"reward": 0.5, "weight": 2.0, "utility_weight": 4.0}
    chosen = selection(candidate(utility=0.9))

    weighed = drawn(chosen=chosen, bandit={"kind": "uniform", "prior": prior})
    off = drawn(chosen=chosen, bandit={"kind": "uniform", "prior": prior | {"utility_weight": 0.0}})

    assert (weighed.means, weighed.weights) == ((0.5, 0.9, 0.5), (2.0, 4.0, 2.0))
    assert (off.means, off.weights) == ((0.5, 0.5, 0.5), (2.0, 2.0, 2.0))


def test_fixed_odds_go_to_the_arms_that_are_there() -> None:
    """In proportion; alike when none of them was given any."""
    odds = {"kind": "fixed", "floor": 1e-9, "probabilities": {"small+0": 0.25, "small+2": 0.25, "large+0": 0.5}}
    only_large = {"kind": "fixed", "probabilities": {"large+0": 1.0}}

    assert drawn(bandit=odds).pmf == pytest.approx((0.25, 0.25, 0.5))
    assert drawn({"small"}, bandit=odds).pmf == pytest.approx((0.5, 0.5))
    assert drawn({"small"}, bandit=only_large).pmf == pytest.approx((0.5, 0.5))


def test_a_newcomer_is_tried_soon_and_told_in_words() -> None:
    """A greedy bandit would give it its share of one in sixty."""
    rules = policy(bandit={"kind": "epsilon_greedy", "drift": None})
    situation = situation_of(request(), vector(1.0), selection(candidate()), Conditions(), rules)
    knowledge = Knowledge()
    knowledge.study(lesson(f"d{i}", "small+0", arms=("small+0", "small+2")) for i in range(400))
    knowledge.study(lesson(f"e{i}", "small+2", arms=("small+0", "small+2")) for i in range(50))
    knowledge.absorb([Increment(ArmKey("small+0", situation.segment), ArmSums(400.0, 320.0, 320.0))])
    made = route(request(), selection(candidate()), situation, BOTH, rules, knowledge, 1)
    assert made is not None

    assert made.pmf[made.arms.index("large+0")] >= 0.2
    assert sum(made.pmf) == pytest.approx(1.0)
    assert "newcomer large+0: 0.2 until it has answered 30 times" in made.adjustments


@pytest.mark.parametrize("bandit", [{"kind": "epsilon_greedy"}, {"kind": "linear_thompson"}])
def test_a_better_arm_that_comes_later_is_found(bandit: dict[str, Any]) -> None:
    """Two known arms are right in 7 and 8 of 10; the third joins after 400 requests and is right in 97 of 100: within
    140 requests it has most of the traffic."""
    rules, found = policy(bandit=bandit), []
    arms, good = rules.to_arms(), (0.7, 0.8, 0.97)
    for seed in range(3):
        rng, knowledge, mass = np.random.default_rng(seed), Knowledge(rules), []
        knowledge.end_fit(fit_outcomes(rules, ()))
        for t in range(560):
            open_ = arms if t >= 400 else arms[:2]
            asked = request(f"Question {t}?", decision_id=f"d{t:04d}", received_at=NOW + t)
            conditions = conditions_of(asked, "", rules, knowledge)
            situation = situation_of(asked, vector(*rng.standard_normal(4)), Selection(), conditions, rules)
            choice = choose(open_, situation, rules, knowledge, asked.received_at)
            index = draw(choice.pmf, int(rng.integers(2**62)))
            mass.append(choice.pmf[2] if t >= 400 else 0.0)
            evidence = (Evidence(ArmKey(arms[index].name, situation.segment), 1.0, float(rng.random() < good[index])),)
            knowledge.absorb(increments_between((), evidence))
            heard = lesson(
                asked.decision_id,
                arms[index].name,
                at=asked.received_at,
                arms=tuple(arm.name for arm in open_),
                pmf=tuple(choice.pmf),
                means=tuple(choice.seen.means),
                situation=situation,
                evidence=evidence,
            )
            knowledge.study([heard])
        found.append(float(np.mean(mass[520:540])))

    assert min(found) > 0.7
