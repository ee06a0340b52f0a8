"""Rules of saving and loading linear evidence."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_proxy.bandits.linear import LinearSums, linear_evidence, merge, zeros
from echo_proxy.bandits.linear_json import from_json, to_json
from echo_proxy.errors import SchemaMismatch
from echo_proxy.types import Json

events = st.lists(
    st.tuples(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0), st.floats(0.0, 2.0), st.floats(0.0, 1.0)), max_size=10
)


@given(history=events)
def test_what_is_saved_is_loaded_bit_for_bit(history: list[tuple[float, float, float, float]]) -> None:
    """Sums survive being written as JSON text and read back."""
    sums = zeros(2)
    for first, second, weight, reward in history:
        sums = merge(sums, linear_evidence(np.array([first, second]), weight, reward))
    loaded = from_json(json.loads(json.dumps(to_json(sums, "v1"))), "v1")

    assert (loaded.weight, loaded.reward_sq) == (sums.weight, sums.reward_sq)
    assert loaded.gram.tolist() == sums.gram.tolist()
    assert loaded.moment.tolist() == sums.moment.tolist()


def test_state_of_other_features_is_refused() -> None:
    """Sums that were learned with other features are named as such, not misread."""
    with pytest.raises(SchemaMismatch, match="state must be of features 'v2', got 'v1'"):
        from_json(to_json(zeros(2), "v1"), "v2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": None}, "weight must be finite"),
        ({"weight": [1.0]}, "weight must be one number"),
        ({"moment": [1.0]}, r"gram must have shape \(1, 1\), got \(2, 2\)"),
        ({"moment": [[1.0, 0.0]]}, "gram must have shape|moment must have shape"),
        ({"gram": [[1.0, 0.0], [1.0]]}, "gram must be numbers"),
        ({"gram": "much"}, "gram must be numbers"),
        ({"reward_sq": float("nan")}, "reward_sq must be finite"),
        ({"extra": 1.0}, "fields must be"),
    ],
)
def test_a_damaged_state_is_refused(change: dict[str, Json], message: str) -> None:
    """What is not what was written is refused, and the message names the field."""
    with pytest.raises(ValueError, match=message):
        from_json({**to_json(zeros(2), "v1"), **change}, "v1")


def test_a_missing_field_is_refused() -> None:
    """No field has a default when loading."""
    state = to_json(LinearSums(1.0, np.eye(1), np.ones(1), 1.0), "v1")
    del state["moment"]

    with pytest.raises(ValueError, match="fields must be"):
        from_json(state, "v1")
