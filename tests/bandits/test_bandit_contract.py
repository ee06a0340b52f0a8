"""What every bandit promises, whichever algorithm it is."""

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.bandits.epsilon_greedy import EpsilonGreedy
from echo_proxy.bandits.evidence import Estimates, add, combine, fade, merge
from echo_proxy.bandits.fixed import Fixed
from echo_proxy.bandits.floor import with_floor
from echo_proxy.bandits.ucb1 import Ucb1
from echo_proxy.bandits.uniform import Uniform
from echo_proxy.protocols import Bandit
from echo_proxy.types import ArmSums, Vector

N_ARMS = 3
ALGORITHMS: tuple[Bandit, ...] = (
    EpsilonGreedy(0.0),
    EpsilonGreedy(0.1),
    EpsilonGreedy(1.0),
    Ucb1(0.0),
    Ucb1(1.0),
    Fixed((0.5, 0.5, 0.0)),
    Fixed.on(1, N_ARMS),
    Uniform(),
)
LEARNERS: tuple[Bandit, ...] = (EpsilonGreedy(0.1), Ucb1(1.0))

Event = tuple[int, float, float]
"""Arm, weight, reward."""
events = st.lists(
    st.tuples(st.integers(0, N_ARMS - 1), st.floats(1e-3, 1.0), st.floats(0.0, 1.0)),
    max_size=30,
)
every_bandit = pytest.mark.parametrize("bandit", ALGORITHMS, ids=repr)
every_learner = pytest.mark.parametrize("bandit", LEARNERS, ids=repr)


def learned(history: Sequence[Event]) -> list[ArmSums]:
    """Sums per arm after all events."""
    sums = [ArmSums()] * N_ARMS
    for arm, weight, reward in history:
        sums[arm] = add(sums[arm], weight, reward)
    return sums


def estimates(history: Sequence[Event], prior_weight: float = 0.0) -> Estimates:
    """What a bandit sees after all events."""
    return combine(learned(history), prior_mean=0.5, prior_weight=prior_weight)


def choose(bandit: Bandit, seen: Estimates) -> Vector:
    """The bandit's probabilities."""
    return bandit.pmf(seen.weights, seen.means)


@every_bandit
@given(history=events, prior_weight=st.sampled_from([0.0, 1.0]))
def test_pmf_is_a_distribution(bandit: Bandit, history: list[Event], prior_weight: float) -> None:
    """Whatever it has seen, the bandit returns probabilities that sum to one."""
    pmf = choose(bandit, estimates(history, prior_weight))

    assert pmf.shape == (N_ARMS,)
    assert pmf.dtype == np.float64
    assert (pmf >= 0.0).all()
    assert pmf.sum() == pytest.approx(1.0, abs=1e-12)


@every_bandit
@given(history=events)
def test_same_inputs_give_the_same_pmf(bandit: Bandit, history: list[Event]) -> None:
    """A bandit keeps nothing to itself: the same evidence gives the same probabilities, bit for bit."""
    seen = estimates(history)
    first, second = choose(bandit, seen), choose(bandit, seen)

    assert first.tolist() == second.tolist()


@every_bandit
@given(history=events)
def test_inputs_stay_as_they_were(bandit: Bandit, history: list[Event]) -> None:
    """A bandit reads its inputs and never writes to them, nor hands them out again."""
    seen = estimates(history)
    weights, means = seen.weights.copy(), seen.means.copy()
    choose(bandit, seen)[:] = -1.0

    assert seen.weights.tolist() == weights.tolist()
    assert seen.means.tolist() == means.tolist()


@every_bandit
@given(history=events, floor=st.floats(0.0, 1.0 / N_ARMS))
def test_floor_is_respected(bandit: Bandit, history: list[Event], floor: float) -> None:
    """With a floor, even the worst arm is drawn now and then, and the rest stays a distribution."""
    pmf = with_floor(choose(bandit, estimates(history)), floor)

    assert (pmf >= floor).all()
    assert pmf.sum() == pytest.approx(1.0, abs=1e-12)


