"""What every bandit promises, whichever algorithm it is."""

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echo_proxy.bandits.beta_thompson import BetaThompson
from echo_proxy.bandits.discounted_ucb import DiscountedUcb
from echo_proxy.bandits.epsilon_greedy import EpsilonGreedy
from echo_proxy.bandits.evidence import add, combine, merge
from echo_proxy.bandits.fading import learned as learned_fading
from echo_proxy.bandits.fixed import Fixed
from echo_proxy.bandits.floor import with_floor
from echo_proxy.bandits.gaussian_thompson import GaussianThompson
from echo_proxy.bandits.linucb import LinUcb
from echo_proxy.bandits.softmax import Softmax
from echo_proxy.bandits.ucb1 import Ucb1
from echo_proxy.bandits.uniform import Uniform
from echo_proxy.protocols import Bandit
from echo_proxy.types import ArmSums, Estimates, Vector
from tests.bandits.linear_reference import LinearPosterior, disjoint_posterior, linear_evidence, shared_posterior, zeros
from tests.bandits.linear_reference import merge as merge_linear

N_ARMS = 3
LEARNERS: tuple[Bandit, ...] = (
    EpsilonGreedy(0.1),
    EpsilonGreedy(0.5, decay=50.0),
    Ucb1(1.0),
    DiscountedUcb(),
    LinUcb(1.0),
    GaussianThompson(),
    BetaThompson(),
    Softmax(0.05),
)
SYMMETRIC: tuple[Bandit, ...] = (
    *LEARNERS,
    EpsilonGreedy(0.0),
    EpsilonGreedy(1.0),
    Ucb1(0.0),
    DiscountedUcb(0.0),
    LinUcb(0.0),
    GaussianThompson(0.0),
    Softmax(1e-300),
    Uniform(),
)
"""Bandits that know arms by their evidence alone."""
ALGORITHMS: tuple[Bandit, ...] = (*SYMMETRIC, Fixed((0.5, 0.5, 0.0)), Fixed.on(1, N_ARMS))

Event = tuple[int, float, float]
"""Arm, weight, reward."""
events = st.lists(
    st.tuples(st.integers(0, N_ARMS - 1), st.floats(1e-3, 1.0), st.floats(0.0, 1.0)),
    max_size=30,
)
beliefs = st.lists(
    st.tuples(st.just(0.0) | st.floats(1e-12, 1e7), st.floats(-1.0, 2.0), st.just(0.0) | st.floats(1e-12, 10.0)),
    min_size=N_ARMS,
    max_size=N_ARMS,
).map(lambda rows: Estimates(*(np.array(column) for column in zip(*rows, strict=True))))
"""Weights, means and deviations in any combination, also such as only corrections and foreign priors lead to."""
every_bandit = pytest.mark.parametrize("bandit", ALGORITHMS, ids=repr)
every_symmetric_bandit = pytest.mark.parametrize("bandit", SYMMETRIC, ids=repr)
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


def posterior(history: Sequence[Event], is_shared: bool) -> LinearPosterior:
    """What linear arms learn from all events, each in a context that its weight and reward make up."""
    sums = [zeros(2)] * N_ARMS
    for arm, weight, reward in history:
        sums[arm] = merge_linear(sums[arm], linear_evidence(np.array([1.0, weight - reward]), weight, reward))
    priors = np.zeros((N_ARMS, 2))
    return shared_posterior(sums, priors, 1.0, 1.0, 0.2) if is_shared else disjoint_posterior(sums, priors, 1.0, 0.2)


def check_distribution(pmf: Vector) -> None:
    """The numbers are probabilities, one per arm."""
    assert pmf.shape == (N_ARMS,)
    assert pmf.dtype == np.float64
    assert (pmf >= 0.0).all()
    assert pmf.sum() == pytest.approx(1.0, abs=1e-12)


# ------------------------------------------------------------------ probabilities


@every_bandit
@given(history=events, prior_weight=st.sampled_from([0.0, 1.0]))
def test_pmf_is_a_distribution(bandit: Bandit, history: list[Event], prior_weight: float) -> None:
    """Whatever it has seen, the bandit returns probabilities that sum to one."""
    pmf = bandit.pmf(estimates(history, prior_weight))

    check_distribution(pmf)


@every_bandit
@given(seen=beliefs)
def test_pmf_is_a_distribution_whatever_is_believed(bandit: Bandit, seen: Estimates) -> None:
    """No combination of weights, means and deviations leads out of the probabilities."""
    pmf = bandit.pmf(seen)

    check_distribution(pmf)


