import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.bandits.pooled import NEVER_SEEN, Pooled
from tests.bandits.linear_reference import disjoint_posterior, linear_evidence, merge, shared_posterior, zeros

D = 3
SHARED = np.array([0.2, 1.0, 3.0])
features = st.floats(-1, 1)
observations = st.lists(
    st.tuples(st.integers(1, 3), st.tuples(*[features] * D), st.floats(0.05, 2), st.floats(0, 1)), max_size=12
)
Observed = list[tuple[int, tuple[float, ...], float, float]]


def learned(observed: Observed, shared: np.ndarray | None = SHARED) -> Pooled:
    made = Pooled(D, shared)
    for _ in range(3):
        made.add_slot()
    for slot, x, weight, target in observed:
        made.learn(slot, np.array(x), weight, target)
    return made


def believed(made: Pooled, x: tuple[float, ...]) -> np.ndarray:
    found = made.expected([1, 2, 3], np.tile(x, (3, 1)))
    return np.stack([found.means, found.variances])


@given(observations, st.tuples(*[features] * D), st.booleans())
def test_steps_lead_where_the_sums_do(observed: Observed, x: tuple[float, ...], is_shared: bool) -> None:
    """One observation after the other gives the posterior that is solved from all at once."""
    sums = [zeros(D) for _ in range(3)]
    for slot, context, weight, target in observed:
        sums[slot - 1] = merge(sums[slot - 1], linear_evidence(np.array(context), weight, target))
    prior = np.zeros((3, D))
    whole = shared_posterior(sums, prior, 1.0, SHARED, 1.0) if is_shared else disjoint_posterior(sums, prior, 1.0, 1.0)

    means, variances = believed(learned(observed, SHARED if is_shared else None), x)

    assert means == pytest.approx(whole.thetas @ np.array(x), abs=1e-8)
    assert variances == pytest.approx((whole.covariances @ np.array(x)) @ np.array(x), abs=1e-8)


@given(observations, st.tuples(*[features] * D), st.randoms(use_true_random=False))
def test_order_does_not_matter(observed: Observed, x: tuple[float, ...], random: object) -> None:
    """Whoever answered first."""
    shuffled = list(observed)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert believed(learned(shuffled), x) == pytest.approx(believed(learned(observed), x), abs=1e-8)


@given(observations, observations, st.tuples(*[features] * D))
def test_what_is_taken_back_was_never_learned(kept: Observed, gone: Observed, x: tuple[float, ...]) -> None:
    """A negative weight takes an observation out exactly."""
    made = learned([*kept, *gone])
    for slot, context, weight, target in gone:
        made.learn(slot, np.array(context), -weight, target)

    assert believed(made, x) == pytest.approx(believed(learned(kept), x), abs=1e-7)


@given(observations, st.tuples(*[features] * D))
def test_sums_go_on_as_if_learned(observed: Observed, x: tuple[float, ...]) -> None:
    """`replace` and `learn` agree."""
    grams, moments, weights = [np.zeros((D, D)) for _ in range(3)], [np.zeros(D) for _ in range(3)], [0.0] * 3
    for slot, context, weight, target in observed:
        row = np.array(context)
        grams[slot - 1] += weight * np.outer(row, row)
        moments[slot - 1] += weight * target * row
        weights[slot - 1] += weight
    made = Pooled(D, SHARED)
    made.replace(grams, moments, weights)

    assert believed(made, x) == pytest.approx(believed(learned(observed), x), abs=1e-8)
    assert made.weights == pytest.approx(learned(observed).weights)


def test_a_new_arm_expects_what_the_others_have_in_common() -> None:
    """Only where there is a shared part; it is still uncertain about its own."""
    x = np.array([1.0, 0.0, 0.0])
    observed: Observed = [(slot, (1.0, 0.0, 0.0), 20.0, 0.4) for slot in (1, 2, 3)]

    shared = learned(observed).expected([NEVER_SEEN, 1], np.tile(x, (2, 1)))
    alone = learned(observed, None).expected([NEVER_SEEN, 1], np.tile(x, (2, 1)))

    assert shared.means[0] > 0.25
    assert shared.variances[0] > 1.0 > shared.variances[1]
    assert alone.means[0] == 0.0