@every_bandit
@pytest.mark.parametrize(
    ("weights", "means"),
    [
        ([1.0, 1.0, float("nan")], [0.5, 0.5, 0.5]),
        ([1.0, 1.0, -1.0], [0.5, 0.5, 0.5]),
        ([1.0, 1.0, 1.0], [0.5, float("nan"), 0.5]),
        ([1.0, 1.0, 1.0], [0.5, 0.5]),
        ([], []),
    ],
    ids=["nan weight", "negative weight", "nan mean", "shapes disagree", "no arm"],
)
def test_unusable_estimates_are_refused(bandit: Bandit, weights: list[float], means: list[float]) -> None:
    """A wrong estimate stops at the bandit instead of becoming a wrong choice."""
    with pytest.raises(ValueError, match="must"):
        bandit.pmf(np.array(weights), np.array(means))


@given(history=events, order=st.randoms(use_true_random=False))
def test_order_of_updates_does_not_matter(history: list[Event], order: Random) -> None:
    """Evidence is a sum: learned in any order, it leads to the same estimates."""
    shuffled = list(history)
    order.shuffle(shuffled)
    seen, again = estimates(history), estimates(shuffled)

    assert again.means == pytest.approx(seen.means)
    assert again.weights == pytest.approx(seen.weights)


@given(history=events, cut=st.integers(0, 30))
def test_workers_that_merge_equal_one_worker(history: list[Event], cut: int) -> None:
    """Two workers that each saw a part of the traffic know together what one would know that saw all."""
    merged = [merge(a, b) for a, b in zip(learned(history[:cut]), learned(history[cut:]), strict=True)]

    for together, alone in zip(merged, learned(history), strict=True):
        assert together.weight == pytest.approx(alone.weight)
        assert together.reward_sum == pytest.approx(alone.reward_sum)
        assert together.reward_sq_sum == pytest.approx(alone.reward_sq_sum)


@given(rewards=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=30))
def test_estimates_equal_the_plain_mean(rewards: list[float]) -> None:
    """Without a prior, an arm's estimate is the plain mean of its rewards, the first one included."""
    seen = estimates([(1, 1.0, reward) for reward in rewards])

    assert seen.means[1] == pytest.approx(np.mean(rewards))
    assert seen.weights[1] == pytest.approx(len(rewards))


@given(history=events)
def test_a_new_arm_leaves_the_others_alone(history: list[Event]) -> None:
    """Adding an arm while running changes nothing in what is known of the others."""
    sums = learned(history)
    before = combine(sums, 0.5, 1.0)
    after = combine([*sums, ArmSums()], 0.5, 1.0)

    assert after.weights[:-1].tolist() == before.weights.tolist()
    assert after.means[:-1].tolist() == before.means.tolist()
    assert (after.weights[-1], after.means[-1]) == (1.0, 0.5)


@every_learner
def test_the_better_arm_wins_most_late_draws(bandit: Bandit) -> None:
    """On two arms 0.3 apart, the better one is drawn in most of the last thousand of five thousand rounds."""
    rng = np.random.default_rng(7)
    chances = (0.4, 0.7)
    sums = [ArmSums(), ArmSums()]
    drawn: list[int] = []
    for _ in range(5_000):
        arm = int(rng.choice(2, p=choose(bandit, combine(sums, 0.5, 1.0))))
        sums[arm] = add(sums[arm], 1.0, float(rng.random() < chances[arm]))
        drawn.append(arm)

    assert np.mean(drawn[-1_000:]) > 0.85


@every_learner
def test_a_learner_notices_a_change_when_evidence_fades(bandit: Bandit) -> None:
    """When the arms swap their quality, fading lets the learner follow."""
    rng = np.random.default_rng(11)
    sums = [ArmSums(), ArmSums()]
    drawn: list[int] = []
    for step in range(4_000):
        chances = (0.8, 0.3) if step < 2_000 else (0.3, 0.8)
        arm = int(rng.choice(2, p=with_floor(choose(bandit, combine(sums, 0.5, 1.0)), 0.05)))
        sums = [fade(arm_sums, 0.99) for arm_sums in sums]
        sums[arm] = add(sums[arm], 1.0, float(rng.random() < chances[arm]))
        drawn.append(arm)

    assert np.mean(drawn[-1_000:]) > 0.7