@every_bandit
@settings(max_examples=20)
@given(history=events, is_shared=st.booleans(), slope=st.floats(-1.0, 1.0))
def test_pmf_is_a_distribution_in_a_context(
    bandit: Bandit, history: list[Event], is_shared: bool, slope: float
) -> None:
    """Every bandit works on the estimates of a linear posterior too."""
    pmf = bandit.pmf(posterior(history, is_shared).estimates(np.array([1.0, slope])))

    check_distribution(pmf)


@every_bandit
@settings(max_examples=25)
@given(seen=beliefs)
def test_same_inputs_give_the_same_pmf(bandit: Bandit, seen: Estimates) -> None:
    """A bandit keeps nothing to itself: the same evidence gives the same probabilities, bit for bit."""
    first, second = bandit.pmf(seen), bandit.pmf(seen)

    assert first.tolist() == second.tolist()


@every_bandit
@settings(max_examples=25)
@given(seen=beliefs)
def test_inputs_stay_as_they_were(bandit: Bandit, seen: Estimates) -> None:
    """A bandit reads its inputs and never writes to them, nor hands them out again."""
    before = [seen.weights.tolist(), seen.means.tolist(), seen.deviations.tolist()]
    bandit.pmf(seen)[:] = -1.0

    assert [seen.weights.tolist(), seen.means.tolist(), seen.deviations.tolist()] == before


@every_bandit
@given(seen=beliefs, floor=st.floats(0.0, 1.0 / N_ARMS))
def test_floor_is_respected(bandit: Bandit, seen: Estimates, floor: float) -> None:
    """With a floor, even the worst arm is drawn now and then, and the rest stays a distribution."""
    pmf = with_floor(bandit.pmf(seen), floor)

    assert (pmf >= floor).all()
    assert pmf.sum() == pytest.approx(1.0, abs=1e-12)


@every_symmetric_bandit
@given(history=events, order=st.permutations(range(N_ARMS)))
def test_permuting_arms_permutes_the_pmf(bandit: Bandit, history: list[Event], order: list[int]) -> None:
    """No arm profits from where it stands in the configuration."""
    seen = estimates(history, prior_weight=1.0)
    permuted = Estimates(seen.weights[order], seen.means[order], seen.deviations[order])

    assert bandit.pmf(permuted) == pytest.approx(bandit.pmf(seen)[order], abs=1e-9)


@every_symmetric_bandit
@settings(max_examples=25)
@given(weight=st.floats(0.0, 1e4), mean=st.floats(0.0, 1.0), deviation=st.floats(0.0, 1.0))
def test_equal_arms_share(bandit: Bandit, weight: float, mean: float, deviation: float) -> None:
    """Arms of which the same is believed are equally likely."""
    seen = Estimates(np.full(N_ARMS, weight), np.full(N_ARMS, mean), np.full(N_ARMS, deviation))

    assert bandit.pmf(seen) == pytest.approx([1.0 / N_ARMS] * N_ARMS)


@pytest.mark.parametrize("bandit", [*SYMMETRIC, Fixed.on(0, 1)], ids=repr)
@settings(max_examples=25)
@given(weight=st.floats(0.0, 1e4), mean=st.floats(0.0, 1.0), deviation=st.floats(0.0, 1.0))
def test_a_single_arm_gets_everything(bandit: Bandit, weight: float, mean: float, deviation: float) -> None:
    """Where there is nothing to choose, every bandit chooses it."""
    pmf = bandit.pmf(Estimates(np.array([weight]), np.array([mean]), np.array([deviation])))

    assert pmf == pytest.approx([1.0], abs=1e-12)


@every_bandit
@pytest.mark.parametrize(
    ("weights", "means", "deviations"),
    [
        ([1.0, 1.0, float("nan")], [0.5, 0.5, 0.5], [0.1, 0.1, 0.1]),
        ([1.0, 1.0, -1.0], [0.5, 0.5, 0.5], [0.1, 0.1, 0.1]),
        ([1.0, 1.0, 1.0], [0.5, float("nan"), 0.5], [0.1, 0.1, 0.1]),
        ([1.0, 1.0, 1.0], [0.5, float("inf"), 0.5], [0.1, 0.1, 0.1]),
        ([1.0, 1.0, 1.0], [0.5, 0.5, 0.5], [0.1, -0.1, 0.1]),
        ([1.0, 1.0, 1.0], [0.5, 0.5, 0.5], [0.1, float("inf"), 0.1]),
        ([1.0, 1.0, 1.0], [0.5, 0.5], [0.1, 0.1]),
        ([1.0, 1.0, 1.0], [0.5, 0.5, 0.5], [0.1]),
        ([], [], []),
    ],
    ids=[
        "nan weight",
        "negative weight",
        "nan mean",
        "infinite mean",
        "negative deviation",
        "infinite deviation",
        "weights' shape",
        "deviations' shape",
        "no arm",
    ],
)
def test_unusable_estimates_are_refused(
    bandit: Bandit, weights: list[float], means: list[float], deviations: list[float]
) -> None:
    """A wrong estimate stops at the bandit instead of becoming a wrong choice."""
    with pytest.raises(ValueError, match="must"):
        bandit.pmf(Estimates(np.array(weights), np.array(means), np.array(deviations)))


