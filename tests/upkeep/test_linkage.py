"""Groups by average linkage."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering

from echo_proxy.upkeep.linkage import average_linkage


def units(n: int, dimensions: int, seed: int) -> np.ndarray:
    """So many unit vectors around a few middles."""
    random = np.random.default_rng(seed)
    made = random.standard_normal((5, dimensions))[random.integers(5, size=n)] + random.normal(0, 0.6, (n, dimensions))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def members(labels: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(np.flatnonzero(labels == one)) for one in set(labels.tolist())}


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 60), st.integers(2, 16), st.integers(0, 10**6), st.floats(0.01, 1.2))
def test_groups_are_those_of_a_known_implementation(n: int, dimensions: int, seed: int, distance: float) -> None:
    """Whatever the vectors and the distance."""
    vectors = units(n, dimensions, seed)
    model = AgglomerativeClustering(None, metric="cosine", linkage="average", distance_threshold=distance)

    assert members(average_linkage(vectors, distance)) == members(model.fit_predict(vectors))


def test_equal_vectors_are_one_group_and_one_vector_is_a_group() -> None:
    """Also where rounding makes their distance less than nothing."""
    same = np.repeat(units(1, 8, 1), 50, axis=0)

    assert average_linkage(same, 0.1).tolist() == [0] * 50
    assert average_linkage(same[:1], 0.1).tolist() == [0]