@every_bandit
@settings(max_examples=25)
@given(seen=beliefs, seed=st.integers(0, 2**32))
def test_same_seed_same_choices(bandit: Bandit, seen: Estimates, seed: int) -> None:
    """Choices can be replayed from the seed."""
    first = np.random.default_rng(seed).choice(N_ARMS, size=20, p=bandit.pmf(seen))
    second = np.random.default_rng(seed).choice(N_ARMS, size=20, p=bandit.pmf(seen))

    assert first.tolist() == second.tolist()


# ------------------------------------------------------------------ evidence


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
    assert after.deviations[:-1].tolist() == before.deviations.tolist()
    assert (after.weights[-1], after.means[-1]) == (1.0, 0.5)


# ------------------------------------------------------------------ learning


@every_learner
def test_the_better_arm_wins_most_late_draws(bandit: Bandit) -> None:
    """On two arms 0.3 apart, the better one is drawn in most of the last thousand of five thousand rounds."""
    rng = np.random.default_rng(7)
    chances = (0.4, 0.7)
    sums = [ArmSums(), ArmSums()]
    drawn: list[int] = []
    for _ in range(5_000):
        arm = int(rng.choice(2, p=bandit.pmf(combine(sums, 0.5, 1.0))))
        sums[arm] = add(sums[arm], 1.0, float(rng.random() < chances[arm]))
        drawn.append(arm)

    assert np.mean(drawn[-1_000:]) > 0.85


@every_learner
def test_a_learner_notices_a_change_when_evidence_fades(bandit: Bandit) -> None:
    """When the arms swap their quality, fading lets the learner follow."""
    rng = np.random.default_rng(11)
    sums: tuple[ArmSums, ...] = (ArmSums(), ArmSums())
    drawn: list[int] = []
    for step in range(4_000):
        chances = (0.8, 0.3) if step < 2_000 else (0.3, 0.8)
        arm = int(rng.choice(2, p=with_floor(bandit.pmf(combine(sums, 0.5, 1.0)), 0.05)))
        sums = learned_fading(sums, arm, 1.0, float(rng.random() < chances[arm]), discount=0.99)
        drawn.append(arm)

    assert np.mean(drawn[-1_000:]) > 0.7


@every_learner
@pytest.mark.parametrize("is_shared", [False, True], ids=["disjoint", "shared"])
def test_each_arm_wins_where_it_is_better(bandit: Bandit, is_shared: bool) -> None:
    """One arm is good where the feature is positive, the other where it is negative; late draws know it."""
    rng = np.random.default_rng(13)
    sums, priors = [zeros(2), zeros(2)], np.zeros((2, 2))
    is_right: list[bool] = []
    for step in range(2_000):
        if step % 10 == 0:  # as in service, where posteriors are made now and then
            known = shared_posterior(sums, priors, 1, 1, 0.2) if is_shared else disjoint_posterior(sums, priors, 1, 0.2)
        x = np.array([1.0, rng.choice([-1.0, 1.0])])
        arm = int(rng.choice(2, p=bandit.pmf(known.estimates(x))))
        is_better = bool((arm == 0) == (x[1] > 0.0))
        sums[arm] = merge_linear(sums[arm], linear_evidence(x, 1.0, float(rng.random() < (0.8 if is_better else 0.4))))
        is_right.append(is_better)

    assert np.mean(is_right[-500:]) > 0.85


@every_learner
def test_a_new_good_arm_never_starves(bandit: Bandit) -> None:
    """An arm that joins late, expected to be poor, is found out to be the best because the floor tries it."""
    rng = np.random.default_rng(17)
    chances = (0.5, 0.9)
    sums, priors = [zeros(1), zeros(1)], np.array([[0.5], [0.1]])
    for _ in range(1_000):
        sums[0] = merge_linear(sums[0], linear_evidence(np.ones(1), 1.0, float(rng.random() < chances[0])))
    drawn: list[int] = []
    for _ in range(1_000):
        known = disjoint_posterior(sums, priors, 1.0, 0.2)
        pmf = with_floor(bandit.pmf(known.estimates(np.ones(1))), 0.05)
        arm = int(rng.choice(2, p=pmf))
        sums[arm] = merge_linear(sums[arm], linear_evidence(np.ones(1), 1.0, float(rng.random() < chances[arm])))
        drawn.append(arm)

    assert np.mean(drawn[-500:]) > 0.8
